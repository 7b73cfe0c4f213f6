"""Which windows a row belongs to.

Windows are [start, end) on a grid that begins at the epoch plus `offset`; sizes that are whole
weeks begin on Mondays. A sliced assigner cuts time into slices so that every window is a run of
whole slices: rows are aggregated once per slice, however many windows overlap.
"""

from __future__ import annotations

from datetime import timedelta
from math import gcd
from typing import Annotated, Any, ClassVar, Final

import polars as pl
from pydantic import BeforeValidator, PlainSerializer, model_validator

from headrace.core.component import Component, DurationField
from headrace.core.errors import PlanError
from headrace.core.time import Duration, duration, micros, positive_duration

_WEEK: Final = timedelta(weeks=1)
_FIRST_MONDAY: Final = timedelta(days=4)  # 1970-01-05; the epoch was a Thursday.

MAX_SLICES: Final = 512


class Assigner(Component):
    """Says which windows take a row."""


class Sliced(Assigner):
    """Windows made of slices. All methods are in microseconds of event time.

    Attributes:
        size: Length of the longest window.
        every: Distance between the ends of windows that follow each other.
        offset: Shift of the grid.
    """

    size: DurationField
    every: DurationField
    offset: DurationField = timedelta(0)

    @model_validator(mode="after")
    def _check(self) -> Sliced:
        positive_duration(self.size, "size")
        positive_duration(self.every, "every")
        if self.size < self.every:
            raise PlanError(
                "windows shorter than the distance between them would skip rows",
                hint="let size be at least every, or filter the rows first",
            )
        slices = micros(self.size) // self.width
        if slices > MAX_SLICES:
            raise PlanError(
                f"{slices} slices per window are more than {MAX_SLICES}",
                hint="let size be a multiple of every, or every be longer",
            )
        return self

    @property
    def width(self) -> int:
        """Length of a slice."""
        return gcd(micros(self.size), micros(self.every))

    @property
    def every_us(self) -> int:
        """Distance between window ends."""
        return micros(self.every)

    @property
    def whole(self) -> bool:
        """Whether each slice is exactly one window."""
        return self.size == self.every

    @property
    def phase(self) -> int:
        """A point on the grid of slices and windows."""
        monday = _FIRST_MONDAY if self._step() % _WEEK == timedelta(0) else timedelta(0)
        return micros(self.offset + monday)

    def slices(self, times: pl.Series) -> pl.Series:
        """Return the start of the slice of each event time."""
        return (times - self.phase) // self.width * self.width + self.phase

    def first_end(self, slices: pl.Expr) -> pl.Expr:
        """Return the end of the first window that holds the slice."""
        past = slices + self.width - self._end_phase() - 1
        every = micros(self.every)
        return past // every * every + every + self._end_phase()

    def last_end(self, slices: pl.Expr) -> pl.Expr:
        """Return the end of the last window that holds the slice."""
        step = micros(self._step())
        return (slices - self.phase) // step * step + self.phase + micros(self.size)

    def start(self, ends: pl.Expr) -> pl.Expr:
        """Return the start of the window that ends there."""
        return ends - micros(self.size)

    def first_end_of(self, time: int) -> int:
        """Return the end of the first window that holds the point `time`."""
        start = (time - self.phase) // self.width * self.width + self.phase
        every = micros(self.every)
        return (start + self.width - self._end_phase() - 1) // every * every + (
            every + self._end_phase()
        )

    def last_end_of(self, slice_: int) -> int:
        """Return the end of the last window that holds the slice that begins there."""
        step = micros(self._step())
        return (slice_ - self.phase) // step * step + self.phase + micros(self.size)

    def end_after(self, time: int) -> int:
        """Return the first window end later than `time`."""
        every = micros(self.every)
        return (time - self._end_phase()) // every * every + every + self._end_phase()

    def ended_before(self, time: int) -> int:
        """Return the event time before which every window of a row has ended by `time`."""
        step = micros(self._step())
        return (time - micros(self.size) - self.phase) // step * step + step + self.phase

    def _step(self) -> timedelta:
        return self.every

    def _end_phase(self) -> int:
        return self.phase + micros(self.size)


class Tumbling(Sliced):
    """Windows side by side."""

    kind: ClassVar[str] = "tumbling"


class Sliding(Sliced):
    """Windows of `size` that begin at each `every`."""

    kind: ClassVar[str] = "sliding"


