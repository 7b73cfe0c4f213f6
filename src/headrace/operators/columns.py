"""Column names as operators take them."""

from __future__ import annotations

from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator

from headrace.core.errors import PlanError


def column_names(value: Any) -> Any:
    """Return one or several columns, by name or `pl.col`, as a tuple of names.

    Raises:
        PlanError: An expression is more than a column.
    """
    if value is None:
        return ()
    many = [value] if isinstance(value, str | pl.Expr) else list(value)
    names = []
    for one in many:
        if isinstance(one, pl.Expr):
            if not one.meta.is_column():
                raise PlanError(
                    f"{one} is not a column", hint="add it first: stream.with_columns(name=...)"
                )
            names.append(one.meta.output_name())
        else:
            names.append(one)
    if len(set(names)) != len(names):
        raise PlanError(f"a column is named twice in {names}")
    return tuple(names)


ColumnNames = Annotated[tuple[str, ...], BeforeValidator(column_names)]
"""Column names; one name, `pl.col` or several are taken."""
