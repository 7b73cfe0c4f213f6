"""Routes over alerts: list them, follow one, acknowledge, resolve and comment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

import msgspec
import polars as pl
from fastapi import APIRouter, Depends, Query, Request, Response

from headrace.alerts.notification import DELIVERIES, NOTIFICATIONS
from headrace.codecs.json import encode_row, encode_rows
from headrace.core.errors import (
    ConflictError,
    ConstraintError,
    DataError,
    DecodeError,
    NotFoundError,
)
from headrace.core.log import Append, Reader, TopicPartition
from headrace.core.time import to_micros
from headrace.gateway.control import PreconditionError
from headrace.gateway.control_routes import (
    Idempotency,
    IfMatch,
    body_of,
    change,
    mounted_router,
    version_of,
)
from headrace.gateway.core import Core
from headrace.gateway.ingest import check_origin
from headrace.gateway.reading import MAX_BYTES
from headrace.gateway.tables import JSON, Limit
from headrace.gateway.work import Outcome
from headrace.operators.rulebook.rule import SEVERITIES
from headrace.runners.embedded.sources import conform
from headrace.stream.alerting import ACTIONS, ALERTS, SILENCES, TRANSITIONS

STATES: Final = ("pending", "firing", "acknowledged", "resolved")
_TAKEN_FROM: Final = {
    "acknowledge": ("firing",),
    "resolve": ("pending", "firing", "acknowledged"),
    "comment": ("pending", "firing", "acknowledged"),
}

States = Annotated[str, Query(description="pending, firing, acknowledged, resolved; by commas")]
Levels = Annotated[str, Query(description="info, warning, high, critical; several by commas")]
RuleId = Annotated[str, Query(description="Id of a rule")]
From = Annotated[
    datetime | None, Query(alias="from", description="Earliest time of the last transition")
]


def has_alerts(core: Core) -> bool:
    """Whether the application makes alerts."""
    catalog = core.catalog
    return (
        ALERTS in catalog.tables
        and TRANSITIONS in catalog.topics
        and {ACTIONS, SILENCES} <= catalog.controls.keys()
    )


def alert_router(core: Core) -> APIRouter:
    """Return the routes over alerts and silences."""
    router = APIRouter(tags=["alerts"])
    _reading(router, core)

    async def may_write(request: Request) -> None:
        check_origin(dict(request.scope["headers"]), core.settings, core.address[0])

    acting = APIRouter(dependencies=[Depends(may_write)])
    for action in _TAKEN_FROM:
        _acting(acting, core, action)
    router.include_router(acting)
    router.include_router(mounted_router(core, "/silences", SILENCES))
    return router


def _reading(router: APIRouter, core: Core) -> None:
    @router.get("/alerts", summary="List alerts")
    async def list_alerts(
        state: States = "",
        severity: Levels = "",
        rule: RuleId = "",
        from_: From = None,
        limit: Limit = 1000,
    ) -> Response:
        """Alerts as they are now, the latest change first; `total` counts all that match."""
        rows = core.tables[ALERTS].frame(core.engine_clock())
        for column, words, known in (
            ("state", state, STATES),
            ("severity", severity, SEVERITIES),
        ):
            if words:
                rows = rows.filter(pl.col(column).is_in(_words(words, known, column)))
        if rule:
            rows = rows.filter(pl.col("rule_id") == rule)
        if from_ is not None:
            since = pl.lit(to_micros(from_)).cast(rows.schema["timestamp"])
            rows = rows.filter(pl.col("timestamp") >= since)
        newest = rows.sort("timestamp", "alert_id", descending=[True, False]).head(limit)
        tail = {"total": rows.height, "step": core.engine_status().get("step")}
        return Response(_body({"alerts": encode_rows(newest)}, tail), media_type=JSON)

    @router.get("/alerts/{alert_id}", summary="Follow one alert")
    async def read_alert(alert_id: str) -> Response:
        """The alert, its transitions, what people were told and every attempt to tell them.

        Its ETag is the number of its last transition. Cost: a look through what is held of the
        topics of transitions, notifications and deliveries.
        """
        row = _alert(core, alert_id)
        transitions, notifications, deliveries = await core.readers.run(
            partial(_history, core=core, alert_id=alert_id)
        )
        parts = {
            "alert": encode_row(row),
            "transitions": encode_rows(transitions),
            "notifications": encode_rows(notifications),
            "deliveries": encode_rows(deliveries),
        }
        headers = {"etag": f'"{row["transition"][0]}"'}
        return Response(_body(parts, {}), media_type=JSON, headers=headers)


def _acting(router: APIRouter, core: Core, action: str) -> None:
    @router.post(f"/alerts/{{alert_id}}/{action}", summary=f"{action.capitalize()} an alert")
    async def act(
        alert_id: str,
        request: Request,
        match: IfMatch = None,
        idempotency_key: Idempotency = None,
    ) -> Response:
        """Body `by` and `note`; 409 where the alert's state does not allow it, 412 where its last
        transition is not that of `If-Match`.
        """
        found = core.control(ACTIONS)
        body = await body_of(core, request)
        row = found.parse(_act_of(alert_id, action, body))
        put, wanted = found.put(row, None), version_of(match)

        def prepare(now: int) -> tuple[Sequence[Append], Outcome]:
            # Here, where a repeated request has been answered already.
            _check(_alert(core, alert_id), action, wanted)
            return put(now)

        outcome = await change(core, request, found, prepare, idempotency_key, body)
        headers = {"idempotency-replayed": "true"} if outcome.replayed else {}
        # Written, but the engine has yet to act on it; a key used for something else is refused.
        status = 202 if outcome.status < 300 else outcome.status  # noqa: PLR2004 - success
        return Response(outcome.body, status, headers, JSON)


def _alert(core: Core, alert_id: str) -> pl.DataFrame:
    row = core.tables[ALERTS].get((alert_id,), core.engine_clock())
    if row is None:
        raise NotFoundError(f"there is no alert {alert_id!r}", hint="GET /alerts lists them")
    return row


def _check(row: pl.DataFrame, action: str, wanted: int | None) -> None:
    state, number = row["state"][0], row["transition"][0]
    if wanted is not None and wanted != number:
        raise PreconditionError(
            f"the alert's last transition is {number}, not {wanted}",
            hint="read it again",
            current=encode_row(row),
        )
    if state not in _TAKEN_FROM[action]:
        raise ConflictError(
            f"the alert is {state}: there is nothing to {action}",
            hint=f"{action} takes alerts that are {' or '.join(_TAKEN_FROM[action])}",
        )


def _act_of(alert_id: str, action: str, body: bytes) -> bytes:
    try:
        said = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError as error:
        raise DecodeError(f"the body is no JSON: {error}") from error
    if not isinstance(said, dict) or not said.keys() <= {"by", "note"}:
        raise ConstraintError("the body has by and note", hint='e.g. {"by": "ann", "note": "seen"}')
    return msgspec.json.encode({**said, "alert_id": alert_id, "action": action})


def _words(text: str, known: Iterable[str], what: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    strange = [word for word in words if word not in known]
    if strange:
        raise DataError(f"{strange[0]!r} is no {what}", hint=f"use {', '.join(known)}")
    return words


def _history(
    reader: Reader, *, core: Core, alert_id: str
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the transitions of an alert, the notifications that name it, and the attempts."""
    is_it = pl.col("alert_id") == alert_id
    transitions = _matching(reader, core, TRANSITIONS, is_it)
    if NOTIFICATIONS not in core.catalog.topics:
        return transitions, pl.DataFrame(), pl.DataFrame()
    named = pl.element().struct.field("alert_id") == alert_id
    told = _matching(reader, core, NOTIFICATIONS, pl.col("alerts").list.eval(named).list.any())
    ids = told["notification_id"].unique()
    attempts = pl.DataFrame()
    if DELIVERIES in core.catalog.topics:
        about = pl.col("notification_id").is_in(ids.implode())
        attempts = _matching(reader, core, DELIVERIES, about)
    return transitions, told.drop("alerts"), attempts


def _matching(reader: Reader, core: Core, topic: str, wanted: pl.Expr) -> pl.DataFrame:
    """Return the rows of a topic for which `wanted` holds, in log order."""
    columns = core.catalog.topic(topic).schema.columns
    found = [columns.to_frame()]
    for at, info in sorted(reader.partitions([topic]).items()):
        place = info.start
        while place < info.end:
            batches = reader.read(TopicPartition(*at), place, info.end - place, MAX_BYTES)
            if not batches:
                break
            found += [conform(batch.frame, columns).filter(wanted) for batch in batches]
            place = batches[-1].end
    return pl.concat(found)


def _body(parts: dict[str, bytes], tail: dict[str, Any]) -> bytes:
    """Return a JSON object of parts that are JSON already, and plain values."""
    whole = {**{name: msgspec.Raw(part) for name, part in parts.items()}, **tail}
    return msgspec.json.encode(whole)
