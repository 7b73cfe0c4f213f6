"""What rows say, read once for all rules: numbers, texts, truths and zones by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.operators.rulebook.bits import Bools, Ints, Words, one_hot, pack
from headrace.operators.rulebook.tree import Metric

Values = npt.NDArray[Any]

_ZONE_ID: Final = "zone_id"
_EVENT: Final = "event"
_GONE: Final = ("exit", "outside", "cross")


@dataclass(frozen=True, slots=True)
class Known:
    """Values of some rows; what is absent has a place but no meaning."""

    values: Values
    present: Bools


class Planes(NamedTuple):
    """Bits of some conditions: where each holds, and where it may hold.

    Attributes:
        holds: Lines of words, empty at first.
        possible: The same; the very array `holds` where nothing is unknown.
        valid: The bits that stand for rows.
        alive: Per condition, whether it may hold somewhere, and whether it may fail somewhere.
    """

    holds: Words
    possible: Words
    valid: Words
    alive: Bools

    @property
    def is_whole(self) -> bool:
        """Whether nothing is unknown."""
        return self.possible is self.holds

    def miss(self, absent: Words) -> None:
        """Say where all of them are unknown."""
        if not self.is_whole:
            self.possible[:] = absent
            self.alive[:] = absent.any()

    def add(self, lines: slice, words: Words) -> None:
        """Say where conditions hold, each somewhere."""
        self.holds[lines] = words
        if not self.is_whole:
            self.possible[lines] |= words
        self.alive[lines, 0] = True

    def look(self) -> None:
        """Find out which conditions may hold, and which may fail."""
        self.alive[:, 0] = self.possible.any(axis=1)
        self.alive[:, 1] = (self.holds != self.valid).any(axis=1)


class Facts:
    """The values that atoms ask for, over rows in the order in which they are judged.

    Args:
        rows: The rows, with the values of windows as columns.
        metrics: What to read.
        texts: The constants each text is compared with.
        zones: The column that names zones, and the zones asked for.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        metrics: Mapping[str, Metric],
        texts: Mapping[str, Sequence[str]],
        zones: tuple[str, Sequence[str]] | None,
    ) -> None:
        names = list(metrics)
        read = rows.select(
            metric.expr.alias(str(number)) for number, metric in enumerate(metrics.values())
        )
        # A constant is one row, whatever the number of rows.
        if names and read.height != rows.height:
            read = pl.concat([read] * rows.height)
        self.known: dict[str, Known] = {}
        for number, name in enumerate(names):
            column = read[str(number)]
            if metrics[name].kind == "text":
                self.known[name] = _codes(column, texts.get(name, ()))
            else:
                self.known[name] = _known(column)
        self._zones = None if zones is None else _places(rows[zones[0]], zones[1])

    def at_least(self, name: str, thresholds: Values, start: int, stop: int, into: Planes) -> None:
        """Say where a number reaches each of some ascending thresholds.

        Cost: O(rows log thresholds), and per 64 rows one step for each threshold that some rows
        reach and others do not.
        """
        values, present = self._slice(name, start, stop)
        rows = np.flatnonzero(present)
        passed = np.searchsorted(thresholds, values[rows], side="right")
        there = pack(present)
        if rows.size < stop - start:
            into.miss(~there & into.valid)
        into.alive[:, 1] = True
        if not rows.size:
            return
        low, high = int(passed.min()), int(passed.max())
        into.alive[:low, 1] = rows.size < stop - start
        into.add(slice(0, low), there)
        some = passed > low
        last = one_hot(
            passed[some].astype(np.int64) - low - 1, rows[some], high - low, stop - start
        )
        # What reaches a threshold reaches all lower ones.
        into.add(slice(low, high), np.bitwise_or.accumulate(last[::-1], axis=0)[::-1])

    def equals(self, name: str, start: int, stop: int, into: Planes) -> None:
        """Say where a text equals each of its constants."""
        codes, present = self._slice(name, start, stop)
        rows = np.flatnonzero(present & (codes >= 0))
        into.miss(~pack(present) & into.valid)
        into.add(
            slice(None),
            one_hot(codes[rows].astype(np.int64), rows, into.holds.shape[0], stop - start),
        )
        into.look()

    def holds(self, name: str, start: int, stop: int, into: Planes) -> None:
        """Say where something is true."""
        truth, present = self._slice(name, start, stop)
        into.miss(~pack(present) & into.valid)
        into.add(slice(None), pack(truth.astype(np.bool_) & present))
        into.look()

    def in_zones(self, start: int, stop: int, into: Planes) -> None:
        """Say where a row lies in each zone."""
        assert self._zones is not None  # noqa: S101 - asked only where there are zones
        zone, row, present = self._zones
        mine = (row >= start) & (row < stop)
        into.miss(~pack(present[start:stop]) & into.valid)
        into.add(
            slice(None), one_hot(zone[mine], row[mine] - start, into.holds.shape[0], stop - start)
        )
        into.look()

    def is_whole(self, start: int, stop: int) -> bool:
        """Return whether nothing that is read is absent."""
        whole = all(known.present[start:stop].all() for known in self.known.values())
        return whole and (self._zones is None or bool(self._zones[2][start:stop].all()))

    def _slice(self, name: str, start: int, stop: int) -> tuple[Values, Bools]:
        known = self.known[name]
        return known.values[start:stop], known.present[start:stop]


