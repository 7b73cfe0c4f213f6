"""How long to wait before the next attempt: exponential, with jitter that a test can repeat."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import xxhash

from headrace.core.time import micros

_SPREAD: Final = 1 << 64


def pause_us(
    attempt: int,
    seed: str,
    *,
    first: timedelta,
    longest: timedelta,
    retry_after_s: float | None = None,
) -> int:
    """Return the microseconds to wait after failed attempt number `attempt` (1, 2, ...).

    Full doubling with the upper half as jitter: between half and all of `first` * 2^(attempt-1),
    at most `longest`. The jitter is a hash of `seed` and the attempt, so many that failed together
    do not come back together, and a run can be repeated. What the other side asked for
    (`retry_after_s`) is a lower bound, itself bounded by `longest`.

    Source: "equal jitter" of Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015.

    Example:
        >>> one, hour = timedelta(seconds=1), timedelta(hours=1)
        >>> 500_000 <= pause_us(1, "a", first=one, longest=hour) <= 1_000_000
        True
        >>> pause_us(1, "a", first=one, longest=hour, retry_after_s=20)
        20000000
    """
    limit = micros(longest)
    whole = min(micros(first) << min(attempt - 1, 40), limit)
    share = xxhash.xxh3_64_intdigest(f"{seed}/{attempt}".encode()) / _SPREAD
    pause = whole // 2 + round(whole / 2 * share)
    asked = round((retry_after_s or 0.0) * 1_000_000)
    return max(pause, min(asked, limit))
