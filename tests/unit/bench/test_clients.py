import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from headrace.bench.http_client import Request, connect, post
from headrace.bench.null_server import NullServer
from headrace.bench.websocket_client import subscribe

DEADLINE_S = 10.0


@asynccontextmanager
async def null_server() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(NullServer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_every_request_is_answered_in_order_on_one_connection() -> None:
    answered: list[int] = []
    finished = asyncio.Event()

    def done(request: Request, status: int, body: bytes) -> None:
        assert (status, body) == (202, b"{}")
        assert request.done_ns >= request.due_ns
        answered.append(request.number)
        if len(answered) == 50:
            finished.set()

    async with null_server() as port:
        (connection,) = await connect(port, 1, done)
        for number in range(50):
            wire = post("/topics/events", b"x" * (number * 3_000), f"key-{number}")
            connection.send(Request(wire, 1, number))
        assert connection.queued == 50
        await asyncio.wait_for(finished.wait(), DEADLINE_S)
        connection.close()
    assert answered == list(range(50))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
async def test_messages_of_every_length_arrive_whole(size: int) -> None:
    got: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def talk(socket: ServerConnection) -> None:
        asked.put_nowait(str(await socket.recv()))
        await (await socket.ping())
        await socket.send("a" * size)
        await socket.send(["frag", "ment", "s" * size])
        await socket.send("after")
        await socket.wait_closed()

    async with serve(talk, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        words = '{"op":"subscribe","id":"s1"}'
        members = await subscribe(
            port, 2, words, lambda n, message, _: got.put_nowait((n, message))
        )
        messages = [await asyncio.wait_for(got.get(), DEADLINE_S) for _ in range(6)]
        assert [await asked.get() for _ in members] == [words, words]
        assert not any(member.closed for member in members)
        expected = [b"a" * size, b"fragment" + b"s" * size, b"after"]
        for number in range(2):
            assert [message for who, message in messages if who == number] == expected
        for member in members:
            member.close()
