"""The charts of `stream.control_chart(...)`: `hr.chart.xbar(size=5, phase1=25)` and so on."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

from headrace.operators.charts.attributes import NP, C, P, U
from headrace.operators.charts.chart import Capability, Chart, dump_chart, read_chart
from headrace.operators.charts.hotelling import T2
from headrace.operators.charts.variables import Individuals, MovingRange, R, S, XBar
from headrace.operators.charts.weighted import CUSUM, EWMA

xbar = XBar
r = R
s = S
individuals = Individuals
moving_range = MovingRange
p = P
np = NP
c = C
u = U
ewma = EWMA
cusum = CUSUM
t2 = T2

CHARTS: Final[dict[str, type[Chart]]] = {
    one.kind: one for one in (XBar, R, S, Individuals, MovingRange, P, NP, C, U, EWMA, CUSUM, T2)
}

__all__ = [
    "Capability",
    "c",
    "cusum",
    "ewma",
    "individuals",
    "moving_range",
    "np",
    "p",
    "r",
    "s",
    "t2",
    "u",
    "xbar",
]


def _read(value: Any) -> Any:
    return read_chart(value, CHARTS)


ChartField = Annotated[
    Chart, BeforeValidator(_read), PlainSerializer(dump_chart, return_type=dict[str, Any])
]
"""A control chart; what was serialised is read again."""
