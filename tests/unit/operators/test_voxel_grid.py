from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import headrace as hr
from headrace import testing
from headrace.core.errors import PlanError, StateError
from headrace.core.time import EVENT_TIME, POSITION
from headrace.operators.voxel_grid import VoxelGrid
from headrace.operators.voxels.blocks import BlockIndex
from headrace.operators.voxels.lattice import BLOCK, Lattice
from tests.unit.operators.drive import SECOND, Drive, cut, timed

AXES = ("x", "y", "z")
SCHEMA = pl.Schema(
    {"t": pl.Float64(), "k": pl.String(), **dict.fromkeys((*AXES, "v"), pl.Float64())}
)
UTC = pl.Datetime("us", "UTC")


def grid(**parameters: Any) -> VoxelGrid:
    given = {"bbox": (0, 0, 0, 20, 20, 20), "resolution": 1.0, "value": "v", "order": "arrival"}
    return VoxelGrid(**{**given, **parameters})


def points(*rows: tuple[float, str, float, float, float, float], start: int = 0) -> pl.DataFrame:
    return timed(pl.DataFrame(rows, schema=SCHEMA, orient="row"), start=start)


def cloud(count: int, seed: int = 7) -> pl.DataFrame:
    """Return points in few voxels, their values far from zero, so that naive sums cancel."""
    random = np.random.default_rng(seed)
    where = random.normal(10, 1.5, (3, count)).clip(0, 20)
    columns = dict(zip(AXES, where, strict=True))
    values = 1e9 + random.normal(0, 1, count)
    frame = pl.DataFrame({"t": np.arange(count) / 1000, "k": "a", **columns, "v": values})
    return timed(frame.select(list(SCHEMA)))


def latest(run: Drive) -> pl.DataFrame:
    keys = ["ix", "iy", "iz"]
    return run.rows().unique(keys, keep="last", maintain_order=True).sort(keys)


def batch_answer(frame: pl.DataFrame) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Group by floored coordinates; each voxel's statistics by NumPy over all its values."""
    where = np.floor(frame.select(AXES).to_numpy()).astype(int).clip(0, 19)
    order = np.lexsort(where.T[::-1])
    edges = np.flatnonzero(np.any(np.diff(where[order], axis=0), axis=1)) + 1
    told: dict[tuple[int, ...], tuple[float, ...]] = {}
    for rows in np.split(order, edges):
        values = frame["v"].to_numpy()[np.sort(rows)]
        variance = values.var(ddof=1) if values.size > 1 else np.nan
        ends = (values.min(), values.max(), values[-1])
        told[tuple(where[rows[0]].tolist())] = (values.size, values.mean(), variance, *ends)
    return told


@pytest.mark.parametrize("order", ["arrival", "event"])
def test_any_cuts_and_restores_give_what_numpy_says_of_all_points(order: str) -> None:
    frame = cloud(20_000)
    expected = batch_answer(frame)
    for bounds in ([], [1, 2, 5000, 5001, 12_000]):
        run = Drive(grid(order=order), SCHEMA, reopen=True)
        for part in cut(frame, bounds):
            run.step(part, watermark=part["t"][-1])
        rows = latest(run.finish())

        names = ("count", "mean", "variance", "min", "max", "last")
        found = {(row["ix"], row["iy"], row["iz"]): row for row in rows.to_dicts()}
        assert found.keys() == expected.keys()
        for voxel, row in found.items():
            told = [np.nan if row[name] is None else row[name] for name in names]
            assert told == pytest.approx(expected[voxel], rel=1e-6, nan_ok=True)


def test_each_changed_voxel_leaves_once_per_step_with_its_aggregate() -> None:
    run = Drive(grid(aggregate="max"), SCHEMA)
    run.step(
        points((0, "a", 1.5, 2.5, 3.5, 7.0), (1, "a", 1.0, 2.0, 3.0, 9.0), (2, "a", 9, 9, 9, 1.0))
    )
    first = run.take()
    run.step(points((3, "a", 1.9, 2.9, 3.9, 8.0), start=3))

    shown = ("ix", "iy", "iz", "value", "count", "last")
    assert [[row[name] for name in shown] for row in first] == [
        [1, 2, 3, 9.0, 2, 9.0],
        [9, 9, 9, 1.0, 1, 1.0],
    ]
    assert first[1]["variance"] is None
    assert [[row[name] for name in shown] for row in run.take()] == [[1, 2, 3, 9.0, 3, 8.0]]


