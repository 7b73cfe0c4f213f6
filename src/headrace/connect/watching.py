"""Follows what a model's path or alias names, and announces a new version once it can be used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import structlog

from headrace.core.errors import HeadraceError, OutsideError
from headrace.core.log import Append, Commit, Put, TopicSpec, Writer
from headrace.core.time import Clock
from headrace.models.description import Artifact
from headrace.models.process import DiedError, HungError, ModelProcess, RefusedError
from headrace.models.source import Version, content_version, current_version, local_path
from headrace.models.spec import LoadSpec
from headrace.operators.predict import Predict
from headrace.plan.graph import Plan
from headrace.stream.sinks import Watch

_log = structlog.get_logger(__name__)

KEPT: Final = 5
LOAD_S: Final = 120.0
LONGEST_PAUSE_S: Final = 300.0

Fed = Mapping[str, Sequence[pl.Schema]]


@dataclass(slots=True)
class _Watched:
    """What is known of one model: what was announced, and what went wrong since."""

    model: Artifact
    announced: str | None = None
    error: str = ""
    pause_s: float = 0.0
    again_at: int = 0


class ModelWatcher:
    """Looks at the models of one table, one after the other, in a task of its own.

    Args:
        watch: What to look at.
        fed: The columns each model is given, by its name, once per step that uses it.
        writer: Where new versions and what was announced go.
        clock: Stamps versions, and says when to try again.
        home: Where copies of files are kept, in a folder per model.
    """

    def __init__(self, watch: Watch, fed: Fed, writer: Writer, clock: Clock, home: Path) -> None:
        self._watch = watch
        self._fed = fed
        self._writer = writer
        self._clock = clock
        self._home = home
        infos = writer.create(TopicSpec(watch.topic, watch.schema))
        self._partition = infos[0].partition
        known = writer.scan(self._key(""))
        self._models = [
            _Watched(model, _text(known.get(self._key(model.name)))) for model in watch.models
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Look every now and then until `stop` is set."""
        while not stop.is_set():
            await self.turn()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._watch.every.total_seconds())

    async def turn(self) -> None:
        """Look at every model once."""
        for one in self._models:
            if self._clock.monotonic() >= one.again_at:
                await self._look(one)

    def status(self) -> dict[str, Any]:
        """Return what was announced of each model, and why a newer version was not."""
        return {
            one.model.name: {"version": one.announced, "error": one.error} for one in self._models
        }

    async def _look(self, one: _Watched) -> None:
        try:
            found = await asyncio.to_thread(current_version, one.model)
            if found.version == one.announced:
                self._well(one)
                return
            usable = await asyncio.to_thread(self._tried, one.model, found)
        except (HeadraceError, OSError, RefusedError, DiedError, HungError) as error:
            self._ill(one, str(error))
            return
        self._announce(one, usable)
        self._well(one)

    def _tried(self, model: Artifact, found: Version) -> Version:
        """Return a version that was loaded and warmed, in a place where it will not change."""
        kept = self._copied(model, found)
        for schema in self._fed.get(model.name, ()):
            _try(model, kept, schema)
        return kept

    def _copied(self, model: Artifact, found: Version) -> Version:
        source = local_path(found.source)
        if not source.exists():
            return found  # it lies in a registry, whose versions do not change
        folder = self._home / model.name
        target = folder / content_version(found.source) / source.name
        if not target.exists():
            draft = folder / ".coming"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            if source.is_dir():
                shutil.copytree(source, draft / source.name)
            else:
                shutil.copy2(source, draft / source.name)
            if content_version(str(draft / source.name)) != target.parent.name:
                raise OutsideError(f"{found.source} changes while it is copied")
            draft.rename(target.parent)
        return Version(found.version, str(target.resolve()))

    def _announce(self, one: _Watched, found: Version) -> None:
        now = self._clock.now()
        row = {"name": one.model.name, "model_version": found.version, "source": found.source}
        frame = pl.DataFrame([row]).with_columns(
            pl.lit(now, pl.Int64).cast(self._watch.schema["found_at"]).alias("found_at")
        )
        rows = frame.select(list(self._watch.schema))
        append = Append(self._watch.topic, self._partition, rows, 1, arrival_us=now)
        put = Put(self._key(one.model.name), json.dumps(found.version).encode())
        self._writer.commit([Commit(appends=[append], puts=[put])])
        one.announced = found.version
        _log.info("model.announced", model=one.model.name, version=found.version)
        _forget_old(self._home / one.model.name, Path(found.source).parent)

    def _well(self, one: _Watched) -> None:
        one.error, one.pause_s, one.again_at = "", 0.0, 0

    def _ill(self, one: _Watched, error: str) -> None:
        if error != one.error:
            _log.warning("model.not_announced", model=one.model.name, error=error)
        one.error = error
        one.pause_s = min(max(2 * one.pause_s, self._watch.every.total_seconds()), LONGEST_PAUSE_S)
        one.again_at = self._clock.monotonic() + round(one.pause_s * 1e6)

    def _key(self, model: str) -> str:
        return f"watch/{self._watch.table}/{model}"


def fed_models(plan: Plan) -> dict[str, list[pl.Schema]]:
    """Return the columns that the steps of a plan give to each model, by its name."""
    found: dict[str, list[pl.Schema]] = {}
    for node in plan.nodes:
        if isinstance(node.operator, Predict):
            for model, schema in node.operator.fed(node.input_schemas[0]):
                given = found.setdefault(model.name, [])
                if schema not in given:
                    given.append(schema)
    return found


def _try(model: Artifact, found: Version, features: pl.Schema) -> None:
    """Load and warm a version in a process that is then ended.

    Raises:
        RefusedError: It cannot be loaded, or refuses the rows it is warmed with.
        DiedError: Its process ended.
        HungError: It took longer than two minutes.
    """
    process = ModelProcess(model.threads)
    try:
        process.load(LoadSpec.of(model, features, found), LOAD_S)
    finally:
        process.kill()


def _forget_old(folder: Path, newest: Path) -> None:
    """Keep the copies that were made last, the newest in any case."""
    if not folder.is_dir():
        return
    copies = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for old in [copy for copy in copies if copy.resolve() != newest.resolve()][KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)


def _text(value: bytes | None) -> str | None:
    return None if value is None else str(json.loads(value))
