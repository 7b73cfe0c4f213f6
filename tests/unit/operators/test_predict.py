from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace.bench.tree_model import Trees
from headrace.core.errors import ConfigError, PlanError
from headrace.core.time import TIME_DTYPE
from headrace.models.cache import CACHE
from headrace.models.counts import counted
from headrace.models.make import (
    Version,
    mean,
    onnx,
    sklearn,
    stacked,
    treelite,
    vote,
    weighted,
)
from headrace.models.source import content_version
from headrace.operators.predict import Predict
from headrace.testing.case import Case, InputSpec
from headrace.testing.solo import Solo, Step
from tests.unit.models.files import DIE, HANG, RAISE, SLOW, broken, moody

ROWS = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Float64(), "y": pl.Float64()})
VERSIONS = pl.Schema({**dict.fromkeys(("name", "model_version", "source", "__op"), pl.String())})
TREES = [Trees.random(4, 3, 2, seed=seed) for seed in (1, 2, 3)]
FEATURES = ("x", "y")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    for number, trees in enumerate(TREES):
        trees.write_treelite(home / f"m{number}.tl")
        trees.write_onnx(home / f"m{number}.onnx")
    moody(home / "moody.pkl")
    moody(home / "better.pkl", factor=3.0)
    broken(home / "broken.pkl")
    return home


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[None]:
    """Let nothing of these tests run on."""
    yield
    CACHE.clear()


def rows(x: Sequence[float | None], k: Sequence[str | None] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "time": range(len(x)),
            "k": k or ["a"] * len(x),
            "x": x,
            "y": [0.25] * len(x),
            "__event_time": range(len(x)),
            "__position": range(len(x)),
        },
        schema={**ROWS, "__event_time": pl.Int64, "__position": pl.Int64},
    )


def change(name: str, version: str, source: Path, op: str = "upsert") -> pl.DataFrame:
    row = {"name": name, "model_version": version, "source": str(source), "__op": op}
    return pl.DataFrame([{**row, "__event_time": 0, "__position": 0}])


def solo(operator: Predict) -> Solo:
    inputs = [InputSpec(ROWS), InputSpec(VERSIONS)][: 2 if operator.versioned else 1]
    return Solo(Case(operator, tuple(inputs)))


def answer(run: Solo, frame: pl.DataFrame, *changes: pl.DataFrame) -> pl.DataFrame:
    frames = {0: frame, 1: pl.concat(changes)} if changes else {0: frame}
    before = run.steps
    run.step(Step(0, 0, frames))
    return pl.concat(
        [one.frame for one in run.emitted if one.step == before and one.port == "main"]
    )


def expected(number: int, x: list[float]) -> list[float]:
    return [float(one) for one in TREES[number].predict(np.array([[each, 0.25] for each in x]))]


def tree(folder: Path, number: int, **given: Any) -> Any:
    return treelite(folder / f"m{number}.tl", isolated=False, **given)


def test_rows_keep_their_order_and_say_which_version_answered(folder: Path) -> None:
    model = tree(folder, 0)

    got = answer(solo(Predict(model=model, features=FEATURES)), rows([0.5, -0.5, 2.0]))

    assert got["prediction"].to_list() == expected(0, [0.5, -0.5, 2.0])
    assert got["model_name"].unique().to_list() == ["m0"]
    assert got["model_version"].unique().to_list() == [content_version(str(folder / "m0.tl"))]
    assert got["fallback"].null_count() == 3


def test_onnx_and_treelite_files_of_the_same_trees_agree(folder: Path) -> None:
    model = onnx(folder / "m1.onnx", isolated=False)

    got = answer(solo(Predict(model=model, features=FEATURES)), rows([0.5, None]))

    assert got["prediction"].to_list() == pytest.approx(expected(1, [0.5, float("nan")]), rel=1e-6)