def test_points_that_no_voxel_takes_leave_with_the_reason() -> None:
    run = Drive(grid(), SCHEMA)
    nan, inf = float("nan"), float("inf")
    run.step(
        points(
            (0, "on the upper faces", 20.0, 20.0, 20.0, 1.0),
            (1, "beyond", np.nextafter(20.0, inf), 0.0, 0.0, 1.0),
            (2, "below", -5e-324, 0.0, 0.0, 1.0),
            (3, "nowhere", nan, 0.0, 0.0, 1.0),
            (4, "far", inf, 0.0, 0.0, 1.0),
            (5, "nothing", 1.0, 1.0, 1.0, nan),
        )
    )

    (row,) = run.take()
    assert (row["ix"], row["iy"], row["iz"]) == (19, 19, 19)
    told = [(row["k"], row["reason"]) for row in run.take("outside")]
    assert told == [
        ("beyond", "outside"),
        ("below", "outside"),
        ("nowhere", "no coordinates"),
        ("far", "no coordinates"),
        ("nothing", "no value"),
    ]


def test_a_grid_is_forgotten_after_a_silence_and_its_voxels_say_so() -> None:
    run = Drive(grid(by="k", forget="10s"), SCHEMA)
    run.step(points((0, "a", 1, 1, 1, 5.0), (0, "b", 1, 1, 1, 6.0), (10, "b", 1, 1, 1, 8.0)), 10)
    assert [(row["k"], row["count"]) for row in run.take()] == [("a", 1), ("b", 2)]

    run.step(points((10.5, "b", 2, 2, 2, 1.0), start=3), 10.5)

    assert [(row["k"], row["ix"], row["count"], row["mean"]) for row in run.take()] == [
        ("b", 2, 1, 1.0),
        ("a", 1, 0, None),
    ]
    run.step(points((10.4, "a", 1, 1, 1, 5.0), (10.4, "b", 1, 1, 1, 2.0), start=4), 10.5)
    assert [(row["k"], row["count"]) for row in run.take()] == [("b", 3)]
    assert [row["k"] for row in run.take("late")] == ["a"]


@pytest.mark.parametrize("bounds", [[], [1], [2], [1, 2, 3]])
def test_a_point_after_a_silence_begins_another_grid_however_steps_are_cut(
    bounds: list[int],
) -> None:
    frame = points(
        (0, "a", 1, 1, 1, 5.0),
        (11, "a", 2, 2, 2, 6.0),
        (12, "a", 2, 2, 2, 7.0),
        (30, "a", 1, 1, 1, 1.0),
    )
    run = Drive(grid(by="k", forget="10s"), SCHEMA)
    for part in cut(frame, bounds):
        run.step(part)

    shown = latest(run).select("ix", "count", "value").rows()
    assert shown == [(1, 1, 1.0), (2, 0, None)]


def test_a_grid_asks_to_be_forgotten_when_the_one_silent_longest_is_due() -> None:
    run = Drive(grid(by="k", forget="10s"), SCHEMA)
    for rows, due in (
        ([(0, "a", 1, 1, 1, 5.0), (2, "b", 1, 1, 1, 5.0)], 10),
        ([(3, "a", 1, 1, 1, 5.0)], 12),
        ([(4, "b", 1, 1, 1, 5.0), (5, "c", 1, 1, 1, 5.0)], 13),
        ([(20, "a", 1, 1, 1, 5.0), (20, "b", 1, 1, 1, 5.0)], 15),
        ([(21, "c", 1, 1, 1, 5.0)], 30),
    ):
        run.step(points(*rows))

        asked = run.task.wake().event_time
        assert asked == due * SECOND + 1
        again = run.operator.open(run.tables, SCHEMA)
        assert again.wake().event_time == asked


def test_a_control_row_shows_or_resets_the_grid_of_its_key() -> None:
    control = pl.Schema({"k": pl.String(), "action": pl.String()})

    def ask(key: str, action: str | None) -> pl.DataFrame:
        return timed(
            pl.DataFrame({"t": [0], "k": [key], "action": [action]}, schema_overrides=control)
        )

    run = Drive(grid(by="k", order="event"), SCHEMA, control, reopen=True)
    run.step(points((0, "a", 1, 1, 1, 5.0), (1, "b", 2, 2, 2, 6.0), (5, "a", 3, 3, 3, 7.0)), 4)
    run.take()

    run.step(ask("a", "snapshot").drop("t"), port=1)
    assert [(row["ix"], row["value"]) for row in run.take("snapshot")] == [(1, 5.0)]
    assert run.take() == []
    run.step(ask("a", None).drop("t"), port=1)
    assert [(row["k"], row["ix"], row["count"]) for row in run.take()] == [("a", 1, 0)]
    run.step(points((6, "a", 1, 1, 1, 9.0), start=3), 7).finish()

    # The point of second 5 waited when the grid was reset.
    assert [(row["k"], row["ix"], row["value"], row["count"]) for row in run.take()] == [
        ("a", 1, 9.0, 1)
    ]


