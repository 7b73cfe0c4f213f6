"""Control tables: rows changed through the API, each with a version, kept as a changelog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl
from pydantic import ValidationError

from headrace.codecs.json import encode_row
from headrace.codecs.json_reader import JsonReader
from headrace.core.errors import ConflictError, ConstraintError, DecodeError, NotFoundError
from headrace.core.log import (
    DELETE,
    OP,
    UPSERT,
    Append,
    Reader,
    TopicPartition,
)
from headrace.core.schema import model_reason
from headrace.gateway.catalog import VERSION, control_changes
from headrace.gateway.work import Outcome
from headrace.plan.graph import ControlTableDecl

MAX_BYTES = 8 * 1024 * 1024
Key = tuple[Any, ...]


class PreconditionError(ConflictError):
    """The row is at another version than was asked for, e.g. `If-Match: "3"`."""

    code = "HR206"

    def __init__(self, message: str, *, hint: str = "", current: bytes = b"null") -> None:
        super().__init__(message, hint=hint)
        self.current = current


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as a frame of one row and its version; a deleted key keeps its version."""

    frame: pl.DataFrame
    version: int
    deleted: bool = False


class ControlTable:
    """One control table; all methods that change it run in the writer's thread."""

    def __init__(self, decl: ControlTableDecl) -> None:
        self.decl = decl
        self.name = decl.name
        self.key = decl.key
        self._stored = control_changes(decl)
        self._reader = JsonReader(decl.schema)
        self._rows: dict[Key, Entry] = {}
        self._staged: dict[Key, Entry] = {}

    def load(self, reader: Reader) -> None:
        """Read the whole changelog."""
        for at, info in reader.partitions([self.decl.changes]).items():
            offset = info.start
            while offset < info.end:
                batches = reader.read(TopicPartition(*at), offset, info.end - offset, MAX_BYTES)
                if not batches:
                    break
                for batch in batches:
                    self._apply(batch.frame)
                offset = batches[-1].end

    def _apply(self, frame: pl.DataFrame) -> None:
        columns = list(self.decl.schema.columns)
        for index in range(frame.height):
            row = frame[index : index + 1]
            key = self._key_of(row)
            rows = row.select(columns) if set(columns) <= set(row.columns) else row
            self._rows[key] = Entry(rows, row[VERSION][0], row[OP][0] == DELETE)

    def _key_of(self, row: pl.DataFrame) -> Key:
        return tuple(row[name][0] for name in self.key)

    def get(self, key: Key) -> Entry | None:
        """Return the committed row of `key`."""
        entry = self._rows.get(key)
        return None if entry is None or entry.deleted else entry

    def frame(self) -> pl.DataFrame:
        """Return all committed rows with their versions, by key."""
        live = [entry for entry in self._rows.values() if not entry.deleted]
        columns = pl.Schema({**self.decl.schema.columns, VERSION: pl.Int64()})
        if not live:
            return columns.to_frame()
        rows = pl.concat([entry.frame for entry in live])
        versions = pl.Series(VERSION, [entry.version for entry in live], dtype=pl.Int64)
        return rows.with_columns(versions).sort(list(self.key))

    def json(self, entry: Entry) -> bytes:
        """Return a row as JSON, with its version."""
        row = entry.frame.with_columns(pl.lit(entry.version, pl.Int64).alias(VERSION))
        return encode_row(row, self.decl.schema.json_columns)

    def parse(self, body: bytes) -> pl.DataFrame:
        """Return a JSON object as a checked row.

        Raises:
            DecodeError: It is no JSON object.
            ConstraintError: It breaks the table's model; the message says how.
        """
        schema = self.decl.schema
        if schema.model is not None:
            try:
                model = schema.model.model_validate_json(body)
            except ValidationError as error:
                kind = error.errors(include_url=False)[0]["type"]
                wrong = DecodeError if kind == "json_invalid" else ConstraintError
                raise wrong(f"{self.name}: {model_reason(error)}") from error
            row = schema.frame_of([model])
        else:
            decoded = self._reader.objects([body])
            if decoded.rejected.height:
                raise DecodeError(f"{self.name}: {decoded.rejected['reason'][0]}")
            row = decoded.frame
        good, rejected = schema.validate(row, key=self.key)
        if rejected.height:
            raise ConstraintError(f"{self.name}: {rejected['reason'][0]}")
        for check in self.decl.checks:
            check(good)
        return good

    def parse_named(self, row: Mapping[str, Any]) -> pl.DataFrame:
        """Return values by column name as a checked row; see `parse`."""
        return self.parse(self._encoded(row))

    # -- changes, in the writer's thread ------------------------------------------------------

    def put(
        self, row: pl.DataFrame, if_version: int | None, *, create: bool = False
    ) -> Callable[[int], tuple[Sequence[Append], Outcome]]:
        """Return the work that creates or replaces a row; with `create` it must be new.

        Raises (when it runs):
            ConflictError: There is one already.
            PreconditionError: It is at another version.
        """
        key = self._key_of(row)

        def prepare(now: int) -> tuple[Sequence[Append], Outcome]:
            before = self._latest(key)
            self._expect(key, before, if_version)
            exists = before is not None and not before.deleted
            if create and exists:
                raise ConflictError(
                    f"{self.name} {_text(key)} exists already", hint="PUT replaces it"
                )
            return self._change(key, row, before, now, 200 if exists else 201)

        return prepare

    def patch(
        self, key: Key, body: bytes, if_version: int | None
    ) -> Callable[[int], tuple[Sequence[Append], Outcome]]:
        """Return the work that changes some columns of a row.

        Raises (when it runs):
            NotFoundError: There is no such row.
            ConstraintError: The changed row breaks the model, or the key would change.
            PreconditionError: It is at another version.
        """

        def prepare(now: int) -> tuple[Sequence[Append], Outcome]:
            before = self._existing(key)
            self._expect(key, before, if_version)
            row = self.parse(self._merged(before, body))
            if self._key_of(row) != key:
                raise ConstraintError("a key cannot change", hint="PUT the row under the new key")
            return self._change(key, row, before, now, 200)

        return prepare

    def delete(
        self, key: Key, if_version: int | None
    ) -> Callable[[int], tuple[Sequence[Append], Outcome]]:
        """Return the work that removes a row.

        Raises (when it runs):
            NotFoundError: There is no such row.
            PreconditionError: It is at another version.
        """

        def prepare(now: int) -> tuple[Sequence[Append], Outcome]:
            before = self._existing(key)
            self._expect(key, before, if_version)
            gone = Entry(before.frame, before.version + 1, deleted=True)
            self._staged[key] = gone
            empty = before.frame.select(
                pl.col(name) if name in self.key else pl.lit(None, dtype).alias(name)
                for name, dtype in self.decl.schema.columns.items()
            )
            return [self._append(empty, DELETE, gone.version, now)], Outcome(204, b"")

        return prepare

    def settle(self, durable: bool) -> None:
        """Take over what was staged, or forget it."""
        if durable:
            # A new dictionary: readers in other threads go through the old one undisturbed.
            self._rows = {**self._rows, **self._staged}
        self._staged = {}

    def _change(
        self, key: Key, row: pl.DataFrame, before: Entry | None, now: int, status: int
    ) -> tuple[Sequence[Append], Outcome]:
        entry = Entry(row, 1 if before is None else before.version + 1)
        self._staged[key] = entry
        return [self._append(row, UPSERT, entry.version, now)], Outcome(status, self.json(entry))

    def _append(self, row: pl.DataFrame, op: str, version: int, now: int) -> Append:
        stored = row.with_columns(
            pl.lit(op).alias(OP), pl.lit(version, pl.Int64).alias(VERSION)
        ).select(list(self._stored))
        return Append(self.decl.changes, 0, stored, 1, None, now)

    def _merged(self, before: Entry, body: bytes) -> bytes:
        try:
            changes = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DecodeError(f"the body is no JSON object: {error}") from error
        aliases = self.decl.schema.aliases
        renamed = {aliases.get(name, name): value for name, value in changes.items()}
        present = msgspec.json.decode(
            encode_row(before.frame, self.decl.schema.json_columns), type=dict[str, msgspec.Raw]
        )
        return self._encoded({**present, **renamed})

    def _encoded(self, named: Mapping[str, Any]) -> bytes:
        """Return a row by column names as JSON that `parse` takes."""
        # A model is given its own names: the first alias, where it has one.
        outside = {
            column: alias for alias, column in reversed(list(self.decl.schema.aliases.items()))
        }
        model = self.decl.schema.model
        if model is not None and not model.model_config.get("populate_by_name"):
            named = {outside.get(name, name): value for name, value in named.items()}
        return msgspec.json.encode(named)

    def _latest(self, key: Key) -> Entry | None:
        return self._staged.get(key) or self._rows.get(key)

    def _existing(self, key: Key) -> Entry:
        entry = self._latest(key)
        if entry is None or entry.deleted:
            raise NotFoundError(f"{self.name} has no row {_text(key)}")
        return entry

    def _expect(self, key: Key, before: Entry | None, version: int | None) -> None:
        present = before.version if before is not None and not before.deleted else 0
        if version is not None and version != present:
            found = b"null" if not present or before is None else self.json(before)
            raise PreconditionError(
                f"{self.name} {_text(key)} is at version {present}, not {version}",
                hint="read it again and decide again",
                current=found,
            )


def control_tables(decls: Mapping[str, ControlTableDecl]) -> dict[str, ControlTable]:
    """Return all control tables, empty."""
    return {name: ControlTable(decl) for name, decl in decls.items()}


def _text(key: Key) -> str:
    return "/".join(str(part) for part in key)
