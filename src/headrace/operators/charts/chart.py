"""What every control chart is given, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import polars as pl
from pydantic import BeforeValidator, Field, model_validator

from headrace.core.component import Component
from headrace.core.errors import PlanError
from headrace.operators.charts.constants import Floats
from headrace.operators.charts.rules import LOOK_BACK, RULES
from headrace.operators.charts.samples import Drawn, Groups, Measures, Rows, Sheet

MEAN: Final = "mean"
SD: Final = "sd"
OVERALL: Final = "overall_sd"
SIZE: Final = "n"
MAX_SAMPLE: Final = 4096
"""Rows of one sample; more rows of one subgroup make another sample."""
MAX_PHASE1: Final = 10_000
"""Samples of a phase I that a column marks; phase I ends there."""

_WORST_CONFIDENCE: Final = 0.5


def _column(value: Any) -> Any:
    if isinstance(value, pl.Expr):
        if not value.meta.is_column():
            raise PlanError(
                f"{value} is not a column", hint="add it first: stream.with_columns(name=...)"
            )
        return value.meta.output_name()
    return value


ColumnName = Annotated[str, BeforeValidator(_column)]
CountOrColumn = Annotated[int | str, BeforeValidator(_column)]


class Capability(Component):
    """The limits that a product must keep.

    Attributes:
        lsl: Lower specification limit; None where there is none.
        usl: Upper specification limit.
        target: Desired value, by default the middle.
    """

    kind: ClassVar[str] = "capability"
    lsl: float | None = Field(None, allow_inf_nan=False)
    usl: float | None = Field(None, allow_inf_nan=False)
    target: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Capability:
        if self.lsl is None and self.usl is None:
            raise PlanError("capability needs a specification limit", hint="(lsl, usl)")
        if self.lsl is not None and self.usl is not None and self.lsl >= self.usl:
            raise PlanError(f"the limits {self.lsl} to {self.usl} allow nothing")
        return self


def _capability(value: Any) -> Any:
    if isinstance(value, Capability) or value is None:
        return value
    if isinstance(value, Mapping):
        given = {name: limit for name, limit in value.items() if name != "kind"}
        return Capability(**given)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (2, 3):
        return Capability(**dict(zip(("lsl", "usl", "target"), value, strict=False)))
    raise PlanError(
        f"{value!r} is no capability", hint="(lsl, usl), (lsl, usl, target) or a dict of these"
    )


def _rules(value: Any) -> Any:
    families = {"western_electric": "we", "nelson": "nelson"}
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else list(value)
    chosen = []
    for one in given:
        prefix = families.get(one)
        found = [name for name in RULES if prefix and name.rstrip("0123456789") == prefix]
        if not found and one not in RULES:
            raise PlanError(
                f"no rule {one!r}", hint=f"western_electric, nelson, or some of {', '.join(RULES)}"
            )
        chosen += found or [one]
    return tuple(name for name in RULES if name in chosen)


def only_limits(value: Any) -> Any:
    """Return rule names where only limits may be looked at.

    Raises:
        PlanError: A rule looks at runs, which say nothing where points hang together.
    """
    chosen = _rules(value)
    runs = [name for name in chosen if name not in ("we1", "nelson1")]
    if runs:
        raise PlanError(
            f"rules about runs, such as {runs[0]}, say nothing on this chart",
            hint='rules=("we1", "nelson1"), which is the default',
        )
    return chosen


class Chart(Component, ABC):
    """A control chart: how samples are made, estimated from and judged.

    Samples are runs of rows of one key in event order: `size` rows, or the rows for which
    `subgroup` stays the same, or both, whichever ends first. A value that is null, NaN or
    infinite is no measurement: its row is part of the sample but counts for nothing.

    Attributes:
        subgroup: Column that says which sample a row belongs to; its value is carried along.
        size: Rows per sample. Charts of counts take one row as a sample, and `size` is how much
            was inspected: a number, or the column that holds it.
        phase1: Samples that limits are estimated from: how many, or a Boolean column that is
            true for them, at most 10 000 at a key's beginning. None: `center` and `sigma` are
            known.
        center: The process's centre where it is known.
        sigma: The process's standard deviation where it is known, or the name of an estimate.
        nsigmas: Distance of the limits from the centre in standard errors.
        confidence: Probability inside the limits, instead of `nsigmas`.
        capability: Specification limits, for the columns cp cpl cpu cpk cpm pp ppk.
        rules: Families (`western_electric`, `nelson`) or names of rules that are looked at.
    """

    subgroup: ColumnName | None = None
    size: CountOrColumn | None = None
    phase1: CountOrColumn | None = None
    center: float | None = Field(None, allow_inf_nan=False)
    sigma: float | str | None = None
    nsigmas: float = Field(3.0, gt=0, allow_inf_nan=False)
    confidence: float | None = Field(None, gt=_WORST_CONFIDENCE, lt=1)
    capability: Annotated[Capability | None, BeforeValidator(_capability)] = None
    rules: Annotated[tuple[str, ...], BeforeValidator(_rules)] = tuple(RULES)

    estimates: ClassVar[tuple[str, ...]] = ()
    sigmas: ClassVar[tuple[str, ...]] = ()
    least_phase1: ClassVar[int] = 1
    measures_values: ClassVar[bool] = True
    size_dtype: ClassVar[pl.DataType] = pl.Int64()
    sums_rows: ClassVar[bool] = False
    remembers: ClassVar[tuple[str, ...]] = ()
    shows: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _check_parts(self) -> Chart:
        if isinstance(self.phase1, int) and not self.least_phase1 <= self.phase1 <= MAX_PHASE1:
            raise PlanError(
                f"phase1={self.phase1} of {self.kind} is not in {self.least_phase1} to {MAX_PHASE1}"
            )
        if isinstance(self.size, int) and self.size < 1:
            raise PlanError("a sample has at least one row", hint="size=5")
        if isinstance(self.sigma, str) and self.sigma not in self.sigmas:
            hint = (
                f"a number, or one of {', '.join(self.sigmas)}" if self.sigmas else "leave it out"
            )
            raise PlanError(f"{self.kind} has no estimate sigma={self.sigma!r}", hint=hint)
        if isinstance(self.sigma, float) and not 0 < self.sigma < np.inf:
            raise PlanError("sigma must be a positive number")
        if self.capability is not None and not self.measures_values:
            raise PlanError(
                f"{self.kind} has no capability", hint="use it with xbar, r, s or individuals"
            )
        self.check_sampling()
        if self.phase1 is None and not self.is_known():
            raise PlanError(
                f"{self.kind} needs samples to estimate its limits from, or known values",
                hint="phase1=25, or center= and sigma=",
            )
        return self

    def check_sampling(self) -> None:
        """Refuse a `size` or `subgroup` that this chart cannot use.

        Raises:
            PlanError: As said.
        """

    def is_known(self) -> bool:
        """Return whether the limits follow from `center` and `sigma`."""
        return self.center is not None and isinstance(self.sigma, float)

    @property
    def rows_per_sample(self) -> int:
        """Most rows of a sample."""
        if isinstance(self.size, int) and not self.sums_rows:
            return min(self.size, MAX_SAMPLE)
        return 1 if self.subgroup is None else MAX_SAMPLE

    @property
    def width(self) -> float:
        """Distance of normal limits from the centre in standard errors."""
        if self.confidence is None:
            return self.nsigmas
        return NormalDist().inv_cdf(1 - (1 - self.confidence) / 2)

    def given(self) -> dict[str, float]:
        """Return the estimates that are known without samples."""
        return {MEAN: np.nan if self.center is None else self.center}

    @property
    def look_back(self) -> int:
        """How many samples already judged must be kept."""
        return LOOK_BACK

    def check_values(self, values: int) -> None:
        """Refuse more or fewer value columns than the chart takes.

        Raises:
            PlanError: As said.
        """
        if values != 1:
            raise PlanError(f"{self.kind} takes one value column, not {values}")

    def measures(self, values: int) -> tuple[str, ...]:  # noqa: ARG002 - most take one value
        """Name what is kept of a sample of `values` columns, besides its size."""
        return (MEAN,)

    def estimated(self, values: int) -> tuple[str, ...]:  # noqa: ARG002 - most take one value
        """Name what is kept of phase I."""
        return self.estimates

    @abstractmethod
    def reduce(self, rows: Rows) -> dict[str, Floats]:
        """Return `SIZE` and the measures of each sample."""

    @abstractmethod
    def estimate(self, samples: Measures, keys: Groups) -> dict[str, Floats]:
        """Return the estimates of each key from its phase I samples; NaN where impossible."""

    @abstractmethod
    def draw(self, sheet: Sheet) -> Drawn:
        """Return what is shown of each sample."""


def _dump(chart: Chart) -> dict[str, Any]:
    return {"kind": chart.kind, **chart.model_dump(mode="json")}


def read_chart(value: Any, kinds: Mapping[str, type[Chart]]) -> Any:
    """Return a chart from what `_dump` made of it.

    Raises:
        PlanError: It is no chart.
    """
    if isinstance(value, dict) and value.get("kind") in kinds:
        return kinds[value["kind"]](**{n: given for n, given in value.items() if n != "kind"})
    if isinstance(value, Chart):
        return value
    raise PlanError(f"{value!r} is not a chart", hint=f"hr.chart.{', '.join(sorted(kinds))}")


dump_chart = _dump