def test_features_may_have_other_names_in_the_model(folder: Path) -> None:
    model = tree(folder, 0, features=("first", "second"))
    mapped = {"second": "y", "first": "x"}

    got = answer(solo(Predict(model=model, features=mapped)), rows([0.7]))

    assert got["prediction"].to_list() == expected(0, [0.7])


# -- what is refused when the plan is made --------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"features": ("x", "z")}, "no column 'z'"),
        ({"features": ("x", "k")}, "'k' is String"),
        ({"features": ("x",)}, "takes 2 features, 1 are given"),
        ({"features": ()}, "are not named"),
        ({"fallback": "default"}, "no default"),
        ({"default": {"prediction": "high"}}, "does not fit"),
        ({"budget": "0s"}, "budget"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(
    folder: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PlanError, match=reason):
        Predict(**{"model": tree(folder, 0), "features": FEATURES} | changed).output_schema(ROWS)


def test_a_file_that_is_missing_or_no_model_is_refused_at_once(folder: Path) -> None:
    for path, reason in (
        (folder / "none.tl", "no file"),
        (folder / "broken.pkl", "cannot be used"),
    ):
        with pytest.raises(PlanError, match=reason):
            Predict(model=treelite(path), features=FEATURES).output_schema(ROWS)


def test_models_of_different_outputs_or_of_one_name_are_refused(folder: Path) -> None:
    other = tree(folder, 1, outputs={"score": pl.Float64})
    with pytest.raises(PlanError, match="agree"):
        Predict(model=tree(folder, 0), features=FEATURES, shadow=other)
    with pytest.raises(PlanError, match="called 'm0'"):
        Predict(model=tree(folder, 0), features=FEATURES, shadow=tree(folder, 1, name="m0"))


def test_a_model_that_runs_code_must_have_its_own_process(folder: Path) -> None:
    from headrace.models.description import Sklearn

    with pytest.raises(ConfigError, match="runs code"):
        Sklearn(name="moody", source=str(folder / "moody.pkl"), isolated=False)


# -- several models -------------------------------------------------------------------------------


def test_keys_are_divided_by_share_and_stay_where_they_are(folder: Path) -> None:
    keys: list[str | None] = [f"k{number % 1000}" for number in range(3000)]
    operator = Predict(
        model=tree(folder, 0),
        features=FEATURES,
        challengers={tree(folder, 1): 0.2, tree(folder, 2): 0.1},
        by="k",
    )

    got = answer(solo(operator), rows([0.5] * 3000, keys))

    shares = got.group_by("model_name").agg(pl.len() / 3000).sort("model_name")["len"].to_list()
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.04)
    assert got.group_by("k").agg(pl.col("model_name").n_unique())["model_name"].max() == 1
    right = {f"m{number}": expected(number, [0.5])[0] for number in range(3)}
    assert got["prediction"].to_list() == [right[name] for name in got["model_name"]]
    assert got["time"].is_sorted()


def test_a_larger_share_moves_keys_to_the_challenger_only(folder: Path) -> None:
    keys: list[str | None] = [f"k{number}" for number in range(500)]
    chosen = []
    for share in (0.2, 0.5):
        operator = Predict(
            model=tree(folder, 0), features=FEATURES, challengers={tree(folder, 1): share}, by="k"
        )
        got = answer(solo(operator), rows([0.5] * 500, keys))
        chosen.append(set(got.filter(pl.col("model_name") == "m1")["k"]))

    assert chosen[0] < chosen[1]


def test_a_shadow_is_asked_and_never_answers(folder: Path) -> None:
    run = solo(Predict(model=tree(folder, 0), features=FEATURES, shadow=tree(folder, 1)))

    got = answer(run, rows([0.5, 1.5]))

    beside = run.outputs()["shadow"]
    assert got["prediction"].to_list() == expected(0, [0.5, 1.5])
    assert beside["prediction"].to_list() == expected(1, [0.5, 1.5])
    assert beside["model_name"].to_list() == ["m1", "m1"]


