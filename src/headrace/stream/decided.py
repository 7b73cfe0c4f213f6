"""Steps that decide: patterns, geofences, control charts, quality gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import polars as pl

from headrace.core.time import Duration, duration, positive_duration
from headrace.operators.charts.chart import Chart
from headrace.operators.columns import column_names
from headrace.operators.geofence import Geofence
from headrace.operators.patterns.pattern import Pattern
from headrace.stream.handle import Columns, Handle, Order, TimeColumn

if TYPE_CHECKING:
    from headrace.operators.detectors.detector import Detector
    from headrace.stream.checked import Checked
    from headrace.stream.declared_tables import ControlTable
    from headrace.stream.quality import Gate
    from headrace.stream.ruled import Ruled
    from headrace.stream.stream import Fenced, Stream


class HasStream(Protocol):
    """A control table: something whose changes are a stream."""

    @property
    def stream(self) -> Stream:
        """Its changes."""
        ...


class Deciding(Handle):
    """Patterns, geofences, control charts, quality gates."""

    __slots__ = ()

    def check(
        self,
        name: str,
        predicate: pl.Expr | Gate,
        *,
        action: Literal["quarantine", "alert", "stop"] = "quarantine",
        every: Duration = "1m",
    ) -> Checked:
        """Let only the rows pass for which `predicate` holds; null counts as no.

        The result has `.quarantine`, the other rows; `.results`, counts per `every`; `.alerts`.
        A gate after `window` judges windows: rates of missing values, numbers of rows.

        Args:
            name: Names the gate in its results.
            predicate: A condition on one row, or one of `hr.quality` that remembers rows before.
            action: `quarantine` puts the other rows aside. `alert` does too, and `.alerts` has
                the results with such rows. `stop` ends the engine before the step that holds one.
            every: Event time over which results are counted.

        Raises:
            PlanError: The condition is no row-wise Boolean.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> dives = app.topic("dives", {"time": utc, "depth_m": pl.Float64}, time="time")
            >>> sane = dives.check("depth", pl.col("depth_m").is_between(0, 11_000))
            >>> _ = app.output("sane", sane)
            >>> _ = app.output("odd", sane.quarantine)
            >>> _ = app.output("quality", sane.results)
            >>> rows = pl.DataFrame({"time": [0, 1, 2], "depth_m": [5.0, -3.0, None]}).cast(
            ...     {"time": utc}
            ... )
            >>> outputs = hr.testing.run(app, {"dives": rows})
            >>> outputs["odd"]["depth_m"].to_list()
            [-3.0, None]
            >>> outputs["quality"].select("check", "rows", "failed").rows()
            [('depth', 3, 2)]
        """
        from headrace.operators.check import Check
        from headrace.stream.checked import Checked
        from headrace.stream.quality import Gate

        length = positive_duration(every, "every")
        rows = self._at(self.ref, self.schema, self.time)
        if isinstance(predicate, Gate):
            watched, holds, without = predicate.watch(rows), predicate.predicate, predicate.without
        else:
            watched, holds, without = rows, predicate, ()
        gate = Check(gate=name, predicate=holds, action=action, without=without)
        main = watched.then(gate, time=watched.time)
        late = watched if without else None
        return Checked(main.graph, main.ref, main.schema, main.time, length, action, late)

    def match(
        self,
        pattern: Pattern,
        *,
        by: Columns | None = None,
        skip: Literal["none", "past_last", "to_next"] | tuple[str, str] = "none",
        measures: Mapping[str, pl.Expr] | None = None,
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Stream:
        """Give one row per match of a pattern: key, `match_start`, `match_end`, the measures.

        Args:
            pattern: What to look for, made by `hr.Pattern.begin` and its methods.
            by: Key columns; None makes one group.
            skip: Which matches a match rules out: `none`, `past_last`, `to_next`,
                `("to_first", step)` or `("to_last", step)`.
            measures: What to say of a match, expressions over `hr.matched(step)`.
            forget: The longest match where the pattern has no `within`.
            name: Identity of the state.

        Raises:
            PlanError: The pattern cannot be found, or does not fit the columns.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> logins = app.topic(
            ...     "logins",
            ...     {"user": pl.String, "time": pl.Datetime("us", "UTC"), "kind": pl.String},
            ...     time="time",
            ... )
            >>> pattern = (
            ...     hr.Pattern.begin("fail", pl.col("kind") == "fail", times=(3, None))
            ...     .followed_by("ok", pl.col("kind") == "ok")
            ...     .within("60s")
            ... )
            >>> tries = hr.matched("fail").count()
            >>> logins.match(pattern, by="user", measures={"tries": tries}).schema.names()
            ['user', 'match_start', 'match_end', 'tries']
        """
        from headrace.operators.match import Match

        operator = Match(
            pattern=pattern,
            by=column_names(by),
            skip=skip,
            measures=tuple((measures or {}).items()),
            forget=duration(forget),
            name=name,
        )
        result = self.then(operator, time=TimeColumn("match_end"))
        self.graph.times[result.ref.node] = self.time
        return result

    def drift(
        self,
        features: Columns,
        *,
        window: Duration,
        reference: pl.DataFrame | Literal["first"] = "first",
        by: Columns | None = None,
        bins: int = 10,
        forget: Duration = "30d",
        name: str | None = None,
    ) -> Stream:
        """Say how far the values of features have moved from a reference, window by window.

        One row per window, key and feature, with `missing`, `psi`, `ks` and `outside`; see
        `headrace.operators.drift.Drift`. As a rule of thumb a PSI below 0.1 is nothing, above
        0.25 much.

        Args:
            features: Numeric, Boolean or text columns.
            window: Length of event time compared at once.
            reference: Rows that are as they should be; or `first`, each key's first window.
            by: Key columns.
            bins: Number of bins for the PSI of numbers.
            forget: With `first`, a key silent for longer takes another reference.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing, or is no number, Boolean or text.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> orders = app.topic("orders", {"time": utc, "euro": pl.Float64}, time="time")
            >>> usual = pl.DataFrame({"euro": [10.0, 20.0, 30.0, 40.0]})
            >>> _ = app.output("moved", orders.drift("euro", window="1h", reference=usual))
            >>> rows = pl.DataFrame({"time": [0, 1], "euro": [40.0, 50.0]}).cast({"time": utc})
            >>> moved = hr.testing.run(app, {"orders": rows})["moved"]
            >>> moved.select("feature", "ks", "outside").rows()
            [('euro', 0.75, 0.5)]
        """
        from headrace.operators.drift import Drift, histograms
        from headrace.operators.project import check_present

        columns = column_names(features)
        parameters: dict[str, Any] = {}
        if isinstance(reference, pl.DataFrame):
            check_present(columns, reference.schema)
            error = Drift.model_fields["error"].default
            parameters["reference"] = histograms(reference, columns, error)
        operator = Drift(
            features=columns,
            every=positive_duration(window, "window"),
            by=column_names(by),
            bins=bins,
            forget=duration(forget),
            name=name,
            **parameters,
        )
        result = self.then(operator, time=TimeColumn("window_end", -1))
        self.graph.times[result.ref.node] = self.time
        return result

    def geofence(  # noqa: PLR0913 - the words of the contract
        self,
        zones: HasStream | Mapping[str, Any] | str,
        *,
        by: Columns,
        lon: str = "longitude",
        lat: str = "latitude",
        depth: str | None = None,
        detect: Sequence[str] = ("enter", "exit"),
        min_dwell: Duration | None = None,
        border_m: float = 0.0,
        order: Order = "event",
        attributes: Sequence[str] = (),
        forget: Duration = "24h",
        name: str | None = None,
    ) -> Fenced:
        """Follow vehicles through zones; see `headrace.operators.geofence.Geofence`.

        Args:
            zones: A control table, or a GeoJSON FeatureCollection.
            by: Columns that identify a vehicle.
            lon: Longitude column, degrees.
            lat: Latitude column, degrees.
            depth: Depth column, metres.
            detect: Events to report.
            min_dwell: How long a visit lasts before it is reported.
            border_m: How far outside a visit goes on.
            order: `event` waits for the watermark, `arrival` judges at once.
            attributes: Zone columns to carry along.
            forget: A vehicle silent for longer begins anew.
            name: Identity of the state.
        """
        parameters: dict[str, Any] = {
            "by": column_names(by),
            "lon": lon,
            "lat": lat,
            "depth": depth,
            "detect": tuple(detect),
            "min_dwell": None if min_dwell is None else duration(min_dwell),
            "border_m": border_m,
            "order": order,
            "attributes": tuple(attributes),
            "forget": duration(forget),
            "name": name,
        }
        if isinstance(zones, str | Mapping):
            main = self._then(Geofence(zones=zones, **parameters))
        else:
            main = self._then(Geofence(**parameters), zones.stream)
        from headrace.stream.stream import Fenced

        return Fenced(main.graph, main.ref, main.schema, main.time)

    def rules(
        self,
        table: ControlTable,
        *,
        by: Columns,
        order: Order = "arrival",
        zones: str | None = None,
        forget: Duration = "24h",
        routes: bool = True,
        name: str | None = None,
    ) -> Ruled:
        """Judge every row by every rule of a control table; one row per row and rule that holds.

        The table's records are `hr.Rule`; from now on one that does not fit the columns of this
        stream is refused when it is saved. A changed rule counts from the next row. The result
        has `.cleared`, where a rule that held for a key does not any more; `.absent`, rows that
        rules could not judge; `.late`. See `headrace.operators.rules.Rules`.

        Args:
            table: The rules, `app.control_table("rules", hr.Rule, key="rule_id")`.
            by: Columns that identify what is judged.
            order: `arrival` judges at once, `event` waits for the watermark.
            zones: The column that names the zones of a row, e.g. `fences` after `geofence`.
            forget: A key silent for longer has no value before.
            routes: Whether the application gets `POST /rules` and so on, by the table's name.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing, taken, or of a wrong type.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> columns = {"vehicle": pl.String, "time": utc, "depth_m": pl.Float64}
            >>> dives = app.topic("dives", columns, time="time")
            >>> rules = app.control_table("rules", hr.Rule, key="rule_id")
            >>> _ = app.output("violations", dives.rules(rules, by="vehicle"))
            >>> deep = {"rule_id": "deep", "condition": "depth_m > 200", "severity": "high"}
            >>> rows = pl.DataFrame(
            ...     {"vehicle": ["a", "a"], "time": [0, 1], "depth_m": [150.0, 250.0]}
            ... ).cast({"time": utc})
            >>> outputs = hr.testing.run(app, {"rules": hr.Rule.frame([deep]), "dives": rows})
            >>> outputs["violations"].select("severity", "message", "value_before").rows()
            [('high', 'deep: 250.0 (200)', 150.0)]
        """
        from headrace.operators.rules import FittingRules, Rules
        from headrace.stream.rule_routes import serve_rules
        from headrace.stream.ruled import Ruled

        operator = Rules(
            by=column_names(by), order=order, zones=zones, forget=duration(forget), name=name
        )
        main = self._then(operator, table.stream)
        table.require(FittingRules(operator, self.schema))
        if routes:
            serve_rules(table, main.ref.node)
        return Ruled(main.graph, main.ref, main.schema, main.time)

    def detect(
        self,
        detector: Detector | None = None,
        *,
        value: str | pl.Expr,
        by: Columns | None = None,
        order: Order = "event",
        forget: Duration = "30d",
        name: str | None = None,
    ) -> Stream:
        """Give every row with how strange its value is, given those of its key before it.

        Adds `anomaly_score` (0 to 1, the calibrated likelihood of an anomaly), `is_anomaly`,
        `is_change` and `explanation`.

        Args:
            detector: `hr.detector.ensemble()`, which is the default, or another of
                `hr.detector`.
            value: Column with the numbers; null, NaN and infinite score 0 and are not learnt.
            by: Key columns; None makes one series.
            order: `event` judges rows in event-time order once the watermark has passed them,
                `arrival` at once.
            forget: A key silent for longer begins anew.
            name: Identity of the state.

        Raises:
            PlanError: A column is missing, taken, or no number.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> utc = pl.Datetime("us", "UTC")
            >>> pumps = app.topic("pumps", {"time": utc, "bar": pl.Float64}, time="time")
            >>> zscore = hr.detector.zscore(window=50, warmup=10)
            >>> _ = app.output("judged", pumps.detect(zscore, value="bar"))
            >>> bar = [2.0, 2.1] * 10 + [5.0, 2.0]
            >>> rows = pl.DataFrame({"time": range(22), "bar": bar}).cast({"time": utc})
            >>> judged = hr.testing.run(app, {"pumps": rows})["judged"]
            >>> judged.filter("is_anomaly")["explanation"].to_list()
            ['5.0 against 2.05 ± 0.0526 (mean of the last values); tail 1e-21.7']
        """
        from headrace.operators.detect import Detect
        from headrace.operators.detectors import ensemble

        return self._then(
            Detect(
                detector=detector or ensemble(),
                value=value,
                by=column_names(by),
                order=order,
                forget=duration(forget),
                name=name,
            )
        )

    def control_chart(
        self,
        chart: Chart,
        value: Columns,
        by: Columns | None = None,
        *,
        forget: Duration = "30d",
        name: str | None = None,
    ) -> Stream:
        """Draw samples into a control chart per key; one row per sample, those of phase I too.

        Args:
            chart: `hr.chart.xbar(size=5, phase1=25)` and others.
            value: The measurement; `t2` takes several columns.
            by: Key columns; None makes one chart.
            forget: A key silent for longer begins anew, phase I too.
            name: Identity of the state.

        Example:
            >>> import headrace as hr
            >>> app = hr.App("doc")
            >>> rings = app.topic(
            ...     "rings",
            ...     {"press": pl.String, "time": pl.Datetime("us", "UTC"), "mm": pl.Float64},
            ...     time="time",
            ... )
            >>> drawn = rings.control_chart(hr.chart.xbar(size=5, phase1=25), "mm", by="press")
            >>> drawn.schema.names()[4:]
            ['n', 'statistic', 'center', 'sd', 'lcl', 'ucl', 'phase', 'violations']
        """
        from headrace.operators.control_chart import ControlChart

        operator = ControlChart(
            chart=chart,
            value=column_names(value),
            by=column_names(by),
            forget=duration(forget),
            name=name,
        )
        # Phase I leaves when it ends, so no column shows the event time of every row.
        result = self.then(operator, time=None)
        self.graph.times[result.ref.node] = self.time
        return result