def test_more_blocks_than_allowed_stop_with_advice() -> None:
    run = Drive(grid(max_blocks=2), SCHEMA)
    run.step(points((0, "a", 1, 1, 1, 5.0), (1, "a", 9, 1, 1, 5.0)))

    with pytest.raises(StateError, match=r"more than 2 blocks.*coarser resolution"):
        run.step(points((2, "a", 1, 9, 1, 5.0), start=2))


def test_room_of_forgotten_grids_is_used_again() -> None:
    run = Drive(grid(by="k", max_blocks=1, forget="1s"), SCHEMA)
    for number in range(5):
        run.step(watermark=10 * number - 5)
        run.step(points((10 * number, f"k{number}", number, 1, 1, 5.0), start=number))

    assert [row["count"] for row in run.take()] == [1, 0, 1, 0, 1, 0, 1, 0, 1]
    assert run.tables.row_counts() == {"grids": 1, "voxels": 1}


def test_a_box_too_large_for_an_index_is_searched() -> None:
    far = 2.0**22
    run = Drive(grid(bbox=(0, 0, 0, far, far, 8), resolution=(1, 1, 1)), SCHEMA, reopen=True)
    frame = points(
        *((second, "a", second % 7 * far / 7, far / 2, 1.0, float(second)) for second in range(40))
    )
    for part in cut(frame, [10, 20]):
        run.step(part)

    rows = latest(run)
    assert rows["count"].to_list() == [6, 6, 6, 6, 6, 5, 5]
    assert rows["ix"].to_list() == [int(place * far / 7) for place in range(7)]


def test_blocks_are_found_by_number_before_and_after_the_index_outgrows_its_table() -> None:
    index = BlockIndex()
    numbers = np.array([3, 5_000, 100, 1 << 30, 1 << 25], dtype=np.int64)
    for slot in range(numbers.size):
        assert index.find(numbers[slot : slot + 1]).tolist() == [-1]
        index.add(numbers[slot : slot + 1], np.array([slot], dtype=np.int32))

    assert index.find(numbers[[4, 4, 0, 3, 2, 1]]).tolist() == [4, 4, 0, 3, 2, 1]
    assert [part.tolist() for part in index.between(100, 1 << 26)] == [
        [100, 5000, 1 << 25],
        [2, 1, 4],
    ]
    index.remove(numbers[[1, 3]])
    assert index.find(numbers).tolist() == [0, -1, 2, -1, 4]


def test_a_voxels_number_gives_back_its_indices() -> None:
    lattice = Lattice.of((0, 0, 0, 30, 17, 9), (1, 1, 1))
    every = np.array(list(itertools.product(range(30), range(17), range(9))))
    block, place = lattice.cells([every[:, axis] + 0.5 for axis in range(3)])

    assert np.array_equal(np.column_stack(lattice.indices(block * BLOCK + place)), every)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bbox": (0, 0, 0, 1, 1)}, "six numbers"),
        ({"bbox": (0, 0, 0, 1, 0, 1)}, "from 0.0 to 0.0 along y"),
        ({"resolution": 0}, "longer than zero"),
        ({"resolution": 1e-9}, "coarser resolution"),
        ({"value": "w"}, "no column 'w'"),
        ({"x": "k"}, "not a number"),
        ({"forget": "0s"}, "longer than zero"),
    ],
)
def test_a_grid_of_no_use_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as refused:
        grid(**parameters).output_schema(SCHEMA)

    assert message in str(refused.value)


def test_views_of_a_grid_agree_with_it() -> None:
    app = hr.App("build")
    columns = {"time": UTC, "k": pl.String, **dict.fromkeys((*AXES, "v"), pl.Float64)}
    stream = app.topic("points", columns, time="time")
    resets = app.control_table("resets", {"k": pl.String, "action": pl.String}, key="k")
    fine = stream.voxel_grid((0, 0, 0, 20, 20, 20), 1, value="v", by="k", control=resets)
    app.table("coarse", fine.coarser(4), key=["k", "ix", "iy", "iz"])
    app.output("layer", fine.slice("z", 10.5))
    app.output("regions", fine.regions)
    app.output("snapshots", fine.snapshots)
    app.output("outside", fine.outside)
    app.output("outside_counts", fine.outside_counts)
    frame = cloud(3000).with_columns(time=pl.col(EVENT_TIME).cast(UTC))
    beside = frame[:2].with_columns(x=-1.0)

    given = pl.concat([frame, beside.with_columns(time=pl.col("time") + pl.duration(days=1))])
    outputs = testing.run(app, {"points": given.select("time", "k", *AXES, "v")}, finish=True)

    whole = frame.with_columns(pl.col(AXES).floordiv(4).clip(0, 4).cast(pl.Int32))
    expected = whole.group_by(AXES).agg(pl.len(), pl.col("v").mean()).sort(AXES)
    coarse = outputs["coarse"].sort("ix", "iy", "iz")
    assert coarse.select("ix", "iy", "iz", "count").rows() == expected.select(*AXES, "len").rows()
    assert coarse["value"].to_list() == pytest.approx(expected["v"].to_list(), rel=1e-12)
    assert outputs["layer"]["iz"].unique().to_list() == [10]
    assert outputs["regions"]["voxels"].sum() >= len(batch_answer(frame))
    sizes = [
        [high - low for low, high in zip(row["min_index"], row["max_index"], strict=True)]
        for row in outputs["regions"].to_dicts()
    ]
    assert all(0 <= edge < 8 for size in sizes for edge in size)
    assert outputs["snapshots"].height == 0
    assert outputs["outside"]["reason"].to_list() == ["outside"] * 2
    assert outputs["outside_counts"].select("reason", "points").rows() == [("outside", 2)]
    with pytest.raises(PlanError, match="outside the box"):
        fine.slice("z", 21)
    with pytest.raises(PlanError, match="not coarser"):
        fine.coarser(1)