def test_ensembles_answer_as_one(folder: Path) -> None:
    members = [tree(folder, number) for number in range(3)]
    x = [0.5, -1.0]
    answers = np.array([expected(number, x) for number in range(3)])
    top = tree(folder, 0, name="top")

    def of(model: Any) -> list[float]:
        return answer(solo(Predict(model=model, features=FEATURES)), rows(x))[
            "prediction"
        ].to_list()

    assert of(mean(members)) == pytest.approx(answers.mean(axis=0))
    assert of(weighted(dict(zip(members, (1, 2, 1), strict=True)))) == pytest.approx(
        np.average(answers, axis=0, weights=(1, 2, 1))
    )
    assert of(stacked(members[1:], top)) == TREES[0].predict(answers[1:].T).tolist()


def test_the_majority_wins_and_among_equals_the_earliest_model(folder: Path) -> None:
    ensemble = vote([tree(folder, number) for number in range(3)])
    answers = [[1, 1, 7, None], [2, 2, 8, None], [2, 3, 8, 9]]

    got = ensemble.combine([pl.DataFrame({"prediction": one}) for one in answers])

    assert got["prediction"].to_list() == [2.0, 1.0, 8.0, 9.0]


# -- when it goes wrong ---------------------------------------------------------------------------


def test_a_model_that_raises_dies_or_hangs_stops_nobody_and_comes_back(folder: Path) -> None:
    model = sklearn(folder / "moody.pkl")
    operator = Predict(
        model=model,
        features=("x",),
        fallback="default",
        default={"prediction": 9.0},
        hang_after="1s",
    )
    run = solo(operator)

    seen: list[tuple[float, str | None]] = []
    for mood in (1.0, RAISE, 2.0, DIE, 3.0, HANG, 4.0):
        if seen and seen[-1][1] in ("died", "hung"):
            (scorer,) = [one for one in CACHE.loaded() if one.spec.name == "moody"]
            assert scorer.wait_ready(120)
        (row,) = answer(run, rows([mood])).select("prediction", "fallback").rows()
        seen.append(row)

    assert seen == [
        (2.0, None),
        (9.0, "error"),
        (4.0, None),
        (9.0, "died"),
        (6.0, None),
        (9.0, "hung"),
        (8.0, None),
    ]
    count = {
        (one["what"], one["reason"]): one["count"] for one in counted() if one["model"] == "moody"
    }
    assert count["fallbacks", "error"] == count["fallbacks", "died"] == 1
    assert count["failures", "hung"] == count["fallbacks", "hung"] == 1
    assert count["restarts", ""] == 2


def test_a_budget_ends_the_wait_and_the_model_is_left_alone_until_it_is_done(folder: Path) -> None:
    model = sklearn(folder / "moody.pkl", name="slow")
    run = solo(Predict(model=model, features=("x",), budget="100ms"))
    answer(run, rows([1.0]))

    began = time.monotonic()
    late = answer(run, rows([SLOW]))
    took = time.monotonic() - began
    busy = answer(run, rows([1.0]))

    assert (late["fallback"].item(), late["prediction"].item()) == ("budget", None)
    assert took < 0.45
    assert busy["fallback"].item() == "busy"
    assert late["model_version"].item() is None


def test_a_missing_feature_is_not_scored_where_the_model_cannot_take_it(folder: Path) -> None:
    model = tree(folder, 0, name="whole", missing=False)
    operator = Predict(model=model, features=FEATURES, default={"prediction": -1.0})

    got = answer(solo(operator), rows([0.5, None, float("nan")]))

    assert got["prediction"].to_list() == [*expected(0, [0.5]), -1.0, -1.0]
    assert got["fallback"].to_list() == [None, "missing feature", "missing feature"]


# -- versions -------------------------------------------------------------------------------------


