import asyncio
import io
import json
from typing import Any

import polars as pl
import pytest

from headrace.codecs.arrow import encode_rows
from headrace.core.log import Log, TopicPartition
from headrace.core.settings import GatewaySettings
from headrace.stream.app import App
from tests.unit.gateway.conftest import Run, Serve

ROW = {"order": "a", "time": "2026-01-01T00:00:00Z", "euro": 2.5, "items": 1}
ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"


def dead(log: Log) -> list[dict[str, Any]]:
    batches = log.reader().read(TopicPartition("orders.dead", 0), 0, 1000, 1 << 20)
    return [row for batch in batches for row in batch.frame.rows(named=True)]


async def test_rows_are_in_the_topic_when_the_answer_comes(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        answer = await http.post("/topics/orders", json=ROW)
        page = (await http.get("/topics/orders")).json()

    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 1,
        "rejected": 0,
        "offsets": [{"partition": 0, "from": 0, "to": 1}],
        "reasons": [],
        "ignored": [],
    }
    assert page["rows"] == [{**ROW, "time": "2026-01-01T00:00:00+00:00"}]
    assert page["next"] == page["end"]


@pytest.mark.parametrize("kind", ["array", "ndjson", "arrow"])
async def test_many_rows_come_as_array_lines_or_arrow(app: App, serve: Serve, kind: str) -> None:
    rows = [{**ROW, "items": index} for index in range(1000)]
    async with serve(app) as http:
        if kind == "array":
            answer = await http.post("/topics/orders", json=rows)
        elif kind == "ndjson":
            body = "\n".join(json.dumps(row) for row in rows)
            answer = await http.post(
                "/topics/orders", content=body, headers={"content-type": NDJSON}
            )
        else:
            frame = pl.DataFrame(rows).with_columns(pl.col("time").str.to_datetime(time_zone="UTC"))
            answer = await http.post(
                "/topics/orders", content=encode_rows(frame), headers={"content-type": ARROW}
            )
        page = (await http.get("/topics/orders", params={"limit": 600})).json()
        rest = (await http.get("/topics/orders", params={"from": page["next"]})).json()

    assert answer.json()["accepted"] == 1000
    assert [row["items"] for row in page["rows"] + rest["rows"]] == list(range(1000))
    assert page["next"] != page["end"] == rest["next"]


async def test_bad_rows_are_dead_letters_and_good_ones_are_kept(
    app: App, serve: Serve, log: Log
) -> None:
    rows = [ROW, {**ROW, "items": 1.5}, {**ROW, "order": None}, {**ROW, "time": "soon"}, ROW, 7]
    async with serve(app) as http:
        answer = (await http.post("/topics/orders", json=rows)).json()

    assert (answer["accepted"], answer["rejected"]) == (2, 4)
    assert answer["reasons"] == [
        {"index": 1, "reason": "items: Expected int | null, got float"},
        {"index": 2, "reason": "order is missing"},
        {"index": 3, "reason": "time is not a time: write RFC 3339, 2026-01-01T00:00:00Z"},
        {"index": 5, "reason": "Expected object, got int"},
    ]
    letters = dead(log)
    assert [letter["reason"] for letter in letters] == [r["reason"] for r in answer["reasons"]]
    assert json.loads(letters[1]["payload"]) == rows[2]
    assert {letter["topic"] for letter in letters} == {"orders"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1", b"nonsense", b"\xff\xfe", b'{"euro": NaN}', b"{} {}"]
)
async def test_a_body_that_is_no_json_is_answered_and_kept(
    app: App, serve: Serve, log: Log, body: bytes
) -> None:
    async with serve(app) as http:
        answer = await http.post("/topics/orders", content=body)

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "HR201"
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (0, 1)
    assert [letter["payload"] for letter in dead(log)] == [body.decode(errors="replace")]


async def test_a_damaged_arrow_stream_is_answered(app: App, serve: Serve, log: Log) -> None:
    whole = io.BytesIO()
    pl.DataFrame({"order": ["a"]}).write_ipc_stream(whole)
    async with serve(app) as http:
        for body in (b"x" * 100, whole.getvalue()[:-20], b""):
            answer = await http.post(
                "/topics/orders", content=body, headers={"content-type": ARROW}
            )
            assert answer.status_code in {202, 422}
            assert answer.json()["accepted"] == 0

    assert len(dead(log)) >= 2