def test_orders_take_effect_at_their_place_among_the_points() -> None:
    app = hr.App("build")
    columns = {"time": UTC, "k": pl.String, **dict.fromkeys((*AXES, "v"), pl.Float64)}
    stream = app.topic("points", columns, time="time")
    orders = app.control_table("orders", {"k": pl.String, "action": pl.String}, key="k")
    box = (0, 0, 0, 20, 20, 20)
    grid = stream.voxel_grid(box, 1, value="v", by="k", control=orders, order="arrival")
    app.table("voxels", grid, key=["k", "ix", "iy", "iz"], delete=pl.col("count") == 0)
    app.output("snapshots", grid.snapshots)
    seconds = {"time": range(0, 6_000_000, 1_000_000), "k": "a", "v": 1.0}
    given = pl.DataFrame(seconds).with_columns(x=pl.int_range(6).cast(pl.Float64), y=1.0, z=1.0)
    asked = pl.DataFrame({"k": "a", "action": ["snapshot", "reset"], "_at": [2_500_000, 3_500_000]})

    outputs = testing.run(
        app, {"points": given.cast({"time": UTC}), "orders": asked.cast({"_at": UTC})}, batch_rows=1
    )

    assert outputs["snapshots"]["ix"].to_list() == [0, 1, 2]
    assert outputs["voxels"]["ix"].to_list() == [4, 5]


def real_cloud(recorded: Path, name: str) -> pl.DataFrame:
    if name == "meltpool":
        frame = pl.read_csv(recorded / "additive" / "meltpool_sim_pointcloud.csv.gz")
        return frame.select(x="x_m", y="y_m", z="z_m", v="temperature_k")
    frame = pl.read_csv(recorded / "additive" / "lpbf" / "ot_outlier_points.csv.gz")
    across, down = pl.col("tile_id") % 4 * 500, pl.col("tile_id") // 4 * 500
    return frame.select(
        x=(across + pl.col("x_px")).cast(pl.Float64),
        y=(down + pl.col("y_px")).cast(pl.Float64),
        z=pl.col("layer").cast(pl.Float64),
        v=pl.col("deviation").cast(pl.Float64),
    )


@pytest.mark.parametrize(("name", "edges"), [("meltpool", (2e-5,) * 3), ("lpbf", (25, 25, 5))])
def test_recorded_builds_fill_voxels_as_numpy_says(
    recorded: Path, name: str, edges: tuple[float, ...]
) -> None:
    frame = real_cloud(recorded, name)
    low = [float(frame[axis].to_numpy().min()) for axis in AXES]
    high = [float(frame[axis].to_numpy().max()) for axis in AXES]
    placed = timed(frame.with_columns(t=pl.int_range(frame.height) * 0.01)).with_columns(
        k=pl.lit("a")
    )
    run = Drive(grid(bbox=(*low, *high), resolution=edges), SCHEMA, reopen=True)
    for part in cut(placed.select(*SCHEMA, EVENT_TIME, POSITION), [1000, 1001, 4000]):
        run.step(part, watermark=part[EVENT_TIME][-1] / SECOND)

    shape = Lattice.of((*low, *high), edges).shape
    where = np.floor((frame.select(AXES).to_numpy() - low) / edges).astype(int)
    flat = np.ravel_multi_index(tuple(np.minimum(where, np.array(shape) - 1).T), shape)
    number = np.bincount(flat)
    total = np.bincount(flat, frame["v"].to_numpy())
    rows = latest(run)
    held = np.ravel_multi_index(tuple(rows.select("ix", "iy", "iz").to_numpy().T), shape)
    assert rows["count"].sum() == frame.height
    assert np.array_equal(held, np.flatnonzero(number))
    assert rows["count"].to_list() == number[held].tolist()
    assert np.allclose(rows["mean"], total[held] / number[held], rtol=1e-12)
    assert rows.height > 500
