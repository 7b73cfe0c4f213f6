"""What could change an answer: plan, code and library versions."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import version

import polars as pl

from headrace.plan.graph import Plan


def fingerprint(plan: Plan) -> str:
    """Return 16 hex digits naming the plan, headrace, Polars and Python versions."""
    parts = (
        plan.fingerprint(),
        version("headrace"),
        pl.__version__,
        *map(str, sys.version_info[:2]),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
