"""`headrace top`: a running application at a glance."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.cli.client import ask

REFRESH_S = 1.0


def show_top(url: str) -> None:
    """Show health, rates and lag until interrupted.

    Raises:
        ConnectError: Nobody answers at `url`.
    """
    with Live(_screen(url), refresh_per_second=4) as live:
        while True:
            time.sleep(REFRESH_S)
            live.update(_screen(url))


def _screen(url: str) -> Group:
    health, stats = ask(url, "/health"), ask(url, "/stats")
    style = {"healthy": "green", "degraded": "yellow"}.get(health["status"], "red")
    head = Text.assemble(
        (health["status"], style),
        f"   clock {stats.get('clock') or '-'}",
        f"   {_number(stats.get('rows_per_s'))} rows/s",
        f"   p95 {_number(stats.get('p95_ms'))} ms",
        f"   lag {_number(stats.get('lag_ms'))} ms",
        f"   late {_number(stats.get('late'))}",
        f"   dropped {_number(stats.get('dropped'))}",
        f"   dead {_number(stats.get('dead'))}",
    )
    checks = Table("component", "status", "detail", box=None, pad_edge=False)
    for name, check in health["checks"].items():
        checks.add_row(name, check["status"], str(check.get("detail") or ""))
    topics = Table("topic", "rows", "rows/s", "dead", box=None, pad_edge=False)
    for name, topic in sorted((stats.get("topics") or {}).items()):
        topics.add_row(
            name,
            _number(topic.get("rows")),
            _number(topic.get("rows_per_s")),
            _number(topic.get("dead")),
        )
    return Group(head, Text(), checks, Text(), topics)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
