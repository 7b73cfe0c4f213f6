"""Stream: rows that flow, with a method per operator, and what some of them return."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.operators.geofence import POSITIONS
from headrace.operators.joined_columns import LATE_RIGHT
from headrace.operators.predict import SHADOW
from headrace.stream.alerting import Alerting
from headrace.stream.correlated import Correlating
from headrace.stream.decided import Deciding
from headrace.stream.joined import Joining
from headrace.stream.predicted import Predicting
from headrace.stream.reviewing import Reviewing
from headrace.stream.row_wise import RowWise
from headrace.stream.spatial import Spatial
from headrace.stream.windowed import Windowing


@dataclass(frozen=True, slots=True)
class Stream(
    RowWise,
    Windowing,
    Joining,
    Predicting,
    Deciding,
    Spatial,
    Correlating,
    Alerting,
    Reviewing,
):
    """Rows that flow from one port of a step to whoever reads them.

    Streams are made by `app.topic` and by their own methods, never directly. They are immutable:
    every method returns another stream, and using one twice runs its steps once.
    """


@dataclass(frozen=True, slots=True)
class Joined(Stream):
    """The result of a join."""

    @property
    def late_right(self) -> Stream:
        """The rows of the right side that came too late; those of the left are `late`."""
        return self._port(LATE_RIGHT)


@dataclass(frozen=True, slots=True)
class Fenced(Stream):
    """The events of a geofence, and beside them every position."""

    @property
    def positions(self) -> Stream:
        """Every judged position once, with its events as the list column `fences`."""
        return self._port(POSITIONS)


@dataclass(frozen=True, slots=True)
class Predicted(Stream):
    """Rows with the predictions of a model."""

    @property
    def shadow(self) -> Stream:
        """The same rows with the answers of the shadow model; empty where there is none."""
        return self._port(SHADOW)
