"""StateTables: all the state of one open task, and what a checkpoint takes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from headrace.core.errors import BugError, StateError
from headrace.core.protocols import TableSpec
from headrace.core.time import BEGINNING
from headrace.state.keyed import KeyedLevels, Part
from headrace.state.rows import Blob, Pieces

AnyTable = KeyedLevels | Pieces | Blob
_Table = TypeVar("_Table", KeyedLevels, Pieces, Blob)

StateSnapshot = Mapping[str, Any]
"""References to the state of every table at one moment; only `StateTables` looks inside."""


def _open(spec: TableSpec) -> AnyTable:
    match spec.kind:
        case "keyed":
            return KeyedLevels(spec)
        case "rows":
            return Pieces(spec)
        case "blob":
            return Blob(spec)


class StateTables:
    """The `Tables` that an engine gives to a task.

    Everything held is immutable, so `snapshot`, `restore` and `parts` are references and cost
    nothing, and a checkpoint can write them while steps go on.

    Args:
        specs: The operator's declared tables.

    Attributes:
        watermark: The operator's input watermark, microseconds.
        clock: The step's clock, microseconds.
        specs: The declared tables by name.

    Example:
        >>> import polars as pl
        >>> schema = pl.Schema({"k": pl.String, "n": pl.Int64})
        >>> tables = StateTables([TableSpec("seen", "keyed", schema, key=("k",))])
        >>> tables.keyed("seen").upsert(pl.DataFrame({"k": ["a"], "n": [1]}))
        >>> tables.keyed("seen").lookup(pl.DataFrame({"k": ["a", "b"]})).rows()
        [(1, True), (None, False)]
    """

    def __init__(self, specs: Iterable[TableSpec] = ()) -> None:
        self.watermark = BEGINNING
        self.clock = BEGINNING
        declared = tuple(specs)
        self.specs = {spec.name: spec for spec in declared}
        if len(self.specs) != len(declared):
            raise BugError(f"two tables of one name among {[spec.name for spec in declared]}")
        self._tables = {name: _open(spec) for name, spec in self.specs.items()}

    def keyed(self, name: str) -> KeyedLevels:
        """Return the declared keyed table `name`."""
        return self._of(name, KeyedLevels)

    def rows(self, name: str) -> Pieces:
        """Return the declared rows table `name`."""
        return self._of(name, Pieces)

    def blob(self, name: str) -> Blob:
        """Return the declared blob table `name`."""
        return self._of(name, Blob)

    def row_counts(self) -> dict[str, int]:
        """Return rows held, by table."""
        return {name: table.rows for name, table in self._tables.items()}

    def byte_counts(self) -> dict[str, int]:
        """Return estimated memory in bytes, indices included, by table."""
        return {name: table.size_bytes for name, table in self._tables.items()}

    def snapshot(self) -> StateSnapshot:
        """Return references to the present state. Cost: O(tables)."""
        return {name: table.snapshot() for name, table in self._tables.items()}

    def restore(self, snapshot: StateSnapshot) -> None:
        """Go back to a state that `snapshot` returned. Cost: O(tables)."""
        for name, table in self._tables.items():
            table.restore(snapshot[name])

    def parts(self) -> dict[str, tuple[Part, ...]]:
        """Return the immutable pieces of every table, in order, for a checkpoint. A piece that
        has not changed since an earlier call is the same object.
        """
        return {name: table.parts() for name, table in self._tables.items()}

    def load(self, parts: Mapping[str, Sequence[Part]]) -> None:
        """Restore exactly what `parts` returned, so that later results are the same bits. A
        table without parts becomes empty.

        Raises:
            StateError: Parts name a table that is not declared, or do not fit its columns.
        """
        unknown = sorted(set(parts) - set(self._tables))
        if unknown:
            raise StateError(
                f"stored state names tables {unknown} that the operator does not declare",
                hint="give the operator another name, or drop its state",
            )
        for name, table in self._tables.items():
            table.load(parts.get(name, ()))

    def _of(self, name: str, kind: type[_Table]) -> _Table:
        table = self._tables.get(name)
        if not isinstance(table, kind):
            raise BugError(f"no {kind.__name__} table {name!r} was declared", hint=f"{self.specs}")
        return table
