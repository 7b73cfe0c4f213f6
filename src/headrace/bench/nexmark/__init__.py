"""`nexmark`: the queries of an auction house, beside peers, their answers checked by DuckDB."""

from headrace.bench.nexmark.contest import run

__all__ = ["run"]
