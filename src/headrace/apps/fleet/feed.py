"""Feeds the demonstration: a simulated fleet that reports over HTTP like a real one."""

from __future__ import annotations

import argparse
import json
import threading
import time
import uuid
from pathlib import Path

import httpx2
import numpy as np

from headrace.apps.fleet.rules import demo_rules
from headrace.apps.fleet.simulator import Simulator
from headrace.apps.fleet.zones import demo_zones
from headrace.runners.embedded.lifeline import stop_on_signal, stop_with_supervisor

ROUNDS_PER_S = 5
"""The fleet reports in this many groups a second, each vehicle once a second."""


def feed(url: str, simulator: Simulator, speed: float, stop: threading.Event) -> None:
    """Create the zones and rules and send positions until `stop` is set.

    Each vehicle reports once a second and moves `speed` times as fast as in life. Every request
    carries an Idempotency-Key and is repeated with the same key until it is answered.
    """
    with httpx2.Client(base_url=url, timeout=10) as client:
        for zone in demo_zones():
            body = zone.model_dump(mode="json", exclude_none=True)
            _until_answered(client, "POST", "/zones", json.dumps(body).encode(), stop)
        for rule in demo_rules():
            body = rule.model_dump(mode="json", by_alias=True, exclude_none=True)
            _until_answered(client, "POST", "/control/rules", json.dumps(body).encode(), stop)
        order = np.arange(simulator.vehicles)
        turn = 0
        due = time.monotonic()
        while not stop.is_set():
            simulator.advance(speed / ROUNDS_PER_S)
            group = order[turn % ROUNDS_PER_S :: ROUNDS_PER_S]
            turn += 1
            if group.size:
                rows = simulator.report(time.time_ns() // 1000, group)
                lines = rows.rename({"depth_m": "depth", "time": "timestamp"}).write_ndjson()
                _until_answered(
                    client,
                    "POST",
                    "/telemetry",
                    lines.encode(),
                    stop,
                    content_type="application/x-ndjson",
                )
            due += 1 / ROUNDS_PER_S
            late = time.monotonic() - due
            if late > 1:
                due += late
            stop.wait(max(0.0, due - time.monotonic()))


def _until_answered(
    client: httpx2.Client,
    method: str,
    path: str,
    body: bytes,
    stop: threading.Event,
    content_type: str = "application/json",
) -> None:
    headers = {"Content-Type": content_type, "Idempotency-Key": str(uuid.uuid4())}
    pause = 0.05
    while not stop.is_set():
        try:
            answer = client.request(method, path, content=body, headers=headers)
        except httpx2.HTTPError:
            pass
        else:
            if answer.status_code < 500 and answer.status_code != 429:  # noqa: PLR2004 - HTTP
                return
        stop.wait(pause)
        pause = min(2 * pause, 2.0)


def _gateway_url(data: Path, stop: threading.Event) -> str | None:
    """Wait until the gateway of `data` says where it listens."""
    while not stop.is_set():
        try:
            status = json.loads((data / "gateway-0" / "status.json").read_bytes())
            if status.get("port"):
                return f"http://{status['host']}:{status['port']}"
        except (OSError, ValueError, KeyError):
            pass
        stop.wait(0.05)
    return None


def main() -> None:
    """Run as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data directory of the gateway")
    parser.add_argument("--vehicles", type=int, default=60)
    parser.add_argument("--speed", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    stop = threading.Event()
    stop_on_signal(stop.set)
    stop_with_supervisor(stop.set)
    url = _gateway_url(chosen.data, stop)
    if url is not None:
        feed(url, Simulator(chosen.vehicles, chosen.seed), chosen.speed, stop)


if __name__ == "__main__":
    main()
