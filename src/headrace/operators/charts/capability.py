"""How well a process keeps its specification limits.

Formulas: D. C. Montgomery, Introduction to Statistical Quality Control, chapter 8. A value that
needs a limit that is not given is NaN; Cpk and Ppk then look at the other side alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from headrace.operators.charts.chart import MEAN, OVERALL, SD, Capability
from headrace.operators.charts.constants import Floats
from headrace.operators.charts.samples import Measures

CAPABILITY: Final = ("cp", "cpl", "cpu", "cpk", "cpm", "pp", "ppk")
_SIGMAS: Final = 3


def capability(limits: Capability, known: Measures) -> dict[str, Floats]:
    """Return the `CAPABILITY` columns for each of the processes `known`.

    Cp, Cpk and Cpm measure by the chart's standard deviation; Pp and Ppk by that of all values
    of phase I.
    """
    mean, sd = known[MEAN], known[SD]
    cp, cpl, cpu = _ratios(limits, mean, sd)
    pp, ppl, ppu = _ratios(limits, mean, known[OVERALL])
    target = limits.target
    if target is None:
        both = limits.lsl is not None and limits.usl is not None
        target = ((limits.lsl or 0.0) + (limits.usl or 0.0)) / 2 if both else np.nan
    cpm = cp / np.sqrt(1 + ((mean - target) / sd) ** 2)
    values = (cp, cpl, cpu, np.fmin(cpl, cpu), cpm, pp, np.fmin(ppl, ppu))
    return dict(zip(CAPABILITY, values, strict=True))


def _ratios(limits: Capability, mean: Floats, sd: Floats) -> tuple[Floats, Floats, Floats]:
    reach = np.where(sd > 0, _SIGMAS * sd, np.nan)
    low = np.nan if limits.lsl is None else limits.lsl
    high = np.nan if limits.usl is None else limits.usl
    return (high - low) / (2 * reach), (mean - low) / reach, (high - mean) / reach
