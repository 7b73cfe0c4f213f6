"""Anomalies that people look at: which are real, which are not, and who said so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from headrace.core.errors import ConstraintError, NotFoundError, PlanError
from headrace.core.time import EVENT_TIME, Duration
from headrace.operators.columns import column_names
from headrace.stream.data import Data
from headrace.stream.handle import Columns, Handle

if TYPE_CHECKING:
    from headrace.stream.app import App
    from headrace.stream.declared_tables import ControlTable

ANOMALIES: Final = "anomalies"
REVIEWS: Final = "reviews"
STATES: Final = ("open", "confirmed", "dismissed")
_BETWEEN: Final = "\x1f"

State = Literal["open", "confirmed", "dismissed"]


class Review(BaseModel):
    """What a person says of an anomaly.

    Attributes:
        anomaly_id: Which one.
        state: `confirmed`, `dismissed`, or `open` again.
        by: Who says so.
        note: Why.
    """

    model_config = ConfigDict(extra="forbid")

    anomaly_id: str = Field(min_length=1, max_length=2000)
    state: State
    by: str = Field(default="", max_length=200)
    note: str = Field(default="", max_length=4000)


def anomaly_id(*by: str | pl.Expr) -> pl.Expr:
    """Return the expression for a row's id as an anomaly: event time and key.

    Microseconds, and the key columns in hex, which any path can carry.

    Args:
        by: Key columns, as given to `Stream.anomalies`.
    """
    time = pl.col(EVENT_TIME).cast(pl.String)
    if not by:
        return time
    keys = [pl.col(name).cast(pl.String).fill_null("") for name in column_names(list(by))]
    key = pl.concat_str(keys, separator=_BETWEEN).cast(pl.Binary).bin.encode("hex")
    return pl.concat_str([time, pl.lit("-"), key])


class Reviewing(Handle):
    """Anomalies that people review."""

    __slots__ = ()

    def anomalies(self, *, by: Columns | None = None, remember: Duration = "30d") -> ControlTable:
        """Keep the rows that `detect` calls anomalies, for people to confirm or dismiss.

        The application gets the table `anomalies` (the rows, by `anomaly_id`) and the control table
        `reviews`, whose changes are the topic `reviews.changes`. The gateway serves
        `GET /anomalies?state=&limit=` and `POST /anomalies/{anomaly_id}/review`.

        Args:
            by: Columns that, with the event time, identify an anomaly: the key of `detect`.
            remember: How long an anomaly stays in the table.

        Returns:
            The reviews. Labels beside rows, for a model to learn from:
            `rows.with_columns(anomaly_id=hr.anomaly_id("key")).lookup(reviews, on="anomaly_id")`.

        Raises:
            PlanError: There is no column `is_anomaly`, or a column of `by` is missing.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> schema = {"key": pl.String, "time": utc, "x": pl.Float64}
            >>> rows = app.topic("rows", schema, time="time")
            >>> reviews = rows.with_columns(is_anomaly=pl.col("x") > 3).anomalies(by="key")
            >>> rows = pl.DataFrame({"key": ["a", "b"], "time": [0, 1], "x": [9.0, 1.0]})
            >>> outputs = hr.testing.run(app, {"rows": rows.cast({"time": utc})})
            >>> outputs["anomalies"]["anomaly_id"].to_list()
            ['0-61']
        """
        app = self.graph.app
        if app is None:
            raise PlanError("the stream belongs to no application")
        if self.schema.get("is_anomaly") != pl.Boolean():
            raise PlanError(
                "there is no Boolean column 'is_anomaly'", hint="stream.detect(...) adds it"
            )
        found = self._at(self.ref, self.schema, self.time).filter(pl.col("is_anomaly"))
        table = app.table(
            ANOMALIES,
            found.with_columns(anomaly_id=anomaly_id(*column_names(by))),
            key="anomaly_id",
            ttl=remember,
            description="What detectors found.",
        )
        reviews = app.control_table(
            REVIEWS, Review, key="anomaly_id", description="What people say of anomalies."
        )
        _serve(app, table.name, reviews.name)
        return reviews


def _serve(app: App, anomalies: str, reviews: str) -> None:
    @app.route("GET", "/anomalies", summary="List anomalies", tags=("anomalies",))
    def list_anomalies(data: Data, state: str = "", limit: int = 1000) -> dict[str, Any]:
        """Anomalies with their review, newest first; those that nobody reviewed are `open`."""
        if state and state not in STATES:
            raise ConstraintError(f"{state!r} is no state", hint=f"use {', '.join(STATES)}")
        said = {row["anomaly_id"]: row for row in data.scan(reviews)}
        rows = [
            {"anomaly": row, "review": _review(said.get(row["anomaly_id"]))}
            for row in data.scan(anomalies)
        ]
        chosen = [row for row in rows if not state or row["review"]["state"] == state]
        chosen.sort(key=lambda row: _time_of(row["anomaly"]), reverse=True)
        return {"anomalies": chosen[: max(limit, 0)], "total": len(chosen)}

    @app.route(
        "POST", "/anomalies/{anomaly_id}/review", summary="Review an anomaly", tags=("anomalies",)
    )
    async def review(anomaly_id: str, said: dict[str, Any], data: Data) -> dict[str, Any]:
        """Body `state`, `by` and `note`; 404 where there is no such anomaly."""
        if data.get(anomalies, anomaly_id) is None:
            raise NotFoundError(
                f"there is no anomaly {anomaly_id!r}", hint="GET /anomalies lists them"
            )
        stored = await data.put(reviews, {**said, "anomaly_id": anomaly_id})
        return {**stored.row, "version": stored.version}


def _review(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {"state": "open", "by": "", "note": ""}
    return {name: row[name] for name in ("state", "by", "note")}


def _time_of(anomaly: dict[str, Any]) -> int:
    return int(str(anomaly["anomaly_id"]).partition("-")[0] or 0)
