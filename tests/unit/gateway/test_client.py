import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.channels import Channel, Wanted, WireEncoder
from headrace.gateway.client import TOO_SLOW, Client, Message, Policy, Subscription
from headrace.gateway.frames import text_frame


class Pipe:
    """A connection that takes frames while it is open, like a peer that reads or does not."""

    def __init__(self) -> None:
        self.open = True
        self.got: list[dict[str, Any]] = []
        self.on_writable: Callable[[], None] | None = None

    @property
    def can_take(self) -> bool:
        return self.open

    def write_frame(self, frame: bytes) -> None:
        assert self.open
        start = {126: 4, 127: 10}.get(frame[1], 2)
        self.got.append(json.loads(frame[start:]))

    def read_on(self) -> None:
        self.open = True
        if self.on_writable is not None:
            self.on_writable()


class Setting:
    """One slow client of one channel, with a queue of three messages."""

    def __init__(self, policy: Policy) -> None:
        self.pipe = Pipe()
        self.asked: list[tuple[Subscription, int]] = []
        self.closed: list[int] = []
        self.client = Client(
            self.pipe,
            limit=3,
            catch_up=lambda subscription: self.asked.append((subscription, subscription.seq)),
            disconnect=lambda code, _: self.closed.append(code),
        )
        encoder = WireEncoder("c1", frozenset())
        self.channel = Channel("c1", Wanted("topic", "orders"), None, encoder, ())
        self.subscription = Subscription(self.client, self.channel, policy)
        self.channel.listeners[self.subscription] = None
        self.client.by_channel[self.channel] = self.subscription

    def send(self, seq: int) -> None:
        message = self.channel.take(pl.DataFrame({"n": [seq]}), seq, 0)
        assert message is not None
        self.channel.broadcast(message)

    def seen(self) -> list[Any]:
        return [
            message["rows"][0]["n"] if message["op"] == "rows" else message
            for message in self.pipe.got
        ]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_has_the_head_of_its_length(size: int) -> None:
    frame = text_frame(b"x" * size)
    head = 2 if size <= 125 else 4 if size <= 65_535 else 10

    assert frame[0] == 0x81
    assert len(frame) == head + size
    if head == 4:
        assert int.from_bytes(frame[2:4], "big") == size
    if head == 10:
        assert int.from_bytes(frame[2:10], "big") == size


def test_a_client_that_reads_gets_everything_at_once() -> None:
    setting = Setting("drop_oldest")
    for seq in (1, 2, 3):
        setting.send(seq)

    assert setting.seen() == [1, 2, 3]
    assert setting.subscription.seq == 3


def test_a_short_pause_loses_nothing() -> None:
    setting = Setting("drop_oldest")
    setting.pipe.open = False
    for seq in (1, 2, 3):
        setting.send(seq)
    setting.pipe.read_on()

    assert setting.seen() == [1, 2, 3]


def test_drop_oldest_lets_the_oldest_go_and_says_how_many() -> None:
    setting = Setting("drop_oldest")
    setting.pipe.open = False
    for seq in range(1, 8):
        setting.send(seq)
    setting.pipe.read_on()
    setting.send(8)

    assert setting.seen() == [{"op": "dropped", "channel": "c1", "count": 4}, 5, 6, 7, 8]


def test_answers_to_a_slow_client_are_never_dropped() -> None:
    setting = Setting("drop_oldest")
    setting.pipe.open = False
    setting.client.tell(b'{"op":"pong","t":1}')
    for seq in range(1, 8):
        setting.send(seq)
    setting.pipe.read_on()

    assert setting.seen()[0] == {"op": "pong", "t": 1}


def test_latest_lets_everything_go_and_asks_once_for_what_was_missed() -> None:
    setting = Setting("latest")
    setting.send(1)
    setting.pipe.open = False
    for seq in range(2, 10):
        setting.send(seq)
    setting.pipe.read_on()
    setting.client.drain()
    setting.send(10)

    assert setting.seen() == [1]
    assert setting.asked == [(setting.subscription, 1)]
    caught_up = Message.of([b'{"op":"rows","rows":[{"n":10}]}'], 1, 10)
    setting.client.caught_up(setting.subscription, [caught_up])
    setting.send(11)
    assert setting.seen() == [1, 10, 11]


def test_disconnect_closes_the_connection() -> None:
    setting = Setting("disconnect")
    setting.pipe.open = False
    for seq in range(5):
        setting.send(seq)

    assert setting.closed[0] == TOO_SLOW


def test_a_closed_client_gets_nothing_more() -> None:
    setting = Setting("drop_oldest")
    setting.client.close()
    setting.send(1)
    setting.client.tell(b"{}")

    assert setting.seen() == []


@given(st.lists(st.sampled_from(["send", "stop", "read"]), max_size=60))
def test_rows_seen_and_rows_dropped_are_all_rows_in_order(script: list[str]) -> None:
    setting = Setting("drop_oldest")
    sent = 0
    for step in script:
        if step == "send":
            sent += 1
            setting.send(sent)
        elif step == "stop":
            setting.pipe.open = False
        else:
            setting.pipe.read_on()
    setting.pipe.read_on()
    setting.send(sent + 1)

    expected = 1
    for entry in setting.seen():
        if isinstance(entry, dict):
            expected += entry["count"]
        else:
            assert entry == expected
            expected += 1
    assert expected == sent + 2


KEYS = st.sampled_from("abc")
CHANGES = st.lists(
    st.lists(st.tuples(KEYS, st.integers(0, 9), st.booleans()), min_size=1, max_size=4), max_size=8
)


@given(CHANGES, st.integers(0, 9))
def test_a_filtered_table_channel_keeps_its_clients_at_the_filtered_table(
    batches: list[list[tuple[str, int, bool]]], least: int
) -> None:
    encoder = WireEncoder("c1", frozenset())
    where = pl.col("n") >= least
    channel = Channel("c1", Wanted("table", "t", "n >= x"), where, encoder, ["k"])
    empty = pl.DataFrame(schema={"k": pl.String, "n": pl.Int64})
    channel.begin(empty)
    pipe = Pipe()
    client = Client(pipe, limit=100, catch_up=lambda _: None, disconnect=lambda *_: None)
    subscription = Subscription(client, channel, "latest")
    channel.listeners[subscription] = None
    table: dict[str, int] = {}
    for seq, batch in enumerate(batches):
        frame = pl.DataFrame(
            {
                "k": [key for key, _, _ in batch],
                "n": [None if gone else n for _, n, gone in batch],
                "__op": ["delete" if gone else "upsert" for _, _, gone in batch],
            },
            schema={"k": pl.String, "n": pl.Int64, "__op": pl.String},
        )
        for key, n, gone in batch:
            table.pop(key, None)
            if not gone:
                table[key] = n
        message = channel.take(frame, seq, 0)
        if message is not None:
            channel.broadcast(message)

    held: dict[str, int] = {}
    for told in pipe.got:
        for gone_key in told["deletes"]:
            assert gone_key in held
            del held[gone_key]
        held.update({row["k"]: row["n"] for row in told["upserts"]})
    assert held == {key: n for key, n in table.items() if n >= least}
