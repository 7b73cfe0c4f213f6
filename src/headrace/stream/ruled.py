"""What leaves a step of rules beside the violations."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.operators.rulebook.ports import ABSENT, CLEARED
from headrace.stream.stream import Stream


@dataclass(frozen=True, slots=True)
class Ruled(Stream):
    """The violations of rules: one row per row and rule that holds."""

    @property
    def cleared(self) -> Stream:
        """One row where a rule that held for a key does not any more."""
        return self._port(CLEARED)

    @property
    def absent(self) -> Stream:
        """One row per row that rules could not judge: the metrics it lacks, how many rules."""
        return self._port(ABSENT)
