"""What the role connect does for an application: functions, channels, models to follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

from headrace.alerts.channel import Channel
from headrace.models.description import Artifact


@dataclass(frozen=True, slots=True)
class Delivery:
    """A channel that takes its rows of a topic of notifications; run by the role connect."""

    topic: str
    channel: Channel


@dataclass(frozen=True, slots=True)
class Watch:
    """Models whose versions are followed; run by the role connect.

    Attributes:
        table: The control table that holds which version answers.
        topic: The topic that feeds it, with the columns `schema`.
        models: What is looked at, every so often.
    """

    table: str
    topic: str
    schema: pl.Schema
    models: tuple[Artifact, ...]
    every: timedelta


@dataclass(frozen=True, slots=True)
class Handler:
    """A Python function that takes a topic's rows; run by the role connect."""

    name: str
    topic: str
    fn: Callable[..., Any]
    batch: int
    concurrency: int
    attempts: int
