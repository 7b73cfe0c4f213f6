"""The test kit that ships: whole runs in memory, a clock moved by hand, and the laws."""

from headrace.testing.clock import TestClock
from headrace.testing.run import run

__all__ = ["TestClock", "run"]
