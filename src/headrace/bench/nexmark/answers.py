"""What each Nexmark query answers over all events, as SQL in DuckDB."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from headrace.bench.nexmark.queries import QUERIES
from headrace.core.errors import ConfigError

_CLOSED: Final = """(
    select id, seller, category, expires, max(price) as final
    from auction join bid on id = bid.auction
        and bid.date_time between auction.date_time and expires
    group by all)"""

SQL: Final = {
    "q0": "select auction, bidder, price, date_time, extra from bid",
    "q1": "select auction, bidder, date_time, extra, price * 0.908::double as price from bid",
    "q2": "select auction, date_time, price from bid where auction % 123 = 0",
    "q3": """select auction.id as auction, name, city, state
        from auction join person on seller = person.id
        where category = 10 and upper(state) in ('OR', 'ID', 'CA')""",
    "q4": f"select category, avg(final) as average from {_CLOSED} group by category",  # noqa: S608
    "q5": """with windows as (
            select unnest(range(
                time_bucket(interval 2 seconds, date_time) + interval 2 seconds,
                time_bucket(interval 2 seconds, date_time) + interval 12 seconds,
                interval 2 seconds)) as until, auction from bid),
        counts as (select until, auction, count(*) as bids from windows group by all)
        select until, auction, bids from counts
        qualify bids = max(bids) over (partition by until)""",
    "q6": f"""select id, seller, expires, avg(final) over (
            partition by seller order by expires, id
            rows between 9 preceding and current row) as average
        from {_CLOSED}""",  # noqa: S608 - our own words
    "q7": """select auction, bidder, price, date_time from bid
        qualify price = max(price) over (
            partition by time_bucket(interval 10 seconds, date_time))""",
    "q8": """select distinct person.id, name,
            time_bucket(interval 10 seconds, person.date_time) as window_start
        from person join auction on person.id = seller
            and time_bucket(interval 10 seconds, person.date_time)
                = time_bucket(interval 10 seconds, auction.date_time)""",
    "q11": """with marked as (
            select bidder, date_time, coalesce(date_time - lag(date_time) over who
                > interval 10 seconds, true) as fresh
            from bid window who as (partition by bidder order by date_time)),
        numbered as (
            select *, sum(fresh::int) over (
                partition by bidder order by date_time rows unbounded preceding) as session
            from marked)
        select bidder, min(date_time) as window_start,
            max(date_time) + interval 10 seconds as window_end, count(*) as bids
        from numbered group by bidder, session""",
}


def answer(name: str, folder: Path) -> pl.DataFrame:
    """Return the answer of query `name` over the Parquet files of events in `folder`, sorted.

    Raises:
        ConfigError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as missing:
        raise ConfigError(
            "the Nexmark answers are checked against DuckDB, which is not installed",
            hint="pip install duckdb",
        ) from missing
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        for kind in ("person", "auction", "bid"):
            database.execute(f"create view {kind} as from '{folder}/{kind}.parquet'")
        out = folder / f"{name}.answer.parquet"
        database.execute(f"copy ({SQL[name]}) to '{out}' (format parquet)")
    return normal(name, pl.read_parquet(out))


def normal(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that make up an answer of query `name`, in one dtype and order.

    Of the changelog of q4 the last row per category is the answer.
    """
    if "is_final" in rows.columns:
        rows = rows.filter("is_final")
    columns = QUERIES[name].columns
    frame = rows.select(columns).with_columns(
        pl.selectors.datetime().dt.epoch("us"), pl.selectors.integer().cast(pl.Int64)
    )
    return frame.sort(columns)


def difference(got: pl.DataFrame, expected: pl.DataFrame) -> str | None:
    """Return in words how two normal answers differ, None when they are equal.

    Floats may differ by 1e-9 of their size.
    """
    if got.height != expected.height:
        return f"{got.height} rows, expected {expected.height}"
    for name in expected.columns:
        ours, theirs = got[name], expected[name]
        floats = theirs.dtype.is_float()
        wrong = (ours - theirs).abs() > theirs.abs() * 1e-9 if floats else ours != theirs
        if wrong.any() or ours.null_count() != theirs.null_count():
            return f"{name} differs in {wrong.sum()} rows"
    return None
