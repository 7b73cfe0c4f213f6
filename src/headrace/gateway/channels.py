"""Channels: one filter over one topic or table, encoded once for all who listen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import polars as pl

from headrace.codecs.json import encode_rows, rows_json
from headrace.core.log import DELETE, OP
from headrace.gateway.client import Message, Subscription

FrameOf = Callable[[str, dict[str, Any]], Any]


class Encoder(Protocol):
    """How rows look on the wire; each call returns JSON texts."""

    def rows(self, frame: pl.DataFrame, seq: int) -> list[bytes]:
        """New rows of a topic."""
        ...

    def snapshot(self, frame: pl.DataFrame, seq: int) -> list[bytes]:
        """All rows of a table, or the newest of a topic."""
        ...

    def changes(self, upserts: pl.DataFrame, deletes: pl.DataFrame, seq: int) -> list[bytes]:
        """Changes of a table: rows, and keys that are gone."""
        ...

    def lost(self, after: int, seq: int) -> list[bytes]:
        """A gap: what came after `after` cannot be told."""
        ...


class WireEncoder:
    """The protocol of `/ws`."""

    def __init__(self, channel: str, json_columns: frozenset[str]) -> None:
        self._channel = channel
        self._json = json_columns

    def rows(self, frame: pl.DataFrame, seq: int) -> list[bytes]:
        """Return a `rows` message."""
        return [self._head("rows", seq) + b',"rows":' + encode_rows(frame, self._json) + b"}"]

    def snapshot(self, frame: pl.DataFrame, seq: int) -> list[bytes]:
        """Return a `snapshot` message."""
        return [self._head("snapshot", seq) + b',"rows":' + encode_rows(frame, self._json) + b"}"]

    def changes(self, upserts: pl.DataFrame, deletes: pl.DataFrame, seq: int) -> list[bytes]:
        """Return a `changes` message; a key of several columns is an array."""
        body = b',"upserts":' + encode_rows(upserts, self._json) + b',"deletes":' + _keys(deletes)
        return [self._head("changes", seq) + body + b"}"]

    def lost(self, after: int, seq: int) -> list[bytes]:
        """Return a `lost` message."""
        body = {"op": "lost", "channel": self._channel, "from": after, "seq": seq}
        return [msgspec.json.encode(body)]

    def _head(self, op: str, seq: int) -> bytes:
        return msgspec.json.encode({"op": op, "channel": self._channel, "seq": seq})[:-1]


class SocketEncoder:
    """An application's own frames: its function is called once per row, not once per client."""

    def __init__(self, frame_of: FrameOf | None, json_columns: frozenset[str]) -> None:
        self._frame_of = frame_of or _default_frame
        self._json = json_columns

    def rows(self, frame: pl.DataFrame, seq: int) -> list[bytes]:  # noqa: ARG002 - its frames have none
        """Return a frame per row."""
        return self._each("row", frame)

    def snapshot(self, frame: pl.DataFrame, seq: int) -> list[bytes]:  # noqa: ARG002 - as above
        """Return a frame per row."""
        return self._each("snapshot", frame)

    def changes(self, upserts: pl.DataFrame, deletes: pl.DataFrame, seq: int) -> list[bytes]:  # noqa: ARG002 - as above
        """Return a frame per change."""
        return self._each("upsert", upserts) + self._each("delete", deletes)

    def lost(self, after: int, seq: int) -> list[bytes]:  # noqa: ARG002 - a snapshot follows
        """Return nothing: what follows stands for itself."""
        return []

    def _each(self, kind: str, frame: pl.DataFrame) -> list[bytes]:
        rows = msgspec.json.decode(msgspec.json.encode(rows_json(frame, self._json)))
        frames = (self._frame_of(kind, row) for row in rows)
        return [msgspec.json.encode(value) for value in frames if value is not None]


def _default_frame(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "data": row}