def _known(column: pl.Series) -> Known:
    present = column.is_not_null()
    if column.dtype.is_float():
        present &= column.is_not_nan().fill_null(value=False)
        values = column.fill_null(0.0).to_numpy()
    elif column.dtype == pl.Boolean:
        values = column.fill_null(value=False).to_numpy()
    else:
        values = column.fill_null(0).to_numpy()
    return Known(values, present.to_numpy())


def _codes(column: pl.Series, constants: Sequence[str]) -> Known:
    """Return texts as places among constants, -1 where they are none of them."""
    places = pl.DataFrame(
        {"text": pl.Series(constants, dtype=pl.String), "code": range(len(constants))},
        schema_overrides={"code": pl.Int64},
    )
    found = (
        column.alias("text").to_frame().join(places, on="text", how="left", maintain_order="left")
    )
    return Known(found["code"].fill_null(-1).to_numpy(), column.is_not_null().to_numpy())


def _places(column: pl.Series, zones: Sequence[str]) -> tuple[Ints, Ints, Bools]:
    """Return pairs of zone and row, each once, and the rows that say where they are."""
    present = column.is_not_null().to_numpy()
    entries = (
        pl.DataFrame({"row": pl.int_range(column.len(), eager=True), "zone": column})
        .explode("zone")
        .filter(pl.col("zone").is_not_null())
    )
    if isinstance(entries.schema["zone"], pl.Struct):
        inside = pl.lit(value=True)
        if _EVENT in entries["zone"].struct.fields:
            inside = ~pl.col("zone").struct.field(_EVENT).is_in(_GONE)
        entries = entries.filter(inside).with_columns(
            pl.col("zone").struct.field(_ZONE_ID).alias("zone")
        )
    codes = pl.DataFrame({"zone": pl.Series(zones, dtype=pl.String), "code": range(len(zones))})
    found = (
        entries.join(codes, on="zone", how="inner", maintain_order="left")
        .select("code", "row")
        .unique(maintain_order=True)
    )
    return (
        found["code"].to_numpy().astype(np.int64),
        found["row"].to_numpy().astype(np.int64),
        present,
    )


def is_zone_column(dtype: pl.DataType) -> bool:
    """Whether a column can name the zones of a row: ids, or records with a `zone_id`."""
    if not isinstance(dtype, pl.List):
        return False
    inner = dtype.inner
    if isinstance(inner, pl.Struct):
        return any(one.name == _ZONE_ID and one.dtype == pl.String for one in inner.fields)
    return inner == pl.String
