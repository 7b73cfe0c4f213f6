"""`headrace topics`: what a gateway holds."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from headrace.cli.client import ask


def list_topics(url: str) -> None:
    """Print topics, tables and control tables with their columns."""
    described = ask(url, "/app")
    shown = Table("name", "kind", "key", "time", "columns", box=None, pad_edge=False)
    for group, kind in (("topics", "topic"), ("tables", "table"), ("control_tables", "control")):
        for name, about in sorted(described[group].items()):
            columns = ", ".join(column["name"] for column in about["columns"])
            key = about.get("key")
            shown.add_row(
                name,
                kind,
                key if isinstance(key, str) else ", ".join(key or ()),
                about.get("time") or "",
                columns,
            )
    Console().print(shown)
