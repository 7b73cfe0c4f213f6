"""Every row leaves by exactly one port."""

import polars as pl

from headrace.core.time import TIME_DTYPE
from headrace.operators.split import Split
from headrace.testing.laws import Case, InputSpec

SCHEMA = pl.Schema({"time": TIME_DTYPE, "k": pl.String(), "x": pl.Int64()})


def by_hand(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    plain = rows.drop("__position")
    met = [x is not None and x > 1 for x in plain["x"].to_list()]
    return {
        "yes": plain[[row for row, yes in enumerate(met) if yes]],
        "no": plain[[row for row, yes in enumerate(met) if not yes]],
    }


CASES = [Case(Split(predicate=pl.col("x") > 1), (InputSpec(SCHEMA),), by_hand)]
