"""Is it well, is it ready, how fast is it: for people, probes and the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from headrace.core.time import to_datetime
from headrace.gateway.core import Core

Status = Literal["healthy", "degraded", "unhealthy"]

SILENT_AFTER = timedelta(seconds=5)
"""A role that has not published its status for this long gives no sign of life."""
STUCK_AFTER = timedelta(seconds=10)
"""Input that waits this long without a step means a stuck engine; a quiet stream is healthy."""


def health_router(core: Core) -> APIRouter:
    """Return `/health`, `/health/live`, `/health/ready` and `/stats`."""
    router = APIRouter(tags=["operations"])

    @router.get("/health", summary="How every component is")
    def health() -> JSONResponse:
        checks = health_checks(core)
        return JSONResponse(
            {
                "status": worst(checks),
                "timestamp": to_datetime(core.clock.now()).isoformat(),
                "checks": checks,
            }
        )

    @router.get("/health/live", summary="Whether this process answers: 200, or 503")
    def live() -> JSONResponse:
        alive = core.failure is None
        return JSONResponse({"live": alive}, 200 if alive else 503)

    @router.get("/health/ready", summary="Whether every role is up and has recovered: 200 or 503")
    def ready() -> JSONResponse:
        waits = not_ready(core)
        body = {"ready": not waits, "waiting_for": waits}
        return JSONResponse(body, 503 if waits else 200)

    @router.get("/stats", summary="Rates, lag and counts")
    def stats() -> dict[str, Any]:
        return core.stats()

    return router


def worst(checks: Mapping[str, Mapping[str, Any]]) -> Status:
    """Return the status of the whole from those of its parts."""
    found = {check["status"] for check in checks.values()}
    if "unhealthy" in found:
        return "unhealthy"
    return "degraded" if "degraded" in found else "healthy"


def health_checks(core: Core) -> dict[str, dict[str, Any]]:
    """Return status and detail of every component, with pid and start time of every role."""
    now = to_datetime(core.clock.now())
    own = core.status()
    failed = core.failure
    checks = {
        "gateway": _check(
            "healthy" if failed is None else "unhealthy",
            "serving" if failed is None else failed.message,
            own,
        ),
        "storage": _check(
            "degraded" if core.limits.storage_low else "healthy",
            "little disk space left: ingest answers 507"
            if core.limits.storage_low
            else "room to write",
        ),
    }
    engine = core.engine_status()
    if engine or core.supervised():
        checks["engine"] = _engine_check(engine, now)
    if model := core.model_status():
        checks["model"] = _engine_check(model, now)
    for owner, published in sorted(core.statuses.items()):
        if published.get("role") == "connect" and published.get("app") == core.plan.app:
            silent = _silent(published, now)
            word = f"no sign of life for {_seconds(silent)}" if silent else published["state"]
            checks[owner] = _check("degraded" if silent else "healthy", word, published)
    for name, channel in sorted(core.channel_statuses().items()):
        checks[f"channel {name}"] = _channel_check(channel)
    for name, role in core.supervised().items():
        if role["state"] in {"waiting", "down"}:
            detail = f"{role['state']} after exit {role['last_exit']}, {role['restarts']} restarts"
            status: Status = "unhealthy" if role["state"] == "down" else "degraded"
            checks[name] = {**checks.get(name, {}), "status": status, "detail": detail}
    return checks


def not_ready(core: Core) -> list[str]:
    """Return what is not up or has not recovered yet."""
    waits = []
    if core.failure is not None:
        waits.append("gateway")
    roles = core.supervised()
    engine = core.engine_status()
    if roles or engine:
        silent = _silent(engine, to_datetime(core.clock.now())) if engine else None
        if (
            engine.get("state") != "running"
            or silent is not None
            or ("engine" in roles and roles["engine"]["pid"] != engine.get("pid"))
        ):
            waits.append("engine")
    waits += [
        name
        for name in ("gateway", "engine", "model", "connect")
        if name in roles and roles[name]["state"] != "up" and name not in waits
    ]
    return waits


def _engine_check(engine: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    if not engine:
        return _check("unhealthy", "no engine has started yet")
    silent = _silent(engine, now)
    state = str(engine["state"])
    if state == "failed":
        return _check("unhealthy", str(engine.get("error") or "failed"), engine)
    if silent is not None and state != "stopped":
        return _check("unhealthy", f"no sign of life for {_seconds(silent)}", engine)
    if state != "running":
        return _check("degraded", str(engine.get("error") or state), engine)
    last = engine.get("last_step")
    waiting = int(engine.get("unread") or 0)
    if waiting and isinstance(last, str) and now - datetime.fromisoformat(last) > STUCK_AFTER:
        return _check("unhealthy", f"stuck: {waiting} rows wait and no step is made", engine)
    return _check("healthy", f"step {engine['step']}, {waiting} rows waiting", engine)


def _channel_check(channel: Mapping[str, Any]) -> dict[str, Any]:
    counts = ", ".join(f"{channel[word]} {word}" for word in ("delivered", "dead", "waiting"))
    if channel["failing"]:
        return _check("degraded", f"the last attempt failed: {channel['failing']}; {counts}")
    return _check("healthy", counts)


def _check(
    status: Status, detail: str, published: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    check: dict[str, Any] = {"status": status, "detail": detail}
    if published is not None:
        check |= {"pid": published.get("pid"), "started": published.get("started")}
    return check


def _silent(status: Mapping[str, Any], now: datetime) -> timedelta | None:
    """Return how long a role has been silent, None while it gives signs of life."""
    published = status.get("published")
    if not isinstance(published, str):
        return SILENT_AFTER
    age = now - datetime.fromisoformat(published)
    return age if age > SILENT_AFTER else None


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
