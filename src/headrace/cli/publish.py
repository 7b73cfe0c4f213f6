"""`headrace publish`: a file's rows into a topic, or its records into a control table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import polars as pl
import typer

from headrace.cli.client import ask, checked
from headrace.cli.files import is_geojson, json_lines, mapped, read_features, read_rows
from headrace.core.errors import ConfigError, ConnectError

ROWS_PER_REQUEST = 5_000


def publish_file(topic: str, file: Path, url: str, mapping: Sequence[str] = ()) -> None:
    """Send all rows of `file`; print how many were taken.

    Raises:
        ConfigError: There is no such topic, or the file does not fit it.
        ConnectError: Nobody answers at `url`.
    """
    described = ask(url, "/app")
    if topic in described["control_tables"]:
        count = _put_records(url, topic, described["control_tables"][topic], file)
        typer.echo(f"{count} records in {topic}")
        return
    rows = mapped(read_rows(file), mapping, columns_of(described, topic))
    with httpx2.Client(base_url=url, timeout=30) as client:
        sender = Sender(client, topic, file)
        for start in range(0, rows.height, ROWS_PER_REQUEST):
            sender.send(start, rows.slice(start, ROWS_PER_REQUEST))
    typer.echo(sender.summary())


def columns_of(described: dict[str, Any], topic: str) -> dict[str, str]:
    """Return an input topic's columns and types from what `GET /app` says.

    Raises:
        ConfigError: There is no such topic.
    """
    if topic not in described["topics"]:
        raise ConfigError(
            f"{described['app']} has no topic {topic!r}",
            hint=f"it has {', '.join(described['topics'])}",
        )
    return {column["name"]: column["type"] for column in described["topics"][topic]["columns"]}


class Sender:
    """Sends slices of a file, each under a key that a repeated run would use again."""

    def __init__(self, client: httpx2.Client, topic: str, file: Path) -> None:
        self._client = client
        self._topic = topic
        with file.open("rb") as handle:
            self._identity = hashlib.file_digest(handle, "sha256").hexdigest()[:24]
        self.accepted = 0
        self.rejected = 0
        self._reason = ""

    def send(self, start: int, rows: pl.DataFrame) -> None:
        """Send `rows`, which begin at row `start` of the file; wait while there is no room.

        Raises:
            DataError: The gateway refuses them.
            ConnectError: Nobody answers any more.
        """
        body = json_lines(rows)
        content = hashlib.sha256(body).hexdigest()[:16]
        headers = {
            "Content-Type": "application/x-ndjson",
            "Idempotency-Key": f"{self._identity}-{start}-{content}",
        }
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self._client.post(
                    f"/topics/{quote(self._topic)}", content=body, headers=headers
                )
            except httpx2.HTTPError as error:
                if time.monotonic() > deadline:
                    raise ConnectError(f"the gateway does not answer any more: {error}") from error
                time.sleep(0.2)
                continue
            if answer.status_code in (429, 503, 507) and time.monotonic() < deadline:
                time.sleep(float(answer.headers.get("Retry-After", "1")))
                continue
            break
        result = checked(answer).json()
        self.accepted += result["accepted"]
        self.rejected += result["rejected"]
        if result["rejected"] and not self._reason and result.get("reasons"):
            self._reason = result["reasons"][0]["reason"]

    def summary(self) -> str:
        """Say what became of the rows."""
        text = f"{self.accepted} rows accepted"
        if self.rejected:
            text += f", {self.rejected} rejected into {self._topic}.dead"
            text += f" (first reason: {self._reason})" if self._reason else ""
        return text


def _put_records(url: str, table: str, about: dict[str, Any], file: Path) -> int:
    columns = {column["name"] for column in about["columns"]}
    key = about["key"] if isinstance(about["key"], str) else about["key"][0]
    records = read_features(file) if is_geojson(file) else read_rows(file).to_dicts()
    with httpx2.Client(base_url=url, timeout=30) as client:
        for record in records:
            row = {name: value for name, value in record.items() if name in columns}
            if key not in row:
                raise ConfigError(f"a record has no {key!r}", hint=f"it has {', '.join(record)}")
            path = f"/control/{quote(table)}/{quote(str(row[key]), safe='')}"
            body = json.dumps({k: v for k, v in row.items() if v is not None}, default=str)
            headers = {"Content-Type": "application/json"}
            checked(client.put(path, content=body.encode(), headers=headers))
    return len(records)
