"""Regions of steps that hold one voxel: what they are otherwise depends on the steps."""

from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.core.time import EVENT_TIME, TIME_DTYPE
from headrace.operators.voxel_regions import VoxelRegions
from headrace.testing.laws import Case, InputSpec

INDICES = ("ix", "iy", "iz")
SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), **dict.fromkeys(INDICES, pl.Int32())})


def voxels(most: int) -> InputSpec:
    near = st.sampled_from([0, 1, 7, 8, 9, 15, 16, 40])
    return InputSpec(SCHEMA, columns=dict.fromkeys(INDICES, near), max_rows=most)


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    told: list[dict[str, Any]] = []
    for row in rows.to_dicts():
        corner = [row[name] for name in INDICES]
        region = {"min_index": corner, "max_index": corner, "voxels": 1}
        told.append({"k": row["k"], **region, EVENT_TIME: row[EVENT_TIME]})
    schema = VoxelRegions(by="k").output_schema(SCHEMA)["main"]
    return {"main": pl.DataFrame(told, schema={**schema, EVENT_TIME: pl.Int64})}


CASES = [
    Case(VoxelRegions(by="k"), (voxels(1),), by_hand, name="one voxel"),
    Case(VoxelRegions(), (voxels(30),), name="many"),
]
