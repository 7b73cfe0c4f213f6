"""One WebSocket client: what it subscribed to, and a bounded queue for when it is slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

import msgspec

from headrace.gateway.frames import text_frame

if TYPE_CHECKING:
    from headrace.gateway.channels import Channel

Policy = Literal["latest", "drop_oldest", "disconnect"]

MAX_QUEUED_BYTES: Final = 8 * 1024 * 1024
TOO_SLOW: Final = 4008
"""Close code for a client whose policy is `disconnect`."""


class Message(NamedTuple):
    """Finished frames for everyone on a channel.

    Attributes:
        frames: Encoded once.
        size: Their bytes.
        rows: Rows they carry.
        seq: The channel's sequence number after them.
    """

    frames: tuple[bytes, ...]
    size: int
    rows: int
    seq: int

    @classmethod
    def of(cls, payloads: list[bytes], rows: int, seq: int) -> Message:
        """Frame some JSON texts."""
        frames = tuple(text_frame(payload) for payload in payloads)
        return cls(frames, sum(map(len, frames)), rows, seq)


class Outlet(Protocol):
    """Where frames of one connection go."""

    on_writable: Callable[[], None] | None

    @property
    def can_take(self) -> bool:
        """Whether a frame goes out now."""
        ...

    def write_frame(self, frame: bytes) -> None:
        """Send a frame."""
        ...


@dataclass(eq=False, slots=True)
class Subscription:
    """A client's part in a channel.

    Attributes:
        ids: The client's names for it; it ends with the last.
        seq: How far the client is, queued messages not counted.
        dropped: Rows dropped since the client was last told.
        stale: Its queued messages were let go; it needs one that catches up.
        asked: That one was asked for.
    """

    client: Client
    channel: Channel
    policy: Policy
    ids: set[str] = field(default_factory=set)
    seq: int = 0
    dropped: int = 0
    stale: bool = False
    asked: bool = False


class Client:
    """Lives in the event loop.

    Args:
        outlet: Its connection.
        limit: Messages it may be behind.
        catch_up: Asks for everything a stale subscription missed, as one message.
        disconnect: Closes its connection.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        limit: int,
        catch_up: Callable[[Subscription], None],
        disconnect: Callable[[int, str], None],
    ) -> None:
        self._outlet = outlet
        self._limit = limit
        self._catch_up = catch_up
        self._disconnect = disconnect
        self._queue: deque[tuple[Subscription | None, Message]] = deque()
        self._queued_bytes = 0
        self.by_channel: dict[Channel, Subscription] = {}
        self.by_id: dict[str, Subscription] = {}
        self.closed = False
        outlet.on_writable = self.drain

    def offer(self, subscription: Subscription, message: Message) -> None:
        """Send a channel's message now, or queue it by the subscription's policy."""
        if self.closed or subscription.stale:
            return
        if not self._queue and not subscription.dropped and self._outlet.can_take:
            for frame in message.frames:
                self._outlet.write_frame(frame)
            subscription.seq = message.seq
            return
        self._queue.append((subscription, message))
        self._queued_bytes += message.size
        if len(self._queue) > self._limit or self._queued_bytes > MAX_QUEUED_BYTES:
            self._overflow(subscription)
        self.drain()

    def tell(self, payload: bytes) -> None:
        """Send an answer meant for this client alone; answers are never dropped."""
        if self.closed:
            return
        message = Message.of([payload], 0, 0)
        if not self._queue and self._outlet.can_take:
            self._outlet.write_frame(message.frames[0])
            return
        self._queue.append((None, message))
        self.drain()

    def drain(self) -> None:
        """Send what waits while the connection takes it."""
        while self._queue and self._outlet.can_take and not self.closed:
            subscription, message = self._queue.popleft()
            self._queued_bytes -= message.size
            if subscription is not None:
                self._tell_dropped(subscription)
                subscription.seq = max(subscription.seq, message.seq)
            for frame in message.frames:
                self._outlet.write_frame(frame)
        if not self._queue and not self.closed:
            for subscription in self.by_channel.values():
                if subscription.stale and not subscription.asked:
                    subscription.asked = True
                    self._catch_up(subscription)

    def _tell_dropped(self, subscription: Subscription) -> None:
        if subscription.dropped:
            body = {
                "op": "dropped",
                "channel": subscription.channel.name,
                "count": subscription.dropped,
            }
            subscription.dropped = 0
            self._outlet.write_frame(text_frame(msgspec.json.encode(body)))

    def _overflow(self, subscription: Subscription) -> None:
        if subscription.policy == "disconnect":
            self._disconnect(TOO_SLOW, "too slow")
        elif subscription.policy == "latest":
            self._forget(subscription)
            subscription.stale = True
        else:
            self._drop_oldest(subscription)

    def _drop_oldest(self, newest: Subscription) -> None:
        """Let go of the oldest messages that may be dropped until the queue fits."""
        kept: deque[tuple[Subscription | None, Message]] = deque()
        excess = len(self._queue) - self._limit
        surplus = self._queued_bytes - MAX_QUEUED_BYTES
        for owner, message in self._queue:
            droppable = owner is not None and (owner.policy == "drop_oldest" or owner is newest)
            if owner is not None and droppable and (excess > 0 or surplus > 0):
                owner.dropped += message.rows
                excess -= 1
                surplus -= message.size
                self._queued_bytes -= message.size
            else:
                kept.append((owner, message))
        self._queue = kept

    def _forget(self, subscription: Subscription) -> None:
        kept = [entry for entry in self._queue if entry[0] is not subscription]
        self._queued_bytes = sum(message.size for _, message in kept)
        self._queue = deque(kept)

    def caught_up(self, subscription: Subscription, messages: list[Message]) -> None:
        """Send what a subscription missed; from here on it is live again."""
        subscription.stale = subscription.asked = False
        for message in messages:
            self._queue.append((subscription, message))
            self._queued_bytes += message.size
        self.drain()

    def close(self) -> None:
        """Forget everything: the connection is gone."""
        self.closed = True
        self._queue.clear()
        self._outlet.on_writable = None