class Cumulate(Sliced):
    """Windows that share a start and grow by `every` up to `size`."""

    kind: ClassVar[str] = "cumulate"

    @model_validator(mode="after")
    def _check_steps(self) -> Cumulate:
        if self.size % self.every != timedelta(0):
            raise PlanError(
                "size must be a multiple of every in cumulate()",
                hint='e.g. cumulate("1h", every="5m")',
            )
        return self

    def start(self, ends: pl.Expr) -> pl.Expr:
        """Return the start of the window that ends there."""
        size = micros(self.size)
        return (ends - 1 - self.phase) // size * size + self.phase

    def _step(self) -> timedelta:
        return self.size


class Session(Assigner):
    """Windows that end when a key was silent for longer than `gap`."""

    kind: ClassVar[str] = "session"
    gap: DurationField

    @model_validator(mode="after")
    def _check(self) -> Session:
        positive_duration(self.gap, "gap")
        return self


class Forever(Assigner):
    """One window per key, which grows as long as the key has rows.

    Attributes:
        forget: A key without rows for longer than this (event time) gives its final row and is
            forgotten; a row after that begins a new window.
    """

    kind: ClassVar[str] = "forever"
    forget: DurationField = timedelta(hours=24)

    @model_validator(mode="after")
    def _check(self) -> Forever:
        positive_duration(self.forget, "forget")
        return self


_ASSIGNERS: Final[dict[str, type[Assigner]]] = {
    one.kind: one for one in (Tumbling, Sliding, Cumulate, Session, Forever)
}


def _read(value: Any) -> Any:
    if isinstance(value, dict) and value.get("kind") in _ASSIGNERS:
        kind = _ASSIGNERS[value["kind"]]
        return kind(**{name: given for name, given in value.items() if name != "kind"})
    return value


def _dump(assigner: Assigner) -> dict[str, Any]:
    return {"kind": assigner.kind, **assigner.model_dump(mode="json")}


AssignerField = Annotated[
    Assigner, BeforeValidator(_read), PlainSerializer(_dump, return_type=dict[str, Any])
]


def tumbling(size: Duration, *, offset: Duration = timedelta(0)) -> Tumbling:
    """Cut time into windows of `size` side by side.

    Example:
        >>> tumbling("5m").size
        datetime.timedelta(seconds=300)
    """
    length = positive_duration(size, "size")
    return Tumbling(size=length, every=length, offset=duration(offset))


def sliding(size: Duration, *, every: Duration, offset: Duration = timedelta(0)) -> Sliding:
    """Begin a window of `size` at each `every`."""
    return Sliding(size=duration(size), every=duration(every), offset=duration(offset))


def cumulate(size: Duration, *, every: Duration, offset: Duration = timedelta(0)) -> Cumulate:
    """Grow windows from a shared start by `every` up to `size`.

    A row at 12:07 counts in [12:00, 12:10), [12:00, 12:20), … of `cumulate("1h", every="10m")`.

    Args:
        size: Length of the last window of a start; a multiple of `every`.
        every: By how much each window is longer than the one before it.
        offset: Shift of the starts, which otherwise lie on multiples of `size` since the epoch,
            on Mondays where it is whole weeks.

    Raises:
        PlanError: `size` is no multiple of `every`, or holds more than 512 of them.

    Cost: one partial aggregate per key and `every`, merged once per window.

    Example:
        >>> import headrace as hr
        >>> app = hr.App("doc")
        >>> sales = app.topic(
        ...     "sales", {"time": pl.Datetime("us", "UTC"), "euro": pl.Float64}, time="time"
        ... )
        >>> today = sales.window(cumulate("1d", every="12h")).agg(euro=hr.sum("euro"))
        >>> _ = app.output("today", today)
        >>> rows = pl.DataFrame({"time": [1, 13], "euro": [5.0, 7.0]}).with_columns(
        ...     (pl.col("time") * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
        ... )
        >>> answer = hr.testing.run(app, {"sales": rows})["today"]
        >>> answer.select(pl.col("window_start", "window_end").dt.day(), "euro").rows()
        [(1, 1, 5.0), (1, 2, 12.0)]
    """
    return Cumulate(size=duration(size), every=duration(every), offset=duration(offset))


def session(gap: Duration) -> Session:
    """End a key's window when the key was silent for longer than `gap`."""
    return Session(gap=duration(gap))


def forever(*, forget: Duration = timedelta(hours=24)) -> Forever:
    """Keep one window per key that ends only when the key was silent for longer than `forget`."""
    return Forever(forget=duration(forget))