def test_a_new_version_answers_from_the_step_that_brings_it(folder: Path) -> None:
    operator = Predict(model=tree(folder, 0), features=FEATURES, versioned=True, swap_wait="30s")
    run = solo(operator)

    before = answer(run, rows([0.5]))
    after = answer(run, rows([0.5]), change("m0", "2", folder / "m1.tl"))
    run.resume()
    resumed = answer(run, rows([0.5]))
    back = answer(run, rows([0.5]), change("m0", "2", folder / "m1.tl", op="delete"))

    assert before["prediction"].to_list() == back["prediction"].to_list() == expected(0, [0.5])
    assert after["prediction"].to_list() == resumed["prediction"].to_list() == expected(1, [0.5])
    assert [frame["model_version"].item() for frame in (after, resumed)] == ["2", "2"]


def test_a_version_that_cannot_be_loaded_never_takes_effect(folder: Path) -> None:
    operator = Predict(model=tree(folder, 0), features=FEATURES, versioned=True, swap_wait="30s")

    run = solo(operator)
    answer(run, rows([0.5]))
    got = answer(run, rows([0.5]), change("m0", "2", folder / "none.tl"))

    assert got["prediction"].to_list() == expected(0, [0.5])
    assert got["fallback"].item() == "not loaded"
    assert got["model_version"].item() == content_version(str(folder / "m0.tl"))


def test_the_previous_version_stands_in_for_one_that_fails(folder: Path) -> None:
    model = sklearn(folder / "moody.pkl", name="lively")
    operator = Predict(
        model=model, features=("x",), versioned=True, fallback="previous", swap_wait="60s"
    )
    run = solo(operator)
    answer(run, rows([1.0]), change("lively", "1", folder / "moody.pkl"))

    swapped = answer(run, rows([1.0]), change("lively", "2", folder / "better.pkl"))
    (newest,) = [one for one in CACHE.loaded() if one.spec.version == "2" and one.pid]
    newest.close()
    got = answer(run, rows([1.0]))

    assert swapped.select("prediction", "model_version").rows() == [(3.0, "2")]
    assert got.select("prediction", "model_version", "fallback").rows() == [
        (2.0, "1", "not loaded")
    ]


def test_an_application_swaps_a_model_without_losing_a_row(folder: Path) -> None:
    app = hr.App("swapping")
    stream = app.topic("rows", {"time": TIME_DTYPE, "x": pl.Float64, "y": pl.Float64}, time="time")
    versions = app.control_table("models", Version, key="name")
    scored = stream.predict(tree(folder, 0), FEATURES, versions=versions, swap_wait="30s")
    app.output("scored", scored)
    frame = pl.DataFrame({"time": range(100), "x": [0.5] * 100, "y": [0.25] * 100}).cast(
        {"time": TIME_DTYPE}
    )
    at = pl.Series("_at", [60]).cast(TIME_DTYPE)
    row = {"name": ["m0"], "model_version": ["2"], "source": [str(folder / "m1.tl")], "_at": at}

    got = hr.testing.run(app, {"rows": frame, "models": pl.DataFrame(row)}, batch_rows=7)["scored"]

    assert got["time"].to_physical().to_list() == list(range(100))
    assert (got["model_version"] == "2").to_list() == [number >= 60 for number in range(100)]
    assert set(got["prediction"]) == {expected(0, [0.5])[0], expected(1, [0.5])[0]}


def test_a_step_is_the_same_after_it_was_written_down(folder: Path) -> None:
    members = [tree(folder, number, features=("first", "second")) for number in (0, 1)]
    operator = Predict(
        model=stacked([mean(members), tree(folder, 2)], onnx(folder / "m1.onnx", name="top")),
        features={"first": "x", "second": "y"},
        challengers={weighted({members[0]: 2, members[1]: 1}): 0.25},
        by=("k",),
        shadow=vote(members),
        budget="20ms",
        default={"prediction": 0.5},
    )

    again = Predict(**json.loads(json.dumps(operator.model_dump(mode="json"))))

    assert again == operator
    assert [leaf.name for leaf in again.model.leaves()] == ["m0", "m1", "m2", "top"]