def _keys(deletes: pl.DataFrame) -> bytes:
    if deletes.width == 1:
        rows = msgspec.json.decode(encode_rows(deletes))
        return msgspec.json.encode([next(iter(row.values())) for row in rows])
    return msgspec.json.encode([list(row.values()) for row in rows_json(deletes)])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a channel carries; equal ones share it.

    Attributes:
        kind: `topic` or `table` (control tables are tables too).
        every_ms: Rows are gathered this long; 0 sends at once.
        socket: Path of an application's own socket, whose frames it sends; else empty.
    """

    kind: str
    name: str
    where: str = ""
    every_ms: int = 0
    socket: str = ""


class Channel:
    """One `Wanted` at work. `take`, `snapshot` and `changes` belong to the tail's thread,
    `listeners` and `broadcast` to the event loop.
    """

    def __init__(
        self, name: str, wanted: Wanted, where: pl.Expr | None, encoder: Encoder, key: Sequence[str]
    ) -> None:
        self.name = name
        self.wanted = wanted
        self.encoder = encoder
        self.key = list(key)
        self.listeners: dict[Subscription, None] = {}
        self.users = 0
        self.due_us: int | None = None
        self._where = where
        self._held: list[pl.DataFrame] = []
        self._members: pl.DataFrame | None = None
        self._snapshot: tuple[int, int | None, Message] | None = None

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that pass the filter."""
        return frame if self._where is None else frame.filter(self._where)

    def take(self, frame: pl.DataFrame, seq: int, now_us: int) -> Message | None:
        """Take new rows or changes; return what to send now."""
        if self.wanted.kind == "topic":
            frame = self.keep(frame)
        if not frame.height:
            return None
        if self.wanted.every_ms:
            self._held.append(frame)
            if self.due_us is None:
                self.due_us = now_us + self.wanted.every_ms * 1000
            return None
        return self._message(frame, seq)

    def flush(self, seq: int) -> Message | None:
        """Return what was gathered."""
        self.due_us = None
        if not self._held:
            return None
        frame, self._held = pl.concat(self._held), []
        return self._message(frame, seq)

    def begin(self, rows: pl.DataFrame) -> None:
        """Remember which keys pass the filter at the beginning."""
        if self._where is not None and self.wanted.kind == "table" and self._members is None:
            self._members = self.keep(rows).select(self.key)

    def snapshot(self, rows: pl.DataFrame, seq: int, limit: int | None) -> Message:
        """Return all rows as a message; the same for everyone who comes at this point."""
        if self._snapshot is not None and self._snapshot[:2] == (seq, limit):
            return self._snapshot[2]
        shown = rows if limit is None else rows.tail(limit)
        message = Message.of(self.encoder.snapshot(shown, seq), shown.height, seq)
        self._snapshot = (seq, limit, message)
        return message

    def newest_snapshot(self, seq: int, limit: int, read: Callable[[], pl.DataFrame]) -> Message:
        """Return a topic's newest rows as a message, read once for all who come at this point."""
        if self._snapshot is not None and self._snapshot[:2] == (seq, limit):
            return self._snapshot[2]
        return self.snapshot(read(), seq, limit)

    def _message(self, frame: pl.DataFrame, seq: int) -> Message | None:
        self._snapshot = None
        if self.wanted.kind == "topic":
            return Message.of(self.encoder.rows(frame, seq), frame.height, seq)
        return self.changes(frame, seq)

    def changes(
        self, frame: pl.DataFrame, seq: int, *, all_deletes: bool = False
    ) -> Message | None:
        """Return changelog rows as one message: the last change of each key.

        A key whose new row does not pass the filter is a delete, if it passed before.
        """
        last = frame.unique(self.key, keep="last", maintain_order=True)
        live = last.filter(pl.col(OP) != DELETE)
        upserts = self.keep(live)
        gone = last.filter(pl.col(OP) == DELETE).select(self.key)
        if self._where is not None:
            left = live.join(upserts.select(self.key), on=self.key, how="anti", nulls_equal=True)
            gone = pl.concat([gone, left.select(self.key)])
            if self._members is not None and not all_deletes:
                gone = gone.join(self._members, on=self.key, how="semi", nulls_equal=True)
                rest = self._members.join(
                    last.select(self.key), on=self.key, how="anti", nulls_equal=True
                )
                self._members = pl.concat([rest, upserts.select(self.key)])
        if not upserts.height and not gone.height:
            return None
        visible = [name for name in upserts.columns if not name.startswith("__")]
        payloads = self.encoder.changes(upserts.select(visible), gone, seq)
        return Message.of(payloads, upserts.height + gone.height, seq)

    def broadcast(self, message: Message) -> None:
        """Send a message to every listener."""
        for subscription in list(self.listeners):
            subscription.client.offer(subscription, message)
