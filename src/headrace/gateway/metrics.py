"""`GET /metrics`: our own registry, filled when it is scraped; a row costs nothing here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headrace.gateway.app_metrics import Observation
from headrace.gateway.core import Core
from headrace.plan.graph import DEAD

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class GatewayCollector(Collector):
    """Reads the gateway's counters and the engine's status at each scrape."""

    def __init__(self, core: Core, observations: list[Observation]) -> None:
        self._core = core
        self._observations = observations

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are known when the gateway runs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield everything there is to say now."""
        core = list(self._ours())
        yield from core
        by_name = {family.name: family for family in core}
        for observation in self._observations:
            yield from observation.collect(by_name)

    def _ours(self) -> Iterator[Metric]:
        yield from self._ingest()
        yield from self._topics()
        yield from self._engine()
        yield from self._models()
        yield from self._channels()
        clients = GaugeMetricFamily("headrace_live_clients", "WebSocket clients connected")
        clients.add_metric([], len(self._core.hub.clients))
        yield clients

    def _ingest(self) -> Iterator[Metric]:
        committer, room, limits = self._core.committer, self._core.room, self._core.limits
        rows = CounterMetricFamily(
            "headrace_ingest_rows",
            "Rows received, by what became of them",
            labels=["topic", "outcome"],
        )
        for outcome, counts in (("accepted", committer.accepted), ("rejected", committer.rejected)):
            for topic, count in sorted(counts.items()):
                rows.add_metric([topic, outcome], count)
        yield rows
        dropped = CounterMetricFamily(
            "headrace_dropped_rows", "Rows dropped by a topic's policy", labels=["topic", "policy"]
        )
        for (topic, policy), count in sorted(room.dropped.items()):
            dropped.add_metric([topic, policy], count)
        yield dropped
        refused = CounterMetricFamily(
            "headrace_refused_requests", "Requests refused with 429 or 507", labels=["topic"]
        )
        for topic, count in sorted(limits.refused.items()):
            refused.add_metric([topic], count)
        yield refused
        groups = CounterMetricFamily("headrace_commits", "Group commits of this gateway")
        groups.add_metric([], committer.groups)
        yield groups

    def _topics(self) -> Iterator[Metric]:
        stats = self._core.stats()["topics"]
        rows = CounterMetricFamily(
            "headrace_topic_rows", "Rows ever appended to a topic", labels=["topic"]
        )
        for topic, numbers in sorted(stats.items()):
            rows.add_metric([topic], numbers["rows"])
        yield rows
        unread = GaugeMetricFamily(
            "headrace_backlog_rows", "Rows the slowest engine has not read", labels=["topic"]
        )
        size = GaugeMetricFamily(
            "headrace_backlog_bytes", "Bytes the slowest engine has not read", labels=["topic"]
        )
        for topic in self._core.inputs():
            backlog = self._core.limits.backlog(topic)
            unread.add_metric([topic], backlog.rows)
            size.add_metric([topic], backlog.bytes)
        yield unread
        yield size

    def _engine(self) -> Iterator[Metric]:
        status = self._core.engine_status()
        for name, kind, text in _ENGINE:
            value = status.get(name)
            if isinstance(value, int | float):
                family = _family(kind, f"headrace_engine_{name}", text)
                family.add_metric([], value)
                yield family
        for name, label, text in (
            ("late", "node", "Rows that came too late, by operator"),
            ("dead", "topic", "Rows the engine could not take, by topic"),
        ):
            family = CounterMetricFamily(f"headrace_engine_{name}_rows", text, labels=[label])
            for key, count in sorted(_mapping(status.get(name)).items()):
                family.add_metric([key.removesuffix(DEAD)], count)
            yield family

    def _channels(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "headrace_deliveries",
            "Attempts to deliver notifications since the role connect started, by outcome",
            labels=["channel", "outcome"],
        )
        waiting = GaugeMetricFamily(
            "headrace_deliveries_waiting", "Notifications not delivered yet", labels=["channel"]
        )
        for name, channel in sorted(self._core.channel_statuses().items()):
            for outcome in ("delivered", "failed", "dead"):
                attempts.add_metric([name, outcome], channel[outcome])
            waiting.add_metric([name], channel["waiting"])
        yield attempts
        yield waiting

    def _models(self) -> Iterator[Metric]:
        counts = self._core.model_counts()
        for what, text, reasoned in _MODELS:
            labels = ["model", "version", *(["reason"] if reasoned else [])]
            family = CounterMetricFamily(f"headrace_model_{what}", text, labels=labels)
            sums: Counter[tuple[str, ...]] = Counter()
            for one in counts:
                if one["what"] == what:
                    sums[tuple(one[label] for label in labels)] += one["count"]
            for key, count in sorted(sums.items()):
                family.add_metric(list(key), count)
            yield family


_MODELS: Final = [
    ("rows", "Rows that a model scored", False),
    ("batches", "Batches that a model scored", False),
    ("failures", "Times a model raised, died, hung or could not be loaded", True),
    ("fallbacks", "Rows that got something else than the model's answer", True),
    ("overruns", "Batches that were not scored within their budget", True),
    ("loads", "Times a version was loaded and warmed", False),
    ("restarts", "Times a model's process was started again", False),
]

_ENGINE: Final = [
    ("step", "counter", "Steps committed"),
    ("rows_in", "counter", "Rows read since the engine started"),
    ("rows_out", "counter", "Rows written since the engine started"),
    ("state_rows", "gauge", "Rows of state at the last checkpoint"),
    ("state_bytes", "gauge", "Bytes of state at the last checkpoint"),
    ("checkpoints", "counter", "Checkpoints since the engine started"),
    ("p95_ms", "gauge", "95th percentile from arrival to commit, last steps, milliseconds"),
]


def _family(kind: str, name: str, text: str) -> Any:
    return (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def make_registry(core: Core, observations: list[Observation]) -> CollectorRegistry:
    """Return the registry of one gateway."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(core, observations))
    return registry


def metrics_router(core: Core) -> APIRouter:
    """Return the route of `/metrics`."""
    router = APIRouter(tags=["operations"])
    observations = core.observations
    registry = make_registry(core, observations)

    @router.get("/metrics", summary="Measurements in Prometheus' text format")
    def metrics() -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE})

    return router
