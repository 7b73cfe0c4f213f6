"""The spectral residual: what is salient in the shape of the last values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from headrace.operators.detectors.detector import TINY, Detector, Floats, Judged, Known, Rows
from headrace.operators.detectors.rings import Ring, sums
from headrace.operators.detectors.tails import HeavyTail
from headrace.operators.key_runs import Ints

_TAIL: Final = HeavyTail("salience")
_AHEAD: Final = 5
_SMOOTH: Final = 3


class SpectralResidual(Detector):
    """Spectral residual: the saliency of the newest value among the last `window`.

    H. Ren et al., Time-series anomaly detection service at Microsoft (KDD 2019): the amplitude
    spectrum's logarithm less its moving average, transformed back, shows what the rest of the
    window does not explain; the window is continued by 5 estimated values, since saliency is
    clearest away from its end. What it shows of the newest value, relative to the window's
    mean, is calibrated by the heavy tail of its own past (`tails.HeavyTail`).

    Attributes:
        window: Values whose shape is looked at.

    State: `window` + 14 numbers per key. Cost: O(`window` log `window`) per row.
    """

    kind: ClassVar[str] = "spectral_residual"
    reasons: ClassVar[tuple[str, ...]] = ("shape of the last values",)
    warmup: Rows = 100
    window: Annotated[int, Field(ge=16, le=4096)] = 64

    def layout(self) -> Mapping[str, int]:
        """Return the ring of values, and the tail."""
        return {**self._ring.layout(), **_TAIL.layout()}

    @property
    def _ring(self) -> Ring:
        return Ring("value", self.window)

    def step(self, known: Known, values: Floats, times: Ints) -> Judged:  # noqa: ARG002 - by rows
        """Keep the value, and look at the window that ends with it."""
        ring = self._ring
        keys = values.size
        before = ring.before(known, 1)
        ring.learn(known, values)
        full = ring.count(known) >= self.window
        measure = np.zeros(keys)
        if full.any():
            part = {name: known[name][..., full] for name in ring.layout()}
            measure[full] = salience(ring.oldest_first(part))
        surprise = np.zeros(keys)
        if full.any():
            part = {name: known[name][..., full] for name in _TAIL.layout()}
            (surprise[full],) = _TAIL.step(part, measure[None, full])
            for name, kept in part.items():
                known[name][..., full] = kept
        judged = ring.count(known) > max(self.warmup, self.window)
        surprise = np.where(judged, surprise, 0.0)
        return Judged(surprise, np.zeros(keys, np.bool_), before, np.zeros(keys))


def salience(window: Floats) -> Floats:
    """Return the saliency of the last value of each column, relative to the column's mean."""
    rows = window.shape[0]
    last = window[-1]
    ahead = last + (last - window[-1 - _AHEAD]) / _AHEAD
    whole = np.concatenate([window, np.repeat(ahead[None], _AHEAD, axis=0)])
    size = np.abs(whole).max(axis=0) + TINY
    # One transform per key, each by itself: the same bits whatever other keys there are.
    spectrum = np.fft.rfft((whole / size).T, axis=1)
    amplitude = np.abs(spectrum) + 1e-12
    logs = np.log(amplitude)
    padded = np.pad(logs, ((0, 0), (_SMOOTH - 1, 0)), mode="edge")
    smooth = sum(padded[:, i : i + logs.shape[1]] for i in range(_SMOOTH)) / _SMOOTH
    residual = spectrum / amplitude * np.exp(logs - smooth)
    shown = np.abs(np.fft.irfft(residual, n=rows + _AHEAD, axis=1)).T
    mean = sums(shown[: rows - 1]) / (rows - 1)
    answer: Floats = shown[rows - 1] / (mean + TINY)
    return answer
