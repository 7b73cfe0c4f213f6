"""match_recognize: SQL's row patterns over streams."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.core.errors import PlanError
from headrace.operators.patterns.sql import read, table_name
from headrace.stream.stream import Stream


def match_recognize(sql: str, tables: Mapping[str, Stream], *, name: str | None = None) -> Stream:
    """Find row patterns as SQL says them: `SELECT … FROM t MATCH_RECOGNIZE (…)`.

    The subset is that of `docs/patterns.md`; the query becomes a `stream.match`.

    Args:
        sql: The query over one of `tables`.
        tables: Streams by the name the query gives them.
        name: Identity of the state.

    Raises:
        PlanError: Something is not of the subset; the message says where in the text.

    Example:
        >>> import polars as pl
        >>> import headrace as hr
        >>> app = hr.App("doc")
        >>> columns = {"symbol": pl.String, "time": pl.Datetime("us", "UTC"), "price": pl.Float64}
        >>> ticks = app.topic("ticks", columns, time="time")
        >>> falls = hr.match_recognize('''
        ...     SELECT symbol, low FROM ticks MATCH_RECOGNIZE (
        ...         PARTITION BY symbol ORDER BY time
        ...         MEASURES LAST(down.price) AS low
        ...         PATTERN (high down+ up) WITHIN INTERVAL '1' HOUR
        ...         DEFINE down AS price < high.price, up AS price > LAST(down.price)
        ...     )''', {"ticks": ticks})
        >>> falls.schema.names()
        ['symbol', 'low']
    """
    table = table_name(sql)
    stream = tables.get(table)
    if stream is None:
        raise PlanError(f"there is no table {table!r}", hint=f"there are {', '.join(tables)}")
    query = read(sql, stream.schema)
    if stream.time is None or stream.time.shift_us or query.order != stream.time.column:
        shown = "none of the columns" if stream.time is None else repr(stream.time.column)
        raise PlanError(
            f"ORDER BY {query.order} is not the order of {table!r}",
            hint=f"rows are matched in event time, which is {shown}",
        )
    found = stream.match(
        query.pattern, by=query.by, skip=query.skip, measures=query.measures, name=name
    )
    return found.select(*query.select)
