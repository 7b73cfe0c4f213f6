"""What an application shows the outside: routes, sockets, metrics and views, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from headrace.core.errors import ConfigError
from headrace.stream.views import Views, source_name

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
MetricKind = Literal["counter", "gauge", "histogram"]
Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)

_RESERVED = ("/topics", "/tables", "/control", "/ws", "/app", "/stats", "/health", "/metrics")


@dataclass(frozen=True)
class Route:
    """One HTTP route of an application.

    Exactly one of `handler`, `to`, `table` and `control_table` says what it does.

    Attributes:
        handler: A function; its parameters are taken from path, query and body by their
            annotations, and the one annotated `Data` is the application's data.
        to: Topic that takes the request's rows, like `POST /topics/{topic}`.
        table: Table whose row the path parameters name.
        control_table: Control table the request changes or reads.
        answer: Shapes the answer: `(Published, first row or None)` for `to`, `(row or None, path
            parameters)` for `table`, `(Versioned or None, path parameters)` for `control_table`;
            None is a row that is not there or no more, and reading all gives a list of Versioned.
            A pair (status, body) also sets the status.
        aliases: Names of the body that stand for columns.
        status: Status of a good answer.
        model: What a good answer looks like, for the documentation.
    """

    method: Method
    path: str
    handler: Handler | None = None
    to: str | None = None
    table: str | None = None
    control_table: str | None = None
    answer: Handler | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    model: type[BaseModel] | None = None
    summary: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Socket:
    """One WebSocket route of an application: rows out as frames, messages in as commands.

    Attributes:
        topic: Topic whose new rows are sent.
        table: Table whose changes are sent, after a snapshot.
        where: SQL filter; `{name}` stands for the path parameter, safely quoted.
        frame: `(kind, row) -> value`: what to send for a row of kind `snapshot`, `row`, `upsert` or
            `delete`; None sends nothing. By default `{"type": kind, "data": row}`.
        command: `(data, message, path parameters) -> value`: what to answer to a client's message;
            None sends nothing. Sync or async.
    """

    path: str
    topic: str | None = None
    table: str | None = None
    where: str | None = None
    snapshot: bool = True
    frame: Handler | None = None
    command: Handler | None = None
    description: str = ""


@dataclass(frozen=True)
class Metric:
    """A measurement under the name an application's users know.

    Attributes:
        from_: A topic whose rows are counted or measured, `table:<name>` for the rows of a table
            now, or the name of a core metric to show under this name.
        labels: Columns (or labels of the core metric) by which it is split.
        known: Label values shown by name; the rest is `other`. At most 100 appear without it.
        value: Column that is summed, set or observed; None counts rows.
        buckets: Upper bounds of a histogram, in the unit of `value`.
    """

    name: str
    kind: MetricKind
    from_: str
    labels: tuple[str, ...] = ()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    value: str | None = None
    buckets: tuple[float, ...] = ()
    description: str = ""


class Surface:
    """Declares routes, sockets, metrics and views; `App` is one."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.sockets: list[Socket] = []
        self.metrics: list[Metric] = []
        self.view = Views()

    @property
    def views(self) -> list[dict[str, Any]]:
        """Declared views as the dashboard reads them."""
        return self.view.declared

    def route(  # noqa: PLR0913 - a route has that many properties
        self,
        method: Method,
        path: str,
        *,
        to: Any = None,
        table: Any = None,
        control_table: Any = None,
        answer: Handler | None = None,
        aliases: Mapping[str, str] | None = None,
        status: int | None = None,
        model: type[BaseModel] | None = None,
        summary: str = "",
        description: str = "",
        tags: Sequence[str] = (),
    ) -> Callable[[H], H]:
        """Declare a route, over a topic or table or, as a decorator, by a function.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: E.g. `/status/{vehicle_id}`; names in braces are path parameters.
            to: Topic that takes the request's rows.
            table: Table read by key: the path parameters, in the order of its key.
            control_table: Control table: POST creates, PUT replaces, PATCH changes, DELETE
                removes, GET reads one row, or all without path parameters.
            answer: Shapes the answer, see `Route`.
            aliases: Names of the body that stand for columns, {"depth": "depth_m"}.
            status: Status of a good answer; 202 for `to`, 201 for a creating POST, else 200.
            model: Documents the answer.
            summary: One line for the documentation.
            description: More of it; a handler's docstring by default.
            tags: Groups in the documentation.

        Raises:
            ConfigError: The path is taken or reserved, or more than one thing answers it.

        Example:
            >>> surface = Surface()
            >>> @surface.route("GET", "/double/{number}")
            ... def double(number: int) -> dict[str, int]:
            ...     return {"double": 2 * number}
            >>> [(route.method, route.path) for route in surface.routes]
            [('GET', '/double/{number}')]
        """
        self._check_path(method, path)
        targets = {"to": to, "table": table, "control_table": control_table}
        given = {name: source_name(value) for name, value in targets.items() if value is not None}
        if len(given) > 1:
            raise ConfigError(f"{method} {path} names {' and '.join(given)}", hint="give only one")
        created = control_table is not None and method == "POST"
        default = 202 if to is not None else 201 if created else 200

        def declare(handler: Handler | None) -> None:
            self.routes.append(
                Route(
                    method=method,
                    path=path,
                    handler=handler,
                    to=given.get("to"),
                    table=given.get("table"),
                    control_table=given.get("control_table"),
                    answer=answer,
                    aliases=dict(aliases or {}),
                    status=status or default,
                    model=model,
                    summary=summary,
                    description=description or (handler.__doc__ or "" if handler else ""),
                    tags=tuple(tags),
                )
            )

        def decorate(handler: H) -> H:
            if given:
                raise ConfigError(
                    f"{method} {path} has a target and a function", hint="shape it with answer="
                )
            declare(handler)
            return handler

        if given:
            declare(None)
        return decorate

    def socket(  # noqa: PLR0913 - a socket has that many properties
        self,
        path: str,
        *,
        topic: Any = None,
        table: Any = None,
        where: str | None = None,
        snapshot: bool = True,
        frame: Handler | None = None,
        command: Handler | None = None,
        description: str = "",
    ) -> None:
        """Declare a WebSocket route over a topic or a table.

        Args:
            path: E.g. `/ws/vehicles/{vehicle_id}`.
            topic: Topic whose new rows are sent.
            table: Table whose snapshot and changes are sent.
            where: SQL filter; `{vehicle_id}` is replaced by the path parameter as a literal.
            snapshot: Whether the state at the beginning is sent.
            frame: Shapes what is sent, see `Socket`.
            command: Answers what a client sends, see `Socket`.
            description: For the documentation.

        Raises:
            ConfigError: Not exactly one of `topic` and `table`, or the path is reserved.
        """
        self._check_path("WS", path)
        if (topic is None) == (table is None):
            raise ConfigError(f"socket {path} needs topic= or table=")
        self.sockets.append(
            Socket(
                path=path,
                topic=None if topic is None else source_name(topic),
                table=None if table is None else source_name(table),
                where=where,
                snapshot=snapshot,
                frame=frame,
                command=command,
                description=description,
            )
        )

    def metric(  # noqa: PLR0913 - a metric has that many properties
        self,
        name: str,
        kind: MetricKind,
        labels: Sequence[str] = (),
        *,
        from_: Any,
        known: Mapping[str, Sequence[str]] | None = None,
        value: str | None = None,
        buckets: Sequence[float] = (),
        description: str = "",
    ) -> None:
        """Show an observation at `/metrics` under `name`.

        Args:
            name: Prometheus name; units in it, `_seconds`, `_total`.
            kind: counter, gauge or histogram.
            labels: Columns by which it is split.
            from_: A topic (or its name), a table, or the name of a core metric.
            known: Label values shown by name, {label: values}; others are `other`.
            value: Column that is summed (counter), set (gauge) or observed (histogram).
            buckets: Upper bounds of a histogram; needed there.
            description: Help text.

        Raises:
            ConfigError: A histogram without buckets or value, or a name used twice.
        """
        if kind == "histogram" and (not buckets or value is None):
            raise ConfigError(f"histogram {name!r} needs value= and buckets=")
        if any(metric.name == name for metric in self.metrics):
            raise ConfigError(f"metric {name!r} is declared twice")
        table = hasattr(from_, "decl") and not hasattr(from_, "stream")
        source = f"table:{source_name(from_)}" if table else source_name(from_)
        self.metrics.append(
            Metric(
                name=name,
                kind=kind,
                from_=source,
                labels=tuple(labels),
                known={label: tuple(values) for label, values in (known or {}).items()},
                value=value,
                buckets=tuple(buckets),
                description=description,
            )
        )

    def _check_path(self, method: str, path: str) -> None:
        if not path.startswith("/") or path == "/":
            raise ConfigError(f"{path!r} is no path", hint='e.g. "/status/{vehicle_id}"')
        if any(path == taken or path.startswith(taken + "/") for taken in _RESERVED) and not (
            method == "WS" and path.startswith("/ws/")
        ):
            raise ConfigError(f"{path} is one of the gateway's own paths", hint="choose another")
        taken = {(str(route.method), route.path) for route in self.routes}
        if (method, path) in taken | {("WS", socket.path) for socket in self.sockets}:
            raise ConfigError(f"{method} {path} is declared twice")
