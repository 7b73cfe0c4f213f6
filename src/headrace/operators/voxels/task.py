"""A voxel grid at work: points in, changed voxels out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from headrace.core.log import DELETE, OP
from headrace.core.protocols import LATE, MAIN, NEVER, Out, Tables, TableSpec, Task, Wake
from headrace.core.time import (
    BEGINNING,
    END_OF_TIME,
    EVENT_TIME,
    HIDDEN,
    HIDDEN_SCHEMA,
    POSITION,
    micros,
)
from headrace.operators.event_order import EventOrderBuffer
from headrace.operators.key_runs import ALL, Bools, KeyRuns, key_runs, running_max
from headrace.operators.pieces import add_piece
from headrace.operators.voxels.blocks import Blocks
from headrace.operators.voxels.lattice import BLOCK, Floats, Ints
from headrace.operators.voxels.shown import Shown, hidden_beside

if TYPE_CHECKING:
    from headrace.operators.voxel_grid import VoxelGrid

OUTSIDE: Final = "outside"
SNAPSHOT: Final = "snapshot"
ACTION: Final = "action"
REASON: Final = "reason"
CONTROL_PORT: Final = 1

_WAITING: Final = "waiting"
_GRIDS: Final = "grids"
_VOXELS: Final = "voxels"
_NUMBER: Final = "__number"
_NEWEST: Final = "__newest"
_FOUND: Final = "__found"
_GRID: Final = "__grid"
_CELL: Final = "__cell"
_STATE: Final = ("__count", "__mean", "__m2", "__least", "__most", "__last")
_NOT_INSIDE, _NO_PLACE, _NO_VALUE = "outside", "no coordinates", "no value"


def voxel_tables(grid: VoxelGrid, schema: pl.Schema) -> tuple[TableSpec, ...]:
    """Declare the grids, their voxels, and the rows that wait."""
    keys = {name: schema[name] for name in grid.by} or {ALL: pl.Boolean()}
    grids = pl.Schema({**keys, _NUMBER: pl.Int64(), _NEWEST: pl.Int64()})
    voxels = pl.Schema(
        {**dict.fromkeys((_GRID, _CELL), pl.Int64()), **dict.fromkeys(_STATE, pl.Float64())}
    )
    specs = [TableSpec(_GRIDS, "keyed", grids, key=tuple(keys)), TableSpec(_VOXELS, "rows", voxels)]
    if grid.order == "event":
        waiting = pl.Schema({**schema, **pl.Schema(HIDDEN_SCHEMA)})
        specs.append(TableSpec(_WAITING, "rows", waiting))
    return tuple(specs)


@dataclass(frozen=True, slots=True)
class _Points:
    """Rows that lie in the box, in the order they are merged in."""

    frame: pl.DataFrame
    block: Ints
    place: Ints
    values: Floats
    times: Ints

    def at(self, rows: Ints) -> _Points:
        return _Points(
            self.frame[rows],
            self.block[rows],
            self.place[rows],
            self.values[rows],
            self.times[rows],
        )


class VoxelTask(Task):
    """Merges points into blocks; the table of voxels gets what they have become.

    The blocks in memory say nothing that the table does not: a voxel's newest row there is its
    present state, so a restored task has the same numbers to the last bit.
    """

    def __init__(self, grid: VoxelGrid, tables: Tables, schema: pl.Schema) -> None:
        self._grid = grid
        self._lattice = grid.lattice
        self._tables = tables
        self._show = Shown(grid.lattice, grid.aggregate, grid.by)
        self._columns = list(schema)
        self._by = list(grid.by)
        self._key = self._by or [ALL]
        self._forget = micros(grid.forget)
        self._grids = tables.keyed(_GRIDS)
        self._voxels = tables.rows(_VOXELS)
        self._waiting = EventOrderBuffer(tables.rows(_WAITING)) if grid.order == "event" else None
        self._oldest = self._find_oldest()
        self._blocks = Blocks(grid.max_blocks)
        for piece in self._voxels.pieces:
            # Making room replaces the array, so it comes first.
            at = self._places(piece)
            self._blocks.statistics[at] = piece.select(_STATE).to_numpy()

    def process(self, frame: pl.DataFrame, port: int) -> Iterable[Out]:
        """Merge points or let them wait; reset or show grids."""
        if frame.is_empty():
            return
        if port == CONTROL_PORT:
            yield from self._control(frame)
            return
        if self._waiting is None:
            yield from self._take(frame)
            return
        late = self._waiting.add(frame, self._tables.watermark)
        if late.height:
            yield LATE, late

    def advance(self, watermark: int) -> Iterable[Out]:
        """Merge the points that the watermark has passed; forget grids that were silent."""
        ready = None if self._waiting is None else self._waiting.release(watermark)
        if ready is not None:
            yield from self._take(ready)
        if watermark != END_OF_TIME and self._oldest + self._forget < watermark:
            silent = self._grids.expire(_NEWEST, watermark - self._forget)
            self._oldest = self._find_oldest()
            gone = self._drop(silent, silent[_NEWEST].to_numpy() + self._forget)
            if gone is not None:
                yield MAIN, gone

    def finish(self) -> Iterable[Out]:
        """Merge the points that still wait. Grids stay as they are."""
        ready = None if self._waiting is None else self._waiting.release_all()
        if ready is not None:
            yield from self._take(ready)

    def wake(self) -> Wake:
        """Ask for the watermark that releases a row, or shows that a grid was silent too long."""
        silent = None if self._oldest == END_OF_TIME else self._oldest + self._forget + 1
        released = (NEVER if self._waiting is None else self._waiting.wake()).event_time
        times = [time for time in (silent, released) if time is not None]
        return Wake(min(times)) if times else NEVER

    def _take(self, frame: pl.DataFrame) -> Iterable[Out]:
        points, outside = self._located(frame)
        if outside is not None:
            yield OUTSIDE, outside
        if not points.frame.height:
            return
        runs = self._runs(points.frame)
        known = self._grids.lookup(runs.keys)
        if self._grid.order == "arrival":
            late = self._late(points, runs, known)
            if late is not None:
                yield LATE, points.frame.filter(pl.Series(late))
                points = points.at(np.flatnonzero(~late))
                if not points.frame.height:
                    return
                runs = self._runs(points.frame)
                known = self._grids.lookup(runs.keys)
        newest = known[_NEWEST].fill_null(BEGINNING).to_numpy()
        stretch = self._stretches(points.times, runs, newest)
        if stretch is None:
            yield MAIN, self._merge(points, runs, known)
            return
        for number in np.unique(stretch):
            some = points.at(np.flatnonzero(stretch == number))
            those = self._runs(some.frame)
            known = self._grids.lookup(those.keys)
            if number:
                old = those.keys.hstack(known.get_columns()).filter(_FOUND)
                gone = self._drop(old, old[_NEWEST].to_numpy() + self._forget)
                self._grids.delete(those.keys)
                self._oldest = self._find_oldest()
                known = self._grids.lookup(those.keys)
                if gone is not None:
                    yield MAIN, gone
            yield MAIN, self._merge(some, those, known)

    def _runs(self, frame: pl.DataFrame) -> KeyRuns:
        return key_runs(frame, self._by)

    def _located(self, frame: pl.DataFrame) -> tuple[_Points, pl.DataFrame | None]:
        """Return the points in the box, and the other rows with the reason."""
        grid = self._grid
        points = [_floats(frame[name]) for name in (grid.x, grid.y, grid.z)]
        values = _floats(frame[grid.value])
        inside = self._lattice.inside(points)
        taken = inside & np.isfinite(values)
        outside = None
        if not taken.all():
            placed = np.isfinite(points[0]) & np.isfinite(points[1]) & np.isfinite(points[2])
            reason = np.where(inside, 2, np.where(placed, 0, 1))[~taken]
            names = pl.Series([_NOT_INSIDE, _NO_PLACE, _NO_VALUE])
            outside = (
                frame.filter(pl.Series(~taken))
                .with_columns(names.gather(pl.Series(reason)).alias(REASON))
                .select(*self._columns, REASON, *HIDDEN)
            )
            frame = frame.filter(pl.Series(taken))
            points = [coordinate[taken] for coordinate in points]
            values = values[taken]
        block, place = self._lattice.cells(points)
        # Adding zero turns -0.0 into 0.0.
        return _Points(frame, block, place, values + 0.0, frame[EVENT_TIME].to_numpy()), outside

    def _late(self, points: _Points, runs: KeyRuns, known: pl.DataFrame) -> Bools | None:
        """Return which rows lie behind the watermark and belong to no grid; None if none does."""
        behind = points.times < self._tables.watermark
        if not behind.any() or known[_FOUND].all():
            return None
        late = np.zeros(points.times.size, dtype=np.bool_)
        late[runs.order] = ~known[_FOUND].to_numpy()[runs.key_of]
        late &= behind
        return late if late.any() else None

    def _stretches(self, times: Ints, runs: KeyRuns, newest: Ints) -> Ints | None:
        """Return for each row how many silences of its key lie before it; None if none has any."""
        along = times[runs.order]
        starts = np.flatnonzero(runs.starts)
        most = np.maximum.reduceat(along, starts)
        least = np.where(newest == BEGINNING, np.minimum.reduceat(along, starts), newest)
        if (most - least <= self._forget).all():
            return None
        reached = np.maximum(running_max(along, runs.key_of), newest[runs.key_of])
        before = np.concatenate([newest[:1], reached[:-1]])
        before[starts] = newest
        silences = (before != BEGINNING) & (along - before > self._forget)
        total = np.cumsum(silences)
        base = total[starts] - silences[starts]
        number = np.empty_like(along)
        number[runs.order] = total - base[runs.key_of]
        return number

    def _merge(self, points: _Points, runs: KeyRuns, known: pl.DataFrame) -> pl.DataFrame:
        numbers = self._numbered(points.times, runs, known)
        grid = np.full(points.times.size, numbers[0])
        if numbers.size > 1:
            grid[runs.order] = numbers[runs.key_of]
        at = self._blocks.places(points.block + grid * self._lattice.blocks, points.place)
        rows = self._blocks.merge(at, points.values)
        cell = points.block[rows] * BLOCK + points.place[rows]
        held = self._blocks.statistics[at[rows]]
        state = zip(_STATE, held.T.copy(), strict=True)
        piece = pl.DataFrame({_GRID: grid[rows], _CELL: cell, **dict(state)})
        add_piece(self._voxels, piece, self._newest_only)
        times = points.times[rows]
        if self._grid.order == "arrival":
            times = np.maximum(times, self._tables.watermark)
        places = points.frame[POSITION].to_numpy()[rows]
        keys = [points.frame[name].gather(rows) for name in self._by]
        return self._show.rows(hidden_beside(keys, times, places), cell, held)

    def _numbered(self, times: Ints, runs: KeyRuns, known: pl.DataFrame) -> Ints:
        """Return the number of each key's grid, and note how far its rows have come."""
        numbers = known[_NUMBER].fill_null(-1).to_numpy().copy()
        fresh = np.flatnonzero(numbers < 0)
        if fresh.size:
            used = self._grids.frame()[_NUMBER].to_numpy()
            free = np.setdiff1d(np.arange(used.size + fresh.size), used, assume_unique=True)
            numbers[fresh] = free[: fresh.size]
        reached = np.maximum.reduceat(times[runs.order], np.flatnonzero(runs.starts))
        before = known[_NEWEST].fill_null(END_OF_TIME).to_numpy()
        newest = np.maximum(np.where(before == END_OF_TIME, BEGINNING, before), reached)
        noted = [pl.Series(_NUMBER, numbers), pl.Series(_NEWEST, newest)]
        self._grids.upsert(runs.keys.hstack(noted))
        # Looked up only when the grid that was silent longest is among these.
        if numbers.size == self._grids.rows or before.min() > self._oldest:
            rest = END_OF_TIME if numbers.size == self._grids.rows else self._oldest
            self._oldest = min(rest, int(newest.min()))
        else:
            self._oldest = self._find_oldest()
        return numbers

    def _drop(self, grids: pl.DataFrame, times: Ints) -> pl.DataFrame | None:
        """Forget the voxels of `grids`; return a row without points for each."""
        gone = []
        size = self._lattice.blocks
        for row, time in zip(grids.iter_slices(1), times, strict=True):
            cells, _ = self._cells(row)
            none = np.zeros((cells.size, len(_STATE)))
            gone.append(self._show.rows(self._keyed(row, int(time), cells.size), cells, none))
            first = row[_NUMBER][0] * size
            self._blocks.drop(first, first + size)
        if not gone:
            return None
        dropped = grids[_NUMBER].to_list()
        self._voxels.replace(
            [
                piece.filter(~pl.col(_GRID).is_in(dropped))
                if piece[_GRID].is_in(dropped).any()
                else piece
                for piece in self._voxels.pieces
            ]
        )
        return pl.concat(gone)

    def _control(self, frame: pl.DataFrame) -> Iterable[Out]:
        """Show or reset the grids that the rows name, in their order."""
        wanted = frame.filter(pl.col(OP) != DELETE) if OP in frame.columns else frame
        if not self._by:
            wanted = wanted.with_columns(pl.lit(value=True).alias(ALL))
        for number in range(wanted.height):
            row = wanted[[number]]
            found = row.select(self._key).hstack(self._grids.lookup(row).get_columns())
            found = found.filter(_FOUND)
            if ACTION in row.columns and row[ACTION][0] == SNAPSHOT:
                if found.height:
                    yield SNAPSHOT, self._snapshot(found)
                continue
            newest = found[_NEWEST].to_numpy()
            gone = self._drop(found, np.maximum(newest, self._tables.watermark))
            self._grids.delete(found)
            self._oldest = self._find_oldest()
            self._forget_waiting(row.select(self._by))
            if gone is not None:
                yield MAIN, gone

    def _snapshot(self, grid: pl.DataFrame) -> pl.DataFrame:
        cells, at = self._cells(grid)
        time = max(grid[_NEWEST][0], self._tables.watermark)
        rows = self._keyed(grid, time, cells.size)
        return self._show.rows(rows, cells, self._blocks.statistics[at])

    def _cells(self, grid: pl.DataFrame) -> tuple[Ints, Ints]:
        """Return the voxels of one grid that hold points, and where they lie."""
        first = grid[_NUMBER][0] * self._lattice.blocks
        cells, at = self._blocks.voxels(first, first + self._lattice.blocks)
        return cells - first * BLOCK, at

    def _keyed(self, grid: pl.DataFrame, time: int, count: int) -> pl.DataFrame:
        """Return as many rows with the key of one grid and the hidden columns."""
        keys = [grid[name].new_from_index(0, count) for name in self._by]
        return hidden_beside(keys, np.full(count, time, dtype=np.int64), np.arange(count))

    def _forget_waiting(self, key: pl.DataFrame) -> None:
        """Rows that came before a reset belong to the grid that was reset."""
        if self._waiting is None:
            return
        table = self._tables.rows(_WAITING)
        kept = [
            piece.join(key, on=self._by, how="anti", nulls_equal=True, maintain_order="left")
            for piece in table.pieces
            if self._by
        ]
        table.replace(kept)
        self._waiting = EventOrderBuffer(table)

    def _places(self, voxels: pl.DataFrame) -> Ints:
        cell = voxels[_CELL].to_numpy()
        block = voxels[_GRID].to_numpy() * self._lattice.blocks + cell // BLOCK
        return self._blocks.places(block, cell % BLOCK)

    def _newest_only(self, voxels: pl.DataFrame) -> pl.DataFrame:
        rows = self._blocks.last_of_each(self._places(voxels))
        return voxels if rows.size == voxels.height else voxels[rows]

    def _find_oldest(self) -> int:
        oldest = self._grids.frame()[_NEWEST].min() if self._grids.rows else None
        return oldest if isinstance(oldest, int) else END_OF_TIME


def _floats(values: pl.Series) -> Floats:
    """Return numbers, NaN for null."""
    return values.cast(pl.Float64).to_numpy()