async def test_unknown_columns_are_ignored_and_named(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        one = await http.post("/topics/orders", json={**ROW, "colour": "red", "by": 1})
        many = await http.post("/topics/orders", json=[{**ROW, "colour": "red"}])

    assert one.json()["ignored"] == ["by", "colour"]
    assert many.json()["ignored"] == ["colour"]


async def test_what_cannot_be_taken_is_refused_with_its_status(app: App, serve: Serve) -> None:
    settings = GatewaySettings(max_body_bytes=1000)
    async with serve(app, settings=settings) as http:
        large = await http.post("/topics/orders", content=b" " * 1001)
        kind = await http.post("/topics/orders", content=b"x", headers={"content-type": "text/css"})
        packed = await http.post(
            "/topics/orders", content=b"x", headers={"content-encoding": "gzip"}
        )
        missing = await http.post("/topics/none", json=ROW)
        output = await http.post("/topics/orders.dead", json=ROW)

    assert large.status_code == 413
    assert kind.status_code == packed.status_code == 415
    assert missing.status_code == output.status_code == 404
    assert missing.json()["error"] == {
        "code": "HR204",
        "message": "there is no input topic 'none'",
        "hint": "rows go to orders",
    }


async def test_a_body_without_length_is_cut_at_the_limit(app: App, serve: Serve) -> None:
    async def chunks() -> Any:
        for _ in range(5):
            yield b" " * 500

    async with serve(app, settings=GatewaySettings(max_body_bytes=1000)) as http:
        answer = await http.post("/topics/orders", content=chunks())

    assert answer.status_code == 413


async def test_a_repeated_key_gets_the_first_answer_byte_for_byte(app: App, serve: Serve) -> None:
    headers = {"idempotency-key": "k1"}
    async with serve(app) as http:
        first = await http.post("/topics/orders", json=ROW, headers=headers)
        again = await http.post("/topics/orders", json=ROW, headers=headers)
        other = await http.post("/topics/orders", json={**ROW, "items": 9}, headers=headers)
        page = (await http.get("/topics/orders")).json()

    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert other.status_code == 409
    assert len(page["rows"]) == 1


async def test_a_repeated_key_adds_no_second_dead_letter(app: App, serve: Serve, log: Log) -> None:
    headers = {"idempotency-key": "k1"}
    async with serve(app) as http:
        answers = [
            await http.post("/topics/orders", content=b"{", headers=headers) for _ in range(2)
        ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert answers[0].content == answers[1].content
    assert len(dead(log)) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_an_impossible_key_is_refused(app: App, serve: Serve, key: str) -> None:
    async with serve(app) as http:
        answer = await http.post("/topics/orders", json=ROW, headers={"idempotency-key": key})

    assert answer.status_code == 422


async def test_a_page_of_nothing_is_empty(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        page = (await http.get("/topics/orders")).json()
        bad = await http.get("/topics/orders", params={"from": "nonsense"})
        none = await http.get("/topics/none")
        limit = await http.get("/topics/orders", params={"limit": 0})

    assert page["rows"] == []
    assert page["next"] == page["end"]
    assert bad.status_code == 422
    assert none.status_code == 404
    assert limit.status_code == 422
    assert limit.json()["error"]["message"].startswith("limit:")


async def test_a_body_that_stops_arriving_is_given_up(app: App, run: Run) -> None:
    settings = GatewaySettings(body_timeout="100ms")
    async with run(app, settings=settings) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        head = "POST /topics/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        writer.write(head.encode())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"}}")
        writer.close()
        well = await live.http.post("/topics/orders", json=ROW)

    assert answer.startswith(b"HTTP/1.1 408")
    assert well.status_code == 202


async def test_a_body_of_a_hundred_megabytes_is_refused_and_others_are_served(
    app: App, run: Run
) -> None:
    async with run(app) as live:
        large = asyncio.create_task(live.http.post("/topics/orders", content=b" " * (100 << 20)))
        small = [await live.http.post("/topics/orders", json=ROW) for _ in range(5)]
        refused = await large

    assert {answer.status_code for answer in small} == {202}
    assert refused.status_code == 413
    assert "larger than" in refused.json()["error"]["message"]


async def test_requests_at_once_share_commits_and_keep_their_own_answers(
    app: App, run: Run, log: Log
) -> None:
    async with run(app) as live:
        answers = await asyncio.gather(
            *(
                live.http.post("/topics/orders", json={**ROW, "items": index if index % 7 else "x"})
                for index in range(200)
            ),
            *(
                live.http.post("/topics/orders", json=ROW, headers={"idempotency-key": "same"})
                for _ in range(20)
            ),
        )
        groups = live.gateway.core.committer.groups

    good = [answer.json() for answer in answers[:200] if answer.json()["accepted"]]
    places = {answer["offsets"][0]["from"] for answer in good}
    batches = log.reader().read(TopicPartition("orders", 0), 0, 1000, 1 << 24)
    rows = [row for batch in batches for row in batch.frame["items"].to_list()]
    assert len(good) == len(places) == 171
    assert sum(not answer.json()["accepted"] for answer in answers[:200]) == 29
    assert len({answer.content for answer in answers[200:]}) == 1
    assert len(rows) == 172
    assert groups < 220


async def test_a_look_at_the_log_that_fails_does_not_end_the_writing(app: App, run: Run) -> None:
    async with run(app) as live:
        committer = live.gateway.core.committer
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look(_writer: object) -> None:
            loop.call_soon_threadsafe(looked.set)
            raise RuntimeError("a status that cannot be read")

        committer._on_idle = look  # noqa: SLF001 - as a damaged status file would
        async with asyncio.timeout(10):
            await looked.wait()
        answer = await live.http.post("/topics/orders", json=ROW)

    assert answer.status_code == 202
