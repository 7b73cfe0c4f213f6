"""Views of the dashboard as an application declares them: data, no page code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from headrace.core.errors import ConfigError
from headrace.core.time import Duration, duration

Place = Literal["hero", "side", "below"]


def source_name(source: Any) -> str:
    """Return the name of a topic, table or control table given as such or by name.

    Raises:
        ConfigError: It is a stream that was never written to a topic.
    """
    if isinstance(source, str):
        return source
    name = getattr(source, "name", None)
    if isinstance(name, str):
        return name
    node = getattr(getattr(source, "ref", None), "node", "")
    kind, _, rest = node.partition(":")
    if kind == "topic":
        return str(rest)
    raise ConfigError(
        f"{source!r} has no name", hint="give app.output(...) what it returned, or a name"
    )


class Views:
    """Declares what the dashboard shows; every method adds one view."""

    def __init__(self) -> None:
        self.declared: list[dict[str, Any]] = []

    def map(  # noqa: PLR0913 - a map has that many layers
        self,
        name: str,
        *,
        table: Any,
        key: str,
        lon: str,
        lat: str,
        time: str,
        title: str = "",
        place: Place = "hero",
        label: str | None = None,
        heading: str | None = None,
        color: str | None = None,
        trail: Duration | None = None,
        depth: str | None = None,
        zones: Mapping[str, Any] | None = None,
        occupancy: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
        events: Any = None,
    ) -> None:
        """Show rows of a table as things that move on a map.

        Args:
            name: Unique among views.
            table: Table of the latest position per thing.
            key: Column that names a thing.
            lon: Column of degrees east.
            lat: Column of degrees north.
            time: Column of the position's time.
            title: Heading of the view.
            place: hero, side or below.
            label: Column shown beside a thing.
            heading: Column of degrees from north.
            color: Column whose values choose the colour.
            trail: How much of the track is drawn.
            depth: Column of metres below the surface.
            zones: `{"control_table", "key", "geometry", "label", "kind"}` of areas drawn below.
            occupancy: `{"table", "key", "count"}`: how many are in each area.
            history: `{"table", "key"}` and optionally `"zone", "enter", "exit", "dwell"`: visits.
            events: Topic of events about things on the map.
        """
        self._add(
            name,
            title,
            place,
            {
                "kind": "map",
                "table": source_name(table),
                "key": key,
                "lon": lon,
                "lat": lat,
                "time": time,
                "label": label,
                "heading": heading,
                "color": color,
                "trail": _seconds(trail),
                "depth": depth,
                "zones": _named(zones, "control_table"),
                "occupancy": _named(occupancy, "table"),
                "history": _named(history, "table"),
                "events": None if events is None else source_name(events),
            },
        )

    def chart(  # noqa: PLR0913 - a chart has that many properties
        self,
        name: str,
        *,
        y: str | Sequence[str],
        topic: Any = None,
        table: Any = None,
        x: str | None = None,
        by: str | None = None,
        title: str = "",
        place: Place = "below",
        unit: str | None = None,
        span: Duration = "10m",
        thresholds: Sequence[Mapping[str, Any]] = (),
        band: tuple[str, str] | None = None,
        mark: str | None = None,
        stat: Literal["line", "rate"] = "line",
    ) -> None:
        """Show columns over time.

        Args:
            name: Unique among views.
            y: Column(s) drawn.
            topic: Topic whose rows are drawn; or
            table: table whose changes are drawn.
            x: Time column; the topic's own by default.
            by: Column that splits into lines.
            title: Heading of the view.
            place: hero, side or below.
            unit: Unit at the axis.
            span: How much time is shown.
            thresholds: `{"value", "severity", "label"}` lines.
            band: Columns of the least and greatest value expected of the first column of `y`,
                e.g. the limits of a control chart; the area between them is shaded.
            mark: Boolean column; where it is true, the first column of `y` is marked.
            stat: `line` draws values, `rate` their change per second.
        """
        self._add(
            name,
            title,
            place,
            {
                "kind": "chart",
                **_one_source(name, topic, table),
                "x": x,
                "y": [y] if isinstance(y, str) else list(y),
                "by": by,
                "unit": unit,
                "span": _seconds(span),
                "thresholds": [dict(threshold) for threshold in thresholds],
                "band": None if band is None else list(band),
                "mark": mark,
                "stat": stat,
            },
        )

    def table(
        self,
        name: str,
        *,
        topic: Any = None,
        table: Any = None,
        columns: Sequence[str] | None = None,
        key: str | Sequence[str] | None = None,
        title: str = "",
        place: Place = "below",
    ) -> None:
        """Show rows; `columns` chooses and orders them."""
        self._add(
            name,
            title,
            place,
            {
                "kind": "table",
                **_one_source(name, topic, table),
                "columns": None if columns is None else list(columns),
                "key": key if key is None or isinstance(key, str) else list(key),
            },
        )

    def counter(  # noqa: PLR0913 - a counter has that many properties
        self,
        name: str,
        *,
        topic: Any = None,
        table: Any = None,
        aggregate: Literal["count", "rate", "last", "sum", "size"] = "count",
        column: str | None = None,
        unit: str | None = None,
        where: str | None = None,
        title: str = "",
        place: Place = "side",
    ) -> None:
        """Show one number: rows counted or per second, a column's last value or sum, a size."""
        self._add(
            name,
            title,
            place,
            {
                "kind": "counter",
                **_one_source(name, topic, table),
                "aggregate": aggregate,
                "column": column,
                "unit": unit,
                "where": where,
            },
        )

    def events(  # noqa: PLR0913 - a list has that many properties
        self,
        name: str,
        *,
        topic: Any,
        time: str,
        text: str,
        severity: str | None = None,
        columns: Sequence[str] | None = None,
        limit: int = 200,
        title: str = "",
        place: Place = "side",
    ) -> None:
        """Show the newest rows of a topic as a list; `text` is a column or has `{column}` in it."""
        self._add(
            name,
            title,
            place,
            {
                "kind": "events",
                "topic": source_name(topic),
                "time": time,
                "text": text,
                "severity": severity,
                "columns": None if columns is None else list(columns),
                "limit": limit,
            },
        )

    def voxels(  # noqa: PLR0913 - three axes and what they hold
        self,
        name: str,
        *,
        table: Any,
        x: str,
        y: str,
        z: str,
        value: str,
        unit: str | None = None,
        limit: int = 50_000,
        title: str = "",
        place: Place = "hero",
    ) -> None:
        """Show the voxels of a table: all of them from any side, and one slice exactly.

        Args:
            name: Unique among views.
            table: One row per voxel, as it is or down-sampled.
            x: Column of the index along x.
            y: Column of the index along y.
            z: Column of the index along z.
            value: Column that chooses the colour.
            unit: Unit of `value`.
            limit: Most voxels that the page takes.
            title: Heading of the view.
            place: hero, side or below.
        """
        self._add(
            name,
            title,
            place,
            {
                "kind": "voxels",
                "table": source_name(table),
                "x": x,
                "y": y,
                "z": z,
                "value": value,
                "unit": unit,
                "limit": limit,
            },
        )

    def records(
        self,
        name: str,
        *,
        control_table: Any,
        columns: Sequence[str] | None = None,
        title: str = "",
        place: Place = "below",
    ) -> None:
        """Show the rows of a control table and let people add, change and delete them.

        Args:
            name: Unique among views.
            control_table: The table; its model makes the form. It has a key of one column.
            columns: Columns of the list; the form has all of them.
            title: Heading of the view.
            place: hero, side or below.

        Raises:
            ConfigError: The table has a key of several columns.
        """
        decl = getattr(control_table, "decl", None)
        if decl is not None and len(decl.key) != 1:
            raise ConfigError(
                f"view {name!r}: control table {decl.name!r} has a key of several columns",
                hint="rows can be changed on the page where one column names them",
            )
        self._add(
            name,
            title,
            place,
            {
                "kind": "records",
                "control_table": source_name(control_table),
                "columns": None if columns is None else list(columns),
            },
        )

    def alerts(
        self, name: str = "alerts", *, limit: int = 200, title: str = "", place: Place = "side"
    ) -> None:
        """Show the alerts that `violations.alerts()` makes, and let people act on them.

        Open ones stand first. Each shows the rule and its version, what it saw, what happened, who
        was told and how that went; it can be acknowledged, commented on, resolved and silenced.

        Args:
            name: Unique among views.
            limit: How many are shown.
            title: Heading of the view.
            place: hero, side or below.
        """
        self._add(name, title, place, {"kind": "alerts", "table": "alerts", "limit": limit})

    def _add(self, name: str, title: str, place: Place, view: dict[str, Any]) -> None:
        if any(other["name"] == name for other in self.declared):
            raise ConfigError(f"view {name!r} is declared twice")
        words = name.replace("_", " ").replace("-", " ")
        head = {"name": name, "title": title or words.capitalize(), "place": place}
        self.declared.append({"kind": view["kind"], **head, **view})


def _one_source(name: str, topic: Any, table: Any) -> dict[str, str | None]:
    if (topic is None) == (table is None):
        raise ConfigError(f"view {name!r} needs topic= or table=")
    return {
        "topic": None if topic is None else source_name(topic),
        "table": None if table is None else source_name(table),
    }


def _named(part: Mapping[str, Any] | None, source: str) -> dict[str, Any] | None:
    if part is None:
        return None
    if source not in part:
        raise ConfigError(f"{dict(part)} lacks {source!r}")
    return {**part, source: source_name(part[source])}


def _seconds(value: Duration | None) -> float | None:
    return None if value is None else duration(value).total_seconds()
