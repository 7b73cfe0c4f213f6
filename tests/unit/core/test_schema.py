from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import polars as pl
import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from headrace.core.errors import SchemaError
from headrace.core.instants import times_from_text
from headrace.core.schema import RowSchema
from headrace.core.time import TIME_DTYPE


class Kind(StrEnum):
    PARK = "park"
    PORT = "port"


class Point(BaseModel):
    latitude: float = Field(ge=-90, le=90, allow_inf_nan=False)
    longitude: float


class Zone(BaseModel):
    zone_id: str = Field(min_length=1, max_length=8, pattern="^[a-z]")
    kind: Kind = Kind.PARK
    centre: Point | None = None
    depths: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list, max_length=3)
    shape: dict[str, Any]
    count: int = Field(default=0, multiple_of=5, lt=100)
    mode: Literal["on", "off"] = "on"
    made: datetime | None = None


def test_a_polars_schema_gets_times_in_microseconds_utc() -> None:
    schema = RowSchema.of({"a": pl.Datetime("ms"), "b": int, "c": pl.List(pl.Datetime("ns"))})

    assert dict(schema.columns) == {"a": TIME_DTYPE, "b": pl.Int64, "c": pl.List(TIME_DTYPE)}


def test_a_model_becomes_columns() -> None:
    schema = RowSchema.of(Zone)

    assert dict(schema.columns) == {
        "zone_id": pl.String,
        "kind": pl.String,
        "centre": pl.Struct({"latitude": pl.Float64, "longitude": pl.Float64}),
        "depths": pl.List(pl.Float64),
        "shape": pl.String,
        "count": pl.Int64,
        "mode": pl.String,
        "made": TIME_DTYPE,
    }
    assert schema.required == {"zone_id", "shape"}
    assert schema.json_columns == {"shape"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"zone_id": ""}, "zone_id must have at least 1 characters"),
        ({"zone_id": "abcdefghi"}, "zone_id must have at most 8 characters"),
        ({"zone_id": "Abc"}, "zone_id must match ^[a-z]"),
        ({"zone_id": None}, "zone_id is missing"),
        ({"kind": "sea"}, "kind must be one of 'park', 'port'"),
        ({"mode": "auto"}, "mode must be one of 'on', 'off'"),
        ({"centre": {"latitude": 91.0, "longitude": 0.0}}, "centre.latitude must be at most 90"),
        (
            {"centre": {"latitude": float("nan"), "longitude": 0.0}},
            "centre.latitude must be finite",
        ),
        ({"centre": {"latitude": 1.0, "longitude": None}}, "centre.longitude is missing"),
        ({"depths": [1.0, -2.0]}, "an element of depths must be greater than 0"),
        ({"depths": [1.0, 2.0, 3.0, 4.0]}, "depths must have at most 3 elements"),
        ({"count": 7}, "count must be a multiple of 5"),
        ({"count": 100}, "count must be less than 100"),
    ],
)
def test_constraints_of_a_model_reject_with_a_reason(change: dict[str, Any], reason: str) -> None:
    class ColumnsOnly(Zone):
        shape: Any = None

    row = {
        "zone_id": "a",
        "kind": "port",
        "centre": {"latitude": 1.0, "longitude": 2.0},
        "depths": [1.0],
        "count": 5,
        "mode": "off",
    }
    schema = RowSchema.of(ColumnsOnly)
    frame = pl.DataFrame(
        [row, {**row, **change}, row], schema_overrides={"centre": schema.columns["centre"]}
    )

    good, rejected = schema.validate(frame)

    assert not schema.validated
    assert good.height == 2
    assert good.schema == schema.columns
    assert rejected.rows() == [(1, reason)]


def test_missing_values_take_the_default() -> None:
    schema = RowSchema.of(Zone)
    good, rejected = schema.validate(pl.DataFrame({"zone_id": ["a"], "shape": ["{}"]}))

    assert rejected.height == 0
    assert good.row(0) == ("a", "park", None, [], "{}", 0, "on", None)


class Odd(BaseModel):
    value: int = Field(alias="v")

    @field_validator("value")
    @classmethod
    def odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value * 10


def test_validators_judge_row_by_row_and_may_change_values() -> None:
    good, rejected = RowSchema.of(Odd).validate(pl.DataFrame({"v": [1, 2, 3]}))

    assert good["value"].to_list() == [10, 30]
    assert rejected.rows() == [(1, "value: must be odd")]


