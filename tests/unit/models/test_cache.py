"""Loaded models: least recently used ones go, those in use never."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from headrace.bench.tree_model import Trees
from headrace.models.cache import ModelCache
from headrace.models.description import Treelite
from headrace.models.spec import LoadSpec

COLUMNS = pl.Schema({"x": pl.Float64()})


@pytest.fixture
def specs(tmp_path: Path) -> list[LoadSpec]:
    return [
        LoadSpec.of(
            Treelite(
                name=f"m{seed}",
                source=str(
                    Trees.random(1, 1, 1, seed=seed).write_treelite(tmp_path / f"{seed}.tl")
                ),
                isolated=False,
            ),
            COLUMNS,
        )
        for seed in range(4)
    ]


@pytest.fixture
def cache() -> Iterator[ModelCache]:
    cache = ModelCache(size=2)
    yield cache
    cache.clear()


def names(cache: ModelCache) -> list[str]:
    return [scorer.spec.name for scorer in cache.loaded()]


def test_the_least_recently_used_goes_first(cache: ModelCache, specs: list[LoadSpec]) -> None:
    for number in (0, 1, 0, 2):
        cache.lease(specs[number])

    assert names(cache) == ["m0", "m2"]


def test_what_is_in_use_is_never_let_go(cache: ModelCache, specs: list[LoadSpec]) -> None:
    held = [cache.lease(spec) for spec in specs[:3]]

    full = names(cache)
    del held[1:]
    cache.lease(specs[3])

    assert full == ["m0", "m1", "m2"]
    assert names(cache) == ["m0", "m3"]
    assert held[0].scorer.wait(60)


def test_memory_bounds_the_cache_too(cache: ModelCache, specs: list[LoadSpec]) -> None:
    cache.limit(size=10, max_bytes=1000)
    for spec in specs[:3]:
        scorer = cache.lease(spec).scorer
        scorer.wait(60)
        scorer.memory_bytes = 400

    cache.lease(specs[3])

    assert names(cache) == ["m1", "m2", "m3"]


def test_a_version_is_loaded_once_for_all_who_use_it(
    cache: ModelCache, specs: list[LoadSpec]
) -> None:
    first, second = cache.lease(specs[0]), cache.lease(specs[0])

    assert first.scorer is second.scorer
    assert first.scorer.wait(60)


def test_what_was_let_go_answers_no_more(cache: ModelCache, specs: list[LoadSpec]) -> None:
    scorer = cache.lease(specs[0]).scorer
    scorer.wait(60)

    cache.clear()

    assert not scorer.ready
    assert scorer.ask(pl.DataFrame({"x": [1.0]})).reason == "not loaded"
