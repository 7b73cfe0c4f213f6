"""Charts whose points carry the samples before them: EWMA and CUSUM.

Formulas: D. C. Montgomery, Introduction to Statistical Quality Control, chapter 9.
"""

from __future__ import annotations

from math import isfinite, nan
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import BeforeValidator, Field

from headrace.core.errors import PlanError
from headrace.operators.charts.chart import MEAN, SD, SIZE, only_limits
from headrace.operators.charts.samples import Drawn, Sheet
from headrace.operators.charts.variables import Measured

_EWMA: Final = "ewma"
_UP: Final = "cusum_up"
_DOWN: Final = "cusum_down"
_LIMITS: Final = ("we1", "nelson1")


class EWMA(Measured):
    """Exponentially weighted moving averages of single values, or of averages of samples.

    Attributes:
        lam: Weight of the newest sample.
    """

    kind: ClassVar[str] = "ewma"
    remembers: ClassVar[tuple[str, ...]] = (_EWMA,)
    rules: Annotated[tuple[str, ...], BeforeValidator(only_limits)] = _LIMITS
    lam: float = Field(0.2, gt=0, le=1)

    @property
    def look_back(self) -> int:
        """One sample: the average so far."""
        return 1

    def draw(self, sheet: Sheet) -> Drawn:
        """Return averages with limits that widen to center ± width sd √(lam / ((2 - lam) n))."""
        center, sd, n = sheet.known[MEAN], sheet.known[SD], sheet.samples[SIZE]
        average = self._averages(sheet)
        growth = 1 - (1 - self.lam) ** (2 * sheet.samples["number"])
        error = sd * np.sqrt(self.lam / (2 - self.lam) * growth / np.where(n > 0, n, np.nan))
        shown, reach = np.where(n > 0, average, nan), self.width * error
        return Drawn(shown, center, sd, error, center - reach, center + reach, {_EWMA: average})

    def _averages(self, sheet: Sheet) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        # A loop over samples, not rows: each needs the one before it, and summing the same terms
        # in closed form would round differently for different cuts.
        found: list[float] = []
        current, at = nan, -1
        for key, known, mean, start in zip(
            sheet.keys.of.tolist(),
            sheet.samples[_EWMA].tolist(),
            sheet.samples[MEAN].tolist(),
            sheet.known[MEAN].tolist(),
            strict=True,
        ):
            current = current if key == at else start
            at = key
            if isfinite(known):
                current = known
            elif isfinite(mean):
                current = self.lam * mean + (1 - self.lam) * current
            found.append(current)
        return np.array(found, dtype=np.float64)


class CUSUM(Measured):
    """Cumulative sums of distances from the centre, in standard errors, each way.

    `statistic` is the larger of the two sums, the lower one negative; `lcl` and `ucl` are
    -`decision` and `decision`; `center` and `sd` are the process's. `cusum_up` and `cusum_down`
    follow `violations`.

    Attributes:
        decision: Limit of the sums.
        shift: The shift of the mean, in standard errors, that is to be found soon.
    """

    kind: ClassVar[str] = "cusum"
    remembers: ClassVar[tuple[str, ...]] = (_UP, _DOWN)
    shows: ClassVar[tuple[str, ...]] = (_UP, _DOWN)
    rules: Annotated[tuple[str, ...], BeforeValidator(only_limits)] = _LIMITS
    decision: float = Field(5.0, gt=0, allow_inf_nan=False)
    shift: float = Field(1.0, gt=0, allow_inf_nan=False)

    @property
    def look_back(self) -> int:
        """One sample: the sums so far."""
        return 1

    def check_sampling(self) -> None:
        """Refuse a confidence: limits are decisions."""
        if self.confidence is not None:
            raise PlanError("cusum has no confidence limits", hint="decision=5, shift=1")
        super().check_sampling()

    def draw(self, sheet: Sheet) -> Drawn:
        """Return the sums."""
        center, sd, n = sheet.known[MEAN], sheet.known[SD], sheet.samples[SIZE]
        error = sd / np.sqrt(np.where(n > 0, n, np.nan))
        z = np.where(error > 0, (sheet.samples[MEAN] - center) / error, np.nan)
        up, down = self._sums(sheet, z.tolist())
        statistic = np.where(np.isfinite(z), np.where(up >= -down, up, down), np.nan)
        limit = np.where(np.isfinite(sd), self.decision, np.nan)
        more = {_UP: up, _DOWN: down}
        return Drawn(statistic, center, sd, np.full_like(sd, np.nan), -limit, limit, more)

    def _sums(
        self, sheet: Sheet, distances: list[float]
    ) -> tuple[
        np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]
    ]:
        # A loop over samples: whether a sum starts again at 0 depends on all before it.
        slack = self.shift / 2
        ups: list[float] = []
        downs: list[float] = []
        up = down = 0.0
        at = -1
        for key, known_up, known_down, z in zip(
            sheet.keys.of.tolist(),
            sheet.samples[_UP].tolist(),
            sheet.samples[_DOWN].tolist(),
            distances,
            strict=True,
        ):
            if key != at:
                up, down, at = 0.0, 0.0, key
            if isfinite(known_up):
                up, down = known_up, known_down
            elif isfinite(z):
                up, down = max(0.0, up + z - slack), min(0.0, down + z + slack)
            ups.append(up)
            downs.append(down)
        return np.array(ups, dtype=np.float64), np.array(downs, dtype=np.float64)