def test_key_and_time_must_be_there() -> None:
    schema = RowSchema.of({"id": pl.String, "time": pl.Datetime})
    frame = pl.DataFrame(
        {
            "id": ["a", None, "c", "d"],
            "time": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", None, "yesterday"],
        }
    )

    good, rejected = schema.validate(frame, key="id", time="time")

    assert good["id"].to_list() == ["a"]
    assert rejected["reason"].to_list() == [
        "id is missing",
        "time is missing",
        "time is not a time: write RFC 3339, 2026-01-01T00:00:00Z",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01t02:00:00.5+02:00", datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC)),
        ("2026-01-01T00:00:00.123456789Z", datetime(2026, 1, 1, 0, 0, 0, 123_456, UTC)),
        ("2025-12-31T18:30:00-0530", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-01-01T00:00:00.+1Z", None),
        ("2026-01-01T00:00:00+25:00", None),
        ("0000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("company", [[], ["2026-05-05T05:05:05Z"], ["2026-05-05T05:05:05.25"]])
def test_times_are_read_as_rfc_3339(
    text: str, expected: datetime | None, company: list[str]
) -> None:
    schema = RowSchema.of({"time": pl.Datetime})
    good, _ = schema.validate(pl.DataFrame({"time": [text, *company]}), time="time")

    times = good["time"].to_list()
    assert times[: len(times) - len(company)] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
def test_epoch_numbers_are_read_in_the_declared_unit(unit: Any, factor: int) -> None:
    schema = RowSchema.of({"time": pl.Datetime}, time_unit=unit)
    good, rejected = schema.validate(
        pl.DataFrame({"time": [1_700_000_000 * factor, -1, (1 << 63) - 1]}), time="time"
    )

    assert good["time"][0] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert rejected["index"].to_list() == ([] if unit == "ns" else [2])


def test_epoch_numbers_without_a_unit_are_refused() -> None:
    good, rejected = RowSchema.of({"time": pl.Datetime}).validate(pl.DataFrame({"time": [1]}))

    assert good.height == 0
    assert rejected["reason"].to_list() == [
        "time is not a time: write RFC 3339, 2026-01-01T00:00:00Z"
    ]


@pytest.mark.parametrize(
    ("dtype", "given", "good"),
    [
        (pl.Int64, [1.0, 1.5, float("nan"), 1e300], [1]),
        (pl.Int8, [1, 300, -128], [1, -128]),
        (pl.Float64, [1, 2], [1.0, 2.0]),
        (pl.String, [1], []),
        (pl.Boolean, [1], []),
        (pl.Int64, [True], []),
        (pl.Int64, [datetime(2026, 1, 1, tzinfo=UTC)], []),
        (pl.Date, [datetime(2026, 1, 1, tzinfo=UTC)], [date(2026, 1, 1)]),
        (pl.List(pl.Int64), [1], []),
    ],
)
def test_values_are_converted_only_where_nothing_is_lost(
    dtype: pl.DataType, given: list[Any], good: list[Any]
) -> None:
    schema = RowSchema.of({"x": dtype})
    result = schema.validate(pl.DataFrame({"x": given}, strict=False))

    assert result.good["x"].to_list() == good
    assert result.rejected.height == len(given) - len(good)


def test_aliases_stand_for_columns_and_unknown_columns_are_left_out() -> None:
    schema = RowSchema.of({"depth_m": pl.Float64}, aliases={"depth": "depth_m"})
    good, _ = schema.validate(pl.DataFrame({"depth": [1.0], "more": [2]}))

    assert good.to_dict(as_series=False) == {"depth_m": [1.0]}


@pytest.mark.parametrize(
    "declaration", [{}, {"a": "text"}, {"__a": pl.Int64}, {"": pl.Int64}, 7, {"a": pl.Object}]
)
def test_impossible_declarations_are_refused(declaration: Any) -> None:
    with pytest.raises(SchemaError):
        RowSchema.of(declaration)


def test_an_alias_of_no_column_is_refused() -> None:
    with pytest.raises(SchemaError, match="no column"):
        RowSchema.of({"a": pl.Int64}, aliases={"x": "b"})


def test_an_empty_frame_gives_empty_results() -> None:
    schema = RowSchema.of(Zone)
    good, rejected = schema.validate(pl.DataFrame(schema=schema.columns))

    assert (good.height, rejected.height) == (0, 0)
    assert good.schema == schema.columns


def test_instances_become_rows() -> None:
    schema = RowSchema.of(Zone)
    zone = Zone(zone_id="a", shape={"type": "Point"}, centre=Point(latitude=1, longitude=2))

    assert schema.frame_of([zone]).row(0, named=True) == {
        "zone_id": "a",
        "kind": "park",
        "centre": {"latitude": 1.0, "longitude": 2.0},
        "depths": [],
        "shape": '{"type": "Point"}',
        "count": 0,
        "mode": "on",
        "made": None,
    }


def test_json_schema_of_a_polars_schema() -> None:
    schema = RowSchema.of({"id": pl.String, "time": pl.Datetime, "x": pl.List(pl.Float64)})

    assert schema.json_schema(title="row", required=["id"]) == {
        "title": "row",
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "time": {"type": ["string", "null"], "format": "date-time"},
            "x": {"type": ["array", "null"], "items": {"type": "number"}},
        },
        "required": ["id"],
    }


def test_a_model_that_forbids_extra_fields_says_so() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        a: int

    assert RowSchema.of(Strict).forbids_unknown


TIMES = [
    "2026-01-01T00:00:00Z",
    "2026-01-01 00:00:00.123",
    "2026-01-01T00:00:60Z",
    "2026-02-30T00:00:00Z",
    "+026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.1234567890Z",
    "2026-01-01T00:00:00z",
    "2026-01-01T00:00:00ZZ",
    "2026-01-01T00:00:00+00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:00\n",
    "\uff12026-01-01T00:00:00Z",
]


@pytest.mark.parametrize("text", TIMES)
def test_a_time_is_read_alike_alone_and_in_any_company(text: str) -> None:
    alone = times_from_text(pl.Series([text]))[0]

    for count in (1, 600):
        for other in ("2026-05-05T05:05:05Z", "2026-05-05T05:05:05+01:00"):
            assert times_from_text(pl.Series([text] + [other] * count))[0] == alone
