"""Brings clients and channels together: subscribe, resume, catch up, leave."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import polars as pl

from headrace.core.errors import LostRangeError
from headrace.core.log import OP, Batch
from headrace.gateway.catalog import Catalog
from headrace.gateway.channels import Channel, Encoder, SocketEncoder, Wanted, WireEncoder
from headrace.gateway.client import Client, Message, Policy, Subscription
from headrace.gateway.table_state import ARRIVED, TableState
from headrace.gateway.tail import Feed, Tail
from headrace.plan.expressions import condition
from headrace.runners.embedded.sources import conform
from headrace.stream.surface import Socket

DEFAULT_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One subscription as asked for.

    Attributes:
        after: Sequence number to resume after; None begins with a snapshot if `snapshot`.
        limit: Most rows of a snapshot.
    """

    id: str
    wanted: Wanted
    policy: Policy
    after: int | None = None
    snapshot: bool = True
    limit: int | None = None
    announce: bool = True


class Hub:
    """Subscriptions of all clients.

    Args:
        catalog: What there is.
        tables: Their states.
        snapshot_rows: Most rows of a snapshot.
        sockets: The application's own sockets by path.
        clock: The engine's clock in microseconds, for rows past their time to live.
    """

    def __init__(
        self,
        catalog: Catalog,
        tables: dict[str, TableState],
        *,
        snapshot_rows: int,
        sockets: dict[str, Socket],
        clock: Callable[[], int | None],
    ) -> None:
        self._catalog = catalog
        self._tables = tables
        self._snapshot_rows = snapshot_rows
        self._sockets = sockets
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tail: Tail | None = None
        self._channels: dict[Wanted, Channel] = {}
        self._numbers = itertools.count(1)
        self.clients: dict[Client, None] = {}

    def open(self, loop: asyncio.AbstractEventLoop, tail: Tail) -> None:
        """Begin to serve, in `loop`, what `tail` follows."""
        self._loop, self._tail = loop, tail

    def deliver(self, channel: Channel, message: Message) -> None:
        """Send a message to all of a channel; called from the tail's thread."""
        self._in_loop(channel.broadcast, message)

    def subscribe(self, client: Client, request: Request) -> None:
        """Attach `client` to what it asked for.

        Raises:
            NotFoundError: There is no such topic or table.
            ConditionError: The filter is wrong.
        """
        where = self._where(request.wanted)
        self._post(partial(self._attach, client, request, where))

    def unsubscribe(self, client: Client, name: str) -> bool:
        """End the subscription `name`; say whether there was one."""
        subscription = client.by_id.pop(name, None)
        if subscription is None:
            return False
        subscription.ids.discard(name)
        if not subscription.ids:
            self._leave(subscription)
        return True

    def gone(self, client: Client) -> None:
        """Forget a client whose connection ended."""
        client.close()
        self.clients.pop(client, None)
        for subscription in list(client.by_channel.values()):
            self._leave(subscription)

    def catch_up(self, subscription: Subscription) -> None:
        """Send a stale subscription what it missed, as one message."""
        # Until the answer comes nothing else is queued for it.
        self._post(partial(self._missed, subscription, subscription.seq))

    def _leave(self, subscription: Subscription) -> None:
        subscription.channel.listeners.pop(subscription, None)
        subscription.client.by_channel.pop(subscription.channel, None)
        self._post(partial(self._release, subscription.channel))

    def _where(self, wanted: Wanted) -> pl.Expr | None:
        if wanted.kind == "table":
            if wanted.name not in self._tables:
                self._catalog.table(wanted.name)
            columns = self._tables[wanted.name].columns
        else:
            columns = self._catalog.topic(wanted.name).schema.columns
        return condition(wanted.where, columns) if wanted.where else None

    # -- in the tail's thread -----------------------------------------------------------------

    def _attach(self, client: Client, request: Request, where: pl.Expr | None) -> None:
        channel = self._channel(request.wanted, where)
        channel.users += 1
        self._following.flush(channel)
        seq = self._following.seq_of(channel)
        messages = self._first(channel, request)
        told = self._subscribed(channel, request, seq) if request.announce else None
        self._in_loop(self._attached, client, request, channel, told, messages)

    def _channel(self, wanted: Wanted, where: pl.Expr | None) -> Channel:
        channel = self._channels.get(wanted)
        if channel is not None:
            return channel
        name = f"c{next(self._numbers)}"
        if wanted.kind == "table":
            state = self._tables[wanted.name]
            encoder = self._encoder(wanted, name, state.json_columns)
            channel = Channel(name, wanted, where, encoder, state.key)
            channel.begin(state.frame())
            self._following.table_channels[wanted.name][channel] = None
        else:
            entry = self._catalog.topic(wanted.name)
            encoder = self._encoder(wanted, name, entry.schema.json_columns)
            channel = Channel(name, wanted, where, encoder, entry.key)
            self._following.follow(entry).channels[channel] = None
        self._channels[wanted] = channel
        return channel

    def _encoder(self, wanted: Wanted, name: str, json_columns: frozenset[str]) -> Encoder:
        if wanted.socket:
            return SocketEncoder(self._sockets[wanted.socket].frame, json_columns)
        return WireEncoder(name, json_columns)

    def _release(self, channel: Channel) -> None:
        channel.users -= 1
        if channel.users:
            return
        self._channels.pop(channel.wanted, None)
        name = channel.wanted.name
        if channel.wanted.kind == "table":
            self._following.table_channels[name].pop(channel, None)
        elif name in self._following.feeds:
            self._following.feeds[name].channels.pop(channel, None)
            self._following.unfollow(name)

    def _first(self, channel: Channel, request: Request) -> list[Message]:
        """Return what a new subscription gets first."""
        if request.after is not None:
            resumed = self._resumed(channel, request.after)
            if resumed is not None:
                return resumed
            seq = self._following.seq_of(channel)
            gap = Message.of(channel.encoder.lost(request.after, seq), 0, seq)
            return [gap, self._snapshot(channel, request.limit)]
        return [self._snapshot(channel, request.limit)] if request.snapshot else []

    def _snapshot(self, channel: Channel, limit: int | None) -> Message:
        wanted = channel.wanted
        if wanted.kind == "table":
            state = self._tables[wanted.name]
            bound = self._snapshot_rows if limit is None else min(limit, self._snapshot_rows)
            rows = channel.keep(state.frame(self._clock()))
            return channel.snapshot(rows, state.seq, bound)
        feed = self._following.feeds[wanted.name]
        bound = min(DEFAULT_ROWS if limit is None else limit, self._snapshot_rows)
        return channel.newest_snapshot(
            feed.seq, bound, partial(self._following.newest, feed, channel, bound)
        )

    def _resumed(self, channel: Channel, after: int) -> list[Message] | None:
        """Return what came after a sequence number, None where that cannot be told."""
        try:
            if channel.wanted.kind == "table":
                return self._resumed_table(channel, self._tables[channel.wanted.name], after)
            return self._resumed_topic(channel, self._following.feeds[channel.wanted.name], after)
        except LostRangeError:
            return None

    def _resumed_topic(self, channel: Channel, feed: Feed, after: int) -> list[Message] | None:
        start = feed.at(after)
        if start is None:
            return None
        batches = self._following.between(feed.entry.name, start, feed.positions)
        rows = _frame(batches, feed.entry.schema.columns)
        if rows.height > self._snapshot_rows:
            return None
        rows = channel.keep(rows)
        if not rows.height:
            return []
        return [Message.of(channel.encoder.rows(rows, feed.seq), rows.height, feed.seq)]

    def _resumed_table(
        self, channel: Channel, state: TableState, after: int
    ) -> list[Message] | None:
        if len(state.positions) > 1 or not 0 <= after <= state.seq:
            return [] if after == state.seq else None
        start = dict.fromkeys(state.positions, after)
        columns = pl.Schema({**state.columns, OP: pl.String()})
        batches = self._following.between(state.topic, start, state.positions)
        rows = _frame(batches, columns).with_columns(pl.lit(None, pl.Int64).alias(ARRIVED))
        message = channel.changes(rows, state.seq, all_deletes=True) if rows.height else None
        return [] if message is None else [message]

    def _missed(self, subscription: Subscription, after: int) -> None:
        channel = subscription.channel
        if channel.wanted not in self._channels:
            return
        self._following.flush(channel)
        if channel.wanted.kind == "topic" and channel.key:
            messages = self._latest_of_topic(channel, after)
        else:
            messages = self._resumed(channel, after) or [self._snapshot(channel, None)]
        self._in_loop(subscription.client.caught_up, subscription, messages)

    def _latest_of_topic(self, channel: Channel, after: int) -> list[Message]:
        """Return the last row of each key since `after`, and how many rows that leaves out."""
        feed = self._following.feeds[channel.wanted.name]
        start = feed.at(after)
        if start is None:
            return [self._snapshot(channel, None)]
        try:
            batches = self._following.between(feed.entry.name, start, feed.positions)
        except LostRangeError:
            return [self._snapshot(channel, None)]
        rows = channel.keep(_frame(batches, feed.entry.schema.columns))
        last = rows.unique(channel.key, keep="last", maintain_order=True)
        messages = []
        if last.height < rows.height:
            dropped = {
                "op": "dropped",
                "channel": channel.name,
                "count": rows.height - last.height,
            }
            messages.append(Message.of([msgspec.json.encode(dropped)], 0, after))
        if last.height:
            payloads = channel.encoder.rows(last, feed.seq)
            messages.append(Message.of(payloads, last.height, feed.seq))
        return messages

    def _subscribed(self, channel: Channel, request: Request, seq: int) -> bytes:
        if channel.wanted.kind == "table":
            columns = self._tables[channel.wanted.name].columns
        else:
            columns = self._catalog.topic(channel.wanted.name).schema.columns
        key: Any = channel.key[0] if len(channel.key) == 1 else channel.key or None
        body = {
            "op": "subscribed",
            "id": request.id,
            "channel": channel.name,
            "seq": seq,
            "columns": columns_json(columns),
            "key": key,
        }
        return msgspec.json.encode(body)

    # -- in the event loop --------------------------------------------------------------------

    def _attached(
        self,
        client: Client,
        request: Request,
        channel: Channel,
        told: bytes | None,
        messages: list[Message],
    ) -> None:
        if client.closed or request.id in client.by_id:
            self._post(partial(self._release, channel))
            return
        subscription = client.by_channel.get(channel)
        if subscription is None:
            subscription = Subscription(client, channel, request.policy)
            client.by_channel[channel] = subscription
            channel.listeners[subscription] = None
        else:
            self._post(partial(self._release, channel))
        subscription.ids.add(request.id)
        client.by_id[request.id] = subscription
        if told is not None:
            client.tell(told)
        client.caught_up(subscription, messages)

    @property
    def _following(self) -> Tail:
        assert self._tail is not None  # noqa: S101 - opened before anyone can subscribe
        return self._tail

    def _post(self, command: Callable[[], None]) -> None:
        if self._tail is not None:
            self._tail.post(command)

    def _in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call, *arguments)


def columns_json(columns: pl.Schema) -> list[dict[str, str]]:
    """Return columns as the dashboard reads them."""
    return [
        {"name": name, "type": str(dtype)}
        for name, dtype in columns.items()
        if not name.startswith("__")
    ]


def _frame(batches: list[Batch], columns: pl.Schema) -> pl.DataFrame:
    frames = [conform(batch.frame, columns) for batch in batches]
    return pl.concat(frames) if frames else columns.to_frame()
