"""Models are swapped, killed and held up while rows come in: every row is scored exactly once."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from headrace.bench.processes import Server
from headrace.bench.tree_model import Trees
from headrace.models.source import content_version
from tests.crash.processes import wait_until

DEADLINE_S = 180.0

APP = """
import polars as pl

import headrace as hr

app = hr.App("rides")
columns = {"ride": pl.Int64, "time": pl.Datetime("us", "UTC"), "km": pl.Float64}
rides = app.topic("rides", columns, time="time")
fare = hr.model.treelite("MODEL", name="fare", features=["km"])
versions = app.watch_models([fare], every="1s")
told = rides.predict(fare, versions=versions, budget="30s", default=-1.0)
fares = app.output("fares", told, role="model")
app.output("copy", rides)
app.output("seen", fares.select("ride", "time"))
"""


class Rides:
    """The application, a row after the other, and what has come of them."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = httpx2.Client(timeout=30)
        self.sent = 0

    def close(self) -> None:
        self._http.close()

    def send(self, count: int = 5) -> None:
        rows = [
            {"ride": number, "time": "2026-01-01T00:00:00Z", "km": number % 7 / 3}
            for number in range(self.sent, self.sent + count)
        ]
        self._http.post(f"{self._server.url}/topics/rides", json=rows).raise_for_status()
        self.sent += count

    def rows(self, topic: str) -> list[dict[str, Any]]:
        answer = self._http.get(f"{self._server.url}/topics/{topic}", params={"limit": 1000})
        return list(answer.json()["rows"])

    def all_in(self, topic: str) -> list[dict[str, Any]]:
        def come() -> list[dict[str, Any]] | None:
            rows = self.rows(topic)
            return rows if len(rows) >= self.sent else None

        return wait_until(come, DEADLINE_S, f"{self.sent} rows in {topic}")

    def version_after(self, before: str) -> str:
        def changed() -> str | None:
            self.send(1)
            versions = {row["model_version"] for row in self.rows("fares")} - {before, None}
            return versions.pop() if versions else None

        return wait_until(changed, DEADLINE_S, "the new version")


def role_pid(data: Path) -> int:
    return int(json.loads((data / "engine-rides.model" / "status.json").read_text())["pid"])


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = Path(f"/proc/{pid}/task").iterdir()
    every = {*found, *(one for path in threads for one in (path / "children").read_text().split())}
    return sorted(int(one) for one in every)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_row_is_scored_once_whatever_happens_to_its_model(tmp_path: Path) -> None:
    path, data = tmp_path / "fare.tl", tmp_path / "data"
    Trees.random(5, 3, 1, seed=1).write_treelite(path)
    first = content_version(str(path))
    (tmp_path / "rides.py").write_text(APP.replace("MODEL", str(path)))

    server = Server(str(tmp_path / "rides.py"), data)
    server.start()
    try:
        server.wait_ready(DEADLINE_S)
        rides = Rides(server)
        rides.send()
        begun = rides.all_in("fares")
        new = Trees.random(5, 3, 1, seed=2).write_treelite(tmp_path / "new.tl")
        new.rename(path)
        second = rides.version_after(first)

        for pid in children(role_pid(data)):
            os.kill(pid, signal.SIGKILL)
        rides.send()
        rides.all_in("fares")

        os.kill(role_pid(data), signal.SIGSTOP)
        rides.send()
        rides.all_in("copy")
        behind = len(rides.rows("fares"))
        os.kill(role_pid(data), signal.SIGKILL)
        rides.send()
        seen, fares = rides.all_in("seen"), rides.all_in("fares")
        rides.close()
    finally:
        server.stop()

    numbers = list(range(rides.sent))
    assert {row["model_version"] for row in begun} == {first}
    assert second == content_version(str(path))
    assert behind < rides.sent - 5
    assert [row["ride"] for row in fares] == [row["ride"] for row in seen] == numbers
    assert {row["model_version"] for row in fares} <= {first, second, None}
    assert {row["fallback"] for row in fares} <= {None, "died", "not loaded"}
    assert fares[-1]["model_version"] == second
