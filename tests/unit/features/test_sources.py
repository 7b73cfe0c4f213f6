"""Every source gives the same answers from the real thing, and fails as it says."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import polars as pl
import pytest
import redis

import headrace as hr
from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.features import asker
from headrace.features.asker import Asker
from headrace.features.source import FeatureSource, times_of
from tests.conftest import missing
from tests.unit.features.servers import (
    FeatureService,
    postgres_programs,
    postgres_server,
    redis_server,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEATURES = pl.Schema(
    {"visits": pl.Int64(), "rate": pl.Float64(), "is_new": pl.Boolean(), "city": pl.String()}
)
KNOWN: dict[str, tuple[Any, ...]] = {
    "ann": (7, 0.25, False, "Oslo", NOON),
    "bob": (0, None, True, "Ålesund", NOON - timedelta(hours=2)),
}
ASKED = ["ann", "carl", "bob", "ann", None]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server") or missing("redis-server (make services)")
    with redis_server(program, tmp_path_factory.mktemp("redis")) as url:
        client = redis.Redis.from_url(url)
        for user, (visits, rate, is_new, city, at) in KNOWN.items():
            fields: dict[Any, Any] = {
                "visits": visits,
                "is_new": int(is_new),
                "city": city,
                "at": at.timestamp(),
            }
            client.hset(f"user:{user}", mapping=fields)
            if rate is not None:
                client.hset(f"user:{user}", "rate", str(rate))
        client.set("user:text", "no hash")
        client.close()
        yield url


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    programs = postgres_programs() or missing("PostgreSQL (make services)")
    with postgres_server(programs) as url:
        run_sql(
            url,
            'CREATE SCHEMA store; CREATE TABLE store."users of today" ("user" text PRIMARY KEY, '
            "visits bigint, rate numeric, is_new boolean, city text, at timestamptz); "
            'CREATE VIEW slow AS SELECT * FROM store."users of today" '
            "WHERE pg_sleep(3)::text IS NOT NULL",
        )
        for user, values in KNOWN.items():
            run_sql(
                url,
                'INSERT INTO store."users of today" VALUES ($1, $2, $3, $4, $5, $6)',
                user,
                *values,
            )
        yield url


@pytest.fixture
def service() -> FeatureService:
    served = FeatureService()
    names = [*FEATURES, "at"]
    served.rows = {
        user: dict(zip(names, (*values[:-1], values[-1].isoformat()), strict=True))
        for user, values in KNOWN.items()
    }
    return served


@pytest.fixture
def http_url(service: FeatureService) -> Iterator[str]:
    with service.serve() as url:
        yield url


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker, "_FIRST_PAUSE_S", 0.0)


def run_sql(url: str, text: str, *values: Any) -> None:
    library = import_module("asyncpg")

    async def run() -> None:
        connection = await library.connect(url)
        try:
            await connection.execute(text, *values)
        finally:
            await connection.close()

    asyncio.run(run())


def common(updated: bool = True) -> dict[str, Any]:
    return {"key": ("user",), "features": FEATURES, "updated": "at" if updated else None}


@pytest.fixture(params=["redis", "postgres", "http", "static"])
def source(request: pytest.FixtureRequest) -> FeatureSource:
    if request.param == "static":
        rows = pl.DataFrame(
            [(user, *values) for user, values in KNOWN.items()],
            schema={"user": pl.String, **FEATURES, "at": TIME_DTYPE},
            orient="row",
        )
        return hr.features.static(rows, key="user", updated="at")
    url = request.getfixturevalue(f"{request.param}_url")
    if request.param == "redis":
        return hr.features.redis(url=url, name="user:{user}", **common())
    if request.param == "postgres":
        return hr.features.postgres(url=url, table="store.users of today", **common())
    return hr.features.http(url=url, **common())


def enriched(source: FeatureSource, users: list[str | None], **options: Any) -> pl.DataFrame:
    app = hr.App("features")
    schema = {"who": pl.String, "time": TIME_DTYPE}
    topic = app.topic("rows", schema, time="time")
    app.output("read", topic.enrich(source, on={"who": "user"}, timeout="10s", **options))
    rows = pl.DataFrame({"who": users, "time": [NOON + timedelta(minutes=1)] * len(users)}).cast(
        {"time": TIME_DTYPE}
    )
    return hr.testing.run(app, {"rows": rows})["read"]


def test_every_source_gives_what_it_knows(source: FeatureSource) -> None:
    read = enriched(source, ASKED, default={"rate": -1.0})

    assert read["who"].to_list() == ASKED
    assert read.drop("who", "time").rows() == [
        (7, 0.25, False, "Oslo", "source"),
        (None, -1.0, None, None, "missing"),
        (0, -1.0, True, "Ålesund", "source"),
        (7, 0.25, False, "Oslo", "source"),
        (None, -1.0, None, None, "missing"),
    ]


def test_what_is_too_old_does_not_count(source: FeatureSource) -> None:
    read = enriched(source, ASKED, default={"visits": -1}, max_age="1h")

    assert read.select("visits", "city", "features_from").rows() == [
        (7, "Oslo", "source"),
        (-1, None, "missing"),
        (-1, None, "stale"),
        (7, "Oslo", "source"),
        (-1, None, "missing"),
    ]


def test_a_source_reads_what_it_wrote_of_itself(source: FeatureSource) -> None:
    from headrace.features.source import dump_source, read_source

    again = read_source(dump_source(source))

    assert again == source
    assert enriched(again, ["bob"])["visits"].to_list() == [0]


def test_a_source_that_refuses_gives_defaults_and_says_so(
    redis_url: str, postgres_url: str
) -> None:
    wrong = [
        hr.features.redis(url=redis_url, name="user:{user}", **common()),
        hr.features.postgres(url=postgres_url, table="gone", **common()),
        hr.features.redis(url="redis://127.0.0.1:1/0", name="user:{user}", **common()),
        hr.features.postgres(url="postgresql://hr@127.0.0.1:1/gone", table="t", **common()),
        hr.features.http(url="http://127.0.0.1:1/", **common()),
    ]

    for source in wrong:
        read = enriched(source, ["text"], default={"visits": 0})

        assert read.select("visits", "features_from").rows() == [(0, "error")], source


@pytest.mark.parametrize(("status", "shorten"), [(500, False), (200, True)])
def test_an_answer_that_is_not_as_agreed_is_an_error(
    service: FeatureService, http_url: str, status: int, *, shorten: bool
) -> None:
    service.status, service.shorten = status, shorten

    read = enriched(hr.features.http(url=http_url, **common()), ["ann"])

    assert read["features_from"].to_list() == ["error"]


def test_a_source_that_hangs_is_not_waited_for_and_is_asked_again_when_it_answers(
    service: FeatureService, http_url: str
) -> None:
    one = Asker(hr.features.http(url=http_url, **common()))
    keys = pl.DataFrame({"user": ["ann"]})
    service.hold.clear()

    assert one.ask(keys, 0.05) == "time-out"
    assert one.ask(keys, 0.05) == "busy"
    service.hold.set()
    deadline = time.monotonic() + 10
    while isinstance(answer := one.ask(keys, 10), str) and time.monotonic() < deadline:
        threading.Event().wait(0.01)

    assert isinstance(answer, pl.DataFrame)
    assert answer["visits"].to_list() == [7]
    assert len(service.asked) == 2


def test_after_a_failure_a_source_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, service: FeatureService, http_url: str
) -> None:
    monkeypatch.setattr(asker, "_FIRST_PAUSE_S", 1000.0)
    one = Asker(hr.features.http(url=http_url, **common()))
    service.status = 503

    answers = [one.ask(pl.DataFrame({"user": ["ann"]}), 10) for _ in range(3)]

    assert answers == ["error", "busy", "busy"]
    assert len(service.asked) == 1
    assert "503" in one.reason


def test_a_slow_query_is_a_time_out(postgres_url: str) -> None:
    source = hr.features.postgres(url=postgres_url, table="slow", seconds=0.5, **common())

    answer = Asker(source).ask(pl.DataFrame({"user": ["ann"]}), 0.05)

    assert answer == "time-out"


def test_a_batch_asks_once_for_its_different_keys(service: FeatureService, http_url: str) -> None:
    enriched(hr.features.http(url=http_url, **common()), ["ann", "bob", "ann", None])

    assert service.asked == [
        {"keys": [{"user": "ann"}, {"user": "bob"}], "features": list(FEATURES)}
    ]


def test_secrets_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, service: FeatureService, http_url: str
) -> None:
    monkeypatch.setenv("FEATURE_TOKEN", "s3cret")
    source = hr.features.http(
        url=http_url, headers={"authorization": "Bearer ${FEATURE_TOKEN}"}, **common()
    )

    enriched(source, ["ann"])
    monkeypatch.delenv("FEATURE_TOKEN")

    assert service.tokens == ["Bearer s3cret"]
    assert "s3cret" not in str(source)
    with pytest.raises(ConfigError, match="not set"):
        source.open()


def test_times_are_read_however_they_are_written() -> None:
    written = pl.Series(["1767268800", "1767268800.5", "2026-01-01T13:00:00+01:00", "soon", None])

    told = times_of(written)

    assert told.to_list() == [NOON, NOON + timedelta(seconds=0.5), NOON, None, None]
    assert times_of(pl.Series([1767268800])).to_list() == [NOON]
    assert times_of(pl.Series([datetime(2026, 1, 1, 12)])).to_list() == [NOON]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: hr.features.redis(url="redis://x", name="user", **common()), "where the key goes"),
        (lambda: hr.features.http(url="ftp://x", **common()), "no address"),
        (lambda: hr.features.postgres(url="x", table="a.b.c", **common()), "no table"),
        (lambda: hr.features.http(url="http://x", key=("user",), features={}), "needs features"),
        (
            lambda: hr.features.http(url="http://x", key=("a",), features={"a": pl.Int64}),
            "both a key and a feature",
        ),
        (lambda: hr.features.static(pl.DataFrame({"a": [1, 1], "b": [1, 2]}), key="a"), "one key"),
    ],
)
def test_a_source_that_cannot_be_is_refused(made: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        made()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_age": "1h"}, "when values were written"),
        ({"default": {"height": 1}}, "height"),
        ({"on": {"who": "name"}}, "knows entities by user"),
    ],
)
def test_a_question_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    rows = hr.App("a").topic("rows", {"who": pl.String, "time": TIME_DTYPE}, time="time")
    source = hr.features.http(url="http://127.0.0.1:1", **common(updated=False))

    with pytest.raises(PlanError, match=message):
        rows.enrich(source, **{"on": {"who": "user"}, **options})
