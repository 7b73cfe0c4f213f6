"""What a detector of `stream.detect(...)` is: a memory per key, and one step over many keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from headrace.core.component import Component
from headrace.core.errors import PlanError
from headrace.operators.key_runs import Bools, Ints

Floats = npt.NDArray[np.float64]

Known = Mapping[str, Floats]
"""What is known of some keys, by name: one number per key, or one row of numbers per key along
the last axis. Detectors change it in place; a new key begins with zeros."""

LARGEST: Final = 1e150
"""Values beyond are taken as this large, so that no square overflows."""

TINY: Final = 1e-300

Certainty = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Rows = Annotated[int, Field(ge=1, le=100_000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a detector says of one value of each key.

    Attributes:
        surprise: Negative natural logarithm of the tail, the probability of a value at least as
            strange; the score is 1 - exp(-surprise).
        change: Whether the values are found to follow another law from here on.
        expected: What was expected of the value.
        spread: The standard deviation of that.
        reason: Number of the detector's `reasons` that says what was compared.
    """

    surprise: Floats
    change: Bools
    expected: Floats
    spread: Floats
    reason: Ints | int = 0


class Detector(Component, ABC):
    """A detector of anomalies, its state one vector of numbers per key.

    Attributes:
        threshold: Scores from here on are anomalies.
        warmup: Values of a key that are learnt before the first is judged.
    """

    threshold: Certainty = 0.999
    warmup: Rows = 30

    reasons: ClassVar[tuple[str, ...]] = ("",)

    @abstractmethod
    def layout(self) -> Mapping[str, int]:
        """Return how many numbers per key there are of each name in `Known`."""

    @abstractmethod
    def step(self, known: Known, values: Floats, times: Ints) -> Judged:
        """Judge one value of each key and then learn it.

        Values are finite and at most `LARGEST`; times are microseconds of event time. What is
        said of a key must not depend, to the bit of each sum, on which other keys there are.
        """

    @property
    def size(self) -> int:
        """How many numbers are kept per key."""
        return sum(self.layout().values())


def _dump(detector: Detector) -> dict[str, Any]:
    return {"kind": detector.kind, **detector.model_dump(mode="json")}


def read_detector(value: Any, kinds: Mapping[str, type[Detector]]) -> Any:
    """Return a detector from what `dump_detector` made of it.

    Raises:
        PlanError: It is no detector.
    """
    if isinstance(value, Detector):
        return value
    if isinstance(value, dict) and value.get("kind") in kinds:
        return kinds[value["kind"]](**{n: given for n, given in value.items() if n != "kind"})
    raise PlanError(
        f"{value!r} is not a detector",
        hint=", ".join(f"hr.detector.{name}()" for name in sorted(kinds)),
    )


dump_detector = _dump
