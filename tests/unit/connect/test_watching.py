from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import headrace as hr
from headrace.bench.tree_model import Trees
from headrace.connect.handlers import CONNECT_SLOT
from headrace.connect.watching import KEPT, ModelWatcher, fed_models
from headrace.core.errors import ConfigError
from headrace.core.log import Reader, Writer
from headrace.core.time import TIME_DTYPE
from headrace.log import MemoryLog
from headrace.models.source import content_version
from headrace.testing import TestClock

LOG_ROWS = pl.Schema({"time": TIME_DTYPE, "x": pl.Float64()})


def write(path: Path, seed: int, width: int = 1) -> str:
    return content_version(str(Trees.random(2, 2, width, seed=seed).write_treelite(path)))


def application(path: Path) -> hr.App:
    app = hr.App("watched")
    model = hr.model.treelite(path, name="fare")
    versions = app.watch_models([model])
    rows = app.topic("rows", LOG_ROWS, time="time")
    app.output("told", rows.predict(model, ["x"], versions=versions))
    return app


class Place:
    """A log, a clock, a folder for copies, and a watcher on them."""

    def __init__(self, app: hr.App, home: Path, *, tried: bool) -> None:
        self.app, self.home = app, home
        self.log, self.clock = MemoryLog(), TestClock()
        self.writer: Writer = self.log.writer("connect-watched", CONNECT_SLOT)
        self.reader: Reader = self.log.reader()
        self.fed = fed_models(app.plan()) if tried else {}
        self.watcher = self.another()

    def another(self) -> ModelWatcher:
        (watch,) = self.app.watches
        return ModelWatcher(watch, self.fed, self.writer, self.clock, self.home)

    def announced(self) -> pl.DataFrame:
        found = []
        for at, info in self.reader.partitions(["models.found"]).items():
            if info.end > info.start:
                found += self.reader.read(at, info.start, 1000, 1 << 20)
        return pl.concat([batch.frame for batch in found]) if found else pl.DataFrame()


async def test_each_new_version_is_announced_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "fare.tl"
    first = write(path, 1)
    place = Place(application(path), tmp_path / "kept", tried=False)

    await place.watcher.turn()
    await place.watcher.turn()
    await place.another().turn()
    second = write(path, 2)
    await place.watcher.turn()

    rows = place.announced()
    assert rows["name"].to_list() == ["fare", "fare"]
    assert rows["model_version"].to_list() == [first, second]
    assert [content_version(source) for source in rows["source"]] == [first, second]
    assert str(path) not in rows["source"]


async def test_copies_of_old_versions_go(tmp_path: Path) -> None:
    path = tmp_path / "fare.tl"
    versions = []
    write(path, 0)
    place = Place(application(path), tmp_path / "kept", tried=False)

    for seed in range(KEPT + 2):
        versions.append(write(path, seed))
        await place.watcher.turn()

    assert {one.name for one in (tmp_path / "kept" / "fare").iterdir()} == set(versions[-KEPT:])


async def test_a_version_that_cannot_be_used_is_not_announced(tmp_path: Path) -> None:
    path = tmp_path / "fare.tl"
    good = write(path, 1)
    place = Place(application(path), tmp_path / "kept", tried=True)

    await place.watcher.turn()
    write(path, 2, width=3)
    await place.watcher.turn()

    assert place.announced()["model_version"].to_list() == [good]
    status = place.watcher.status()["fare"]
    assert status["version"] == good
    assert "takes 3 features, 1 are given" in status["error"]


async def test_a_file_that_is_gone_is_looked_for_again_later(tmp_path: Path) -> None:
    path = tmp_path / "fare.tl"
    write(path, 1)
    place = Place(application(path), tmp_path / "kept", tried=False)
    await place.watcher.turn()
    path.unlink()

    await place.watcher.turn()
    gone = place.watcher.status()["fare"]["error"]
    back = write(path, 2)
    await place.watcher.turn()
    too_early = place.announced().height
    place.clock.advance("6s")
    await place.watcher.turn()

    assert "there is no model" in gone
    assert too_early == 1
    assert place.announced()["model_version"].to_list()[1:] == [back]


def test_a_model_with_a_version_of_its_own_is_not_watched() -> None:
    app = hr.App("refused")
    with pytest.raises(ConfigError, match="version of its own"):
        app.watch_models([hr.model.treelite("fare.tl", version="1")])
