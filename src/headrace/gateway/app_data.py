"""An application's data as its own handlers see it (`headrace.stream.data.Data`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec
import polars as pl

from headrace.codecs.json import encode_row, encode_rows
from headrace.core.errors import (
    ConflictError,
    ConstraintError,
    HeadraceError,
    NotFoundError,
    StorageFullError,
)
from headrace.core.log import Reader, TopicPartition
from headrace.gateway.catalog import VERSION, TopicEntry
from headrace.gateway.control import ControlTable
from headrace.gateway.core import Core
from headrace.gateway.forward import send
from headrace.gateway.intake import Form, Intake
from headrace.gateway.keys import key_values
from headrace.gateway.newest import newest_first
from headrace.gateway.reading import MAX_BYTES
from headrace.gateway.stage import Stage
from headrace.gateway.work import Change, Outcome, Rows
from headrace.plan.expressions import condition
from headrace.plan.graph import Plan
from headrace.runners.embedded.sources import conform
from headrace.stream.data import Data, Key, Published, Recent, Rehearsal, Versioned

_REFUSALS: Final[dict[int, type[HeadraceError]]] = {
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    507: StorageFullError,
}
COUNTS: Final = 64
"""Conditions whose matches are counted and kept up to date; the least used is forgotten."""


class AppData(Data):
    """Works on a running gateway."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._intakes: dict[str, Intake] = {}
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._stage = Stage(core)

    async def publish(
        self, topic: str, rows: pl.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> Published:
        """Append rows to an input topic and return when they are durable."""
        self._core.limits.check(topic)
        if topic not in self._intakes:
            entry = self._core.catalog.topic(topic)
            if entry.role != "input":
                raise NotFoundError(f"{topic!r} is no input topic")
            self._intakes[topic] = Intake(entry)
        form: Form = "frame"
        body: pl.DataFrame | bytes
        if isinstance(rows, pl.DataFrame):
            body, size = rows, int(rows.estimated_size())
        else:
            form = "object" if isinstance(rows, Mapping) else "array"
            body = msgspec.json.encode(rows)
            size = len(body)
        outcome = await self._core.submit(Rows(self._intakes[topic], form, body, size))
        answer = msgspec.json.decode(outcome.body)
        return Published(
            accepted=answer["accepted"],
            rejected=answer["rejected"],
            offsets=answer["offsets"],
            reasons=answer["reasons"],
            ignored=answer["ignored"],
        )

    async def recent(
        self, topic: str, *, where: str = "", limit: int = 100, before: str | None = None
    ) -> Recent:
        """Read the newest rows of a topic that match a SQL condition, newest first."""
        entry = self._core.catalog.topic(topic)
        columns = entry.schema.columns
        keep = condition(where, columns) if where else None
        rows, older = await self._core.readers.run(
            partial(
                newest_first,
                topic=topic,
                columns=columns,
                keep=lambda frame: frame if keep is None else frame.filter(keep),
                limit=limit,
                before=before,
            )
        )
        total = await self._core.readers.run(partial(self._total, entry=entry, where=where))
        return Recent(rows, total, older)

    def _total(self, reader: Reader, entry: TopicEntry, where: str) -> int:
        """Return how many rows match: counted once, then only what is new."""
        key = (entry.name, where)
        count = self._counts.get(key)
        if count is None:
            keep = condition(where, entry.schema.columns) if where else None
            count = self._counts[key] = _Count(entry, keep)
            while len(self._counts) > COUNTS:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return count.total(reader)

    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """Return a table's or control table's row, None where there is none."""
        parts = key if isinstance(key, tuple | list) else (key,)
        if table in self._core.catalog.controls:
            decl = self._core.catalog.controls[table]
            values = key_values(parts, decl.key, decl.schema.columns)
            body = self._core.control_row(table, values)
            return None if body is None else _object(body)
        self._core.catalog.table(table)
        state = self._core.tables[table]
        row = state.get(key_values(parts, state.key, state.columns), self._core.engine_clock())
        return None if row is None else _object(encode_row(row))

    def scan(
        self, table: str, *, where: str = "", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Return rows of a table or control table that match a SQL condition."""
        rows = self.frame(table)
        if where:
            rows = rows.filter(condition(where, rows.schema))
        shown = rows if limit is None else rows.head(limit)
        controls = self._core.catalog.controls
        texts = controls[table].schema.json_columns if table in controls else frozenset()
        found: list[dict[str, Any]] = msgspec.json.decode(encode_rows(shown, texts))
        return found

    def frame(self, table: str) -> pl.DataFrame:
        """Return all live rows of a table or control table as a frame."""
        if table in self._core.catalog.controls:
            return self._core.control_frame(table)
        self._core.catalog.table(table)
        return self._core.tables[table].frame(self._core.engine_clock())

    async def put(
        self, table: str, row: Mapping[str, Any], *, if_version: int | None = None
    ) -> Versioned:
        """Create or replace a control table's row."""
        body = msgspec.json.encode(row)
        if self._core.slot != 0:
            return await self._put_elsewhere(table, body, if_version)
        found = self._core.control(table)
        # Nothing may be there: that is creating, and a row in the way is a conflict.
        prepare = found.put(found.parse(body), if_version or None, create=if_version == 0)
        return versioned(await self._change(found, prepare))

    async def patch(
        self, table: str, key: Key, changes: Mapping[str, Any], *, if_version: int | None = None
    ) -> Versioned:
        """Change some columns of a control table's row."""
        body = msgspec.json.encode(changes)
        if self._core.slot != 0:
            path = self._path(table, self._control_key(table, key))
            return versioned(await self._elsewhere("PATCH", path, body, if_version))
        found = self._core.control(table)
        prepare = found.patch(self._control_key(table, key), body, if_version)
        return versioned(await self._change(found, prepare))

    async def delete(self, table: str, key: Key, *, if_version: int | None = None) -> None:
        """Remove a control table's row."""
        if self._core.slot != 0:
            path = self._path(table, self._control_key(table, key))
            await self._elsewhere("DELETE", path, b"", if_version)
            return
        found = self._core.control(table)
        await self._change(found, found.delete(self._control_key(table, key), if_version))

    async def rehearse(
        self, plan: Plan, controls: Mapping[str, pl.DataFrame], *, span: str, limit: int
    ) -> Rehearsal:
        """Run a plan over the newest stored rows of its topics; nothing is written."""
        return await self._stage.run(plan, controls, span=span, limit=limit)

    async def _put_elsewhere(self, table: str, body: bytes, if_version: int | None) -> Versioned:
        decl = self._core.catalog.control(table)
        if if_version == 0:
            return versioned(await self._elsewhere("POST", f"/control/{table}", body, None))
        row = self._core.controls[table].parse(body)
        path = self._path(table, tuple(row[name][0] for name in decl.key))
        return versioned(await self._elsewhere("PUT", path, body, if_version))

    def _path(self, table: str, key: tuple[Any, ...]) -> str:
        return f"/control/{table}/" + "/".join(quote(str(part), safe="") for part in key)

    async def _elsewhere(
        self, method: str, path: str, body: bytes, if_version: int | None
    ) -> Outcome:
        """Have the gateway of slot 0 make a change; its refusals are ours."""
        headers = {"content-type": "application/json"}
        if if_version is not None:
            headers["if-match"] = f'"{if_version}"'
        answer = await send(self._core, method, path, body, headers)
        if answer.is_success:
            return Outcome(answer.status_code, answer.content)
        error = answer.json()["error"]
        kind = _REFUSALS.get(answer.status_code, ConstraintError)
        raise kind(error["message"], hint=error["hint"])

    def _control_key(self, table: str, key: Key) -> tuple[Any, ...]:
        decl = self._core.catalog.control(table)
        parts = key if isinstance(key, tuple | list) else (key,)
        return key_values(parts, decl.key, decl.schema.columns)

    async def _change(self, table: ControlTable, prepare: Any) -> Outcome:
        return await self._core.submit(Change(prepare, table.settle))


class _Count:
    """Rows of a topic that match, counted up to some place in each partition."""

    def __init__(self, entry: TopicEntry, keep: pl.Expr | None) -> None:
        self._entry = entry
        self._keep = keep
        self._places: dict[int, tuple[str, int, int]] = {}

    def total(self, reader: Reader) -> int:
        """Count what came since the last call; return all."""
        for at, info in reader.partitions([self._entry.name]).items():
            incarnation, offset, rows = self._places.get(at.partition, (info.incarnation, 0, 0))
            if incarnation != info.incarnation:
                offset, rows = 0, 0
            offset = max(offset, info.start)
            if self._keep is None:
                self._places[at.partition] = (info.incarnation, info.end, rows + info.end - offset)
                continue
            offset, rows = self._read(reader, at, offset, info.end, rows)
            self._places[at.partition] = (info.incarnation, offset, rows)
        return sum(rows for _, _, rows in self._places.values())

    def _read(
        self, reader: Reader, at: TopicPartition, offset: int, end: int, rows: int
    ) -> tuple[int, int]:
        while offset < end:
            batches = reader.read(at, offset, end - offset, MAX_BYTES)
            if not batches:
                break
            for batch in batches:
                frame = conform(batch.frame, self._entry.schema.columns)
                rows += frame.filter(self._keep).height if self._keep is not None else frame.height
            offset = batches[-1].end
        return offset, rows


def _object(body: bytes) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.json.decode(body)
    return row


def versioned(outcome: Outcome) -> Versioned:
    """Return the row and version of an answer to a change."""
    row = _object(outcome.body)
    version = row.pop(VERSION)
    return Versioned(row, version, created=outcome.status == 201)  # noqa: PLR2004 - HTTP's word
