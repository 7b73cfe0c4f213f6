"""Engine and gateway are killed while rows come in: n in, n out, none lost, none twice."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from headrace.apps.fleet.app import app
from headrace.testing.run import run
from tests.crash.processes import Fleet, Killer, running_fleet, wait_until
from tests.crash.voyage import ROWS, ZONES, Voyage

KILLS = int(os.environ.get("HEADRACE_KILLS", "3"))
SEED = int(os.environ.get("HEADRACE_SEED", "1"))
ROWS_PER_REQUEST = 100
MANY = 10
COMPARED = {
    "violations": ("auv_id", "time", "zone_id", "severity", "reason", "message", "zone_ids"),
    "analytics": ("auv_id", "time", "latitude", "longitude", "depth_m", "zone_ids", "is_late"),
    "zone_events": ("auv_id", "time", "zone_id", "event", "dwell_s"),
}


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(600 + 60 * KILLS)
def test_no_row_is_lost_or_doubled_when_processes_are_killed(tmp_path: Path) -> None:
    voyage = Voyage.sail(SEED)

    with running_fleet(tmp_path) as fleet:
        put_zones(fleet)
        answers = ingest(fleet, voyage, kills=KILLS)
        outputs = settled_outputs(fleet)
        arrived = fleet.rows("positions")
        table = fleet.get("/tables/status")["rows"]

    numbers = [voyage.number(row["time"]) for row in arrived]
    assert each_once(numbers)
    for request, answer in enumerate(answers):
        first = request * ROWS_PER_REQUEST
        # Every answer, also a repeated one, says where its rows lie.
        assert [
            number for part in answer["offsets"] for number in numbers[part["from"] : part["to"]]
        ] == list(range(first, first + ROWS_PER_REQUEST))
    judged = [voyage.number(row["time"]) for row in outputs["violations"] + outputs["analytics"]]
    assert each_once(judged)
    undisturbed = expected_outputs(voyage)
    for topic, columns in COMPARED.items():
        ours, theirs = (by_vehicle(rows[topic], columns) for rows in (outputs, undisturbed))
        assert ours == theirs, topic
    assert {row["auv_id"]: moment(row["time"]) for row in table} == newest(voyage)
    assert windows_come_once(outputs["activity"], "window_start")
    assert windows_come_once(outputs["zone_stats"], "zone_id", "window_start")
    events = logged(fleet.log)
    assert len(fleet.killed) >= KILLS
    replayed = sum(e.get("steps", 0) for e in events if e["event"] == "engine.recovered")
    # A kill right after a checkpoint leaves nothing to replay, but not all of many are that lucky.
    assert replayed or KILLS < MANY
    assert not [event for event in events if "HR404" in json.dumps(event)]


def put_zones(fleet: Fleet) -> None:
    for zone in ZONES:
        fleet.post("/zones", zone, key=f"zone-{zone['zone_id']}")


def ingest(fleet: Fleet, voyage: Voyage, kills: int) -> list[dict[str, Any]]:
    """Send every row, each request under its own key until it is answered."""
    bodies = voyage.bodies(ROWS_PER_REQUEST)
    killer = Killer(fleet, kills, len(bodies) - 1, SEED)
    answers = []
    try:
        for number, body in enumerate(bodies):
            killer.before(number)
            answers.append(fleet.post("/telemetry", body, key=f"request-{number}"))
    finally:
        killer.join()
    return answers


def settled_outputs(fleet: Fleet) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every output once each row sent has been judged."""

    def settled() -> dict[str, list[dict[str, Any]]] | None:
        outputs = {topic: fleet.rows(topic) for topic in ("violations", "analytics")}
        return outputs if sum(map(len, outputs.values())) >= ROWS else None

    outputs = wait_until(settled, 180, "judging every row")
    fleet.wait_ready()
    more = ("zone_events", "activity", "zone_stats")
    return outputs | {topic: fleet.rows(topic) for topic in more}


def expected_outputs(voyage: Voyage) -> dict[str, list[dict[str, Any]]]:
    """Run the same rows through the same application, in memory and undisturbed."""
    zones = pl.DataFrame([zone | {"geometry": json.dumps(zone["geometry"])} for zone in ZONES])
    answers = run(app, {"zones": zones, "positions": voyage.frame})
    return {topic: answers[topic].to_dicts() for topic in COMPARED}


def by_vehicle(
    rows: list[dict[str, Any]], columns: tuple[str, ...]
) -> dict[str, list[tuple[str, ...]]]:
    """Return each vehicle's rows in order, in the columns that are compared."""
    tracks = defaultdict(list)
    for row in rows:
        values = row | {"time": moment(row["time"])}
        tracks[row["auv_id"]].append(tuple(json.dumps(values[column]) for column in columns))
    return tracks


def moment(time: str | datetime) -> float:
    return (datetime.fromisoformat(time) if isinstance(time, str) else time).timestamp()


def newest(voyage: Voyage) -> dict[str, float]:
    last = voyage.frame.group_by("auv_id").agg(pl.col("time").max())
    return {vehicle: moment(time) for vehicle, time in last.iter_rows()}


def each_once(numbers: Any) -> bool:
    counts = Counter(numbers)
    lost = [number for number in range(ROWS) if number not in counts]
    doubled = [number for number, count in counts.items() if count > 1]
    assert not lost, f"{len(lost)} rows lost, the first are {lost[:5]}"
    assert not doubled, f"{len(doubled)} rows doubled, the first are {doubled[:5]}"
    return len(counts) == ROWS


def windows_come_once(rows: list[dict[str, Any]], *key: str) -> bool:
    counts = Counter(tuple(row[name] for name in key) for row in rows)
    return bool(counts) and max(counts.values()) == 1


def logged(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
