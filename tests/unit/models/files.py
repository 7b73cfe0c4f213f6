"""Small models for tests: trees, and one whose mood its feature decides."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types

RAISE, DIE, HANG, SLOW = -1.0, -2.0, -3.0, -4.0
"""Features that make the moody model raise, end its process, never return, or take 0.5 s."""


def moody(path: Path, factor: float = 2.0) -> Path:
    """Write an estimator that multiplies its only feature, unless told otherwise."""

    class Moody:
        n_features_in_ = 1

        def __init__(self, factor: float) -> None:
            self.factor = factor

        def predict(self, rows: Any) -> Any:
            mood = rows[:, 0].min()
            if mood == RAISE:
                raise RuntimeError("not today")
            if mood == DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            if mood in (HANG, SLOW):
                time.sleep(3600 if mood == HANG else 0.5)
            return rows[:, 0] * self.factor

    # By value: the process that loads it does not know this module.
    path.write_bytes(cloudpickle.dumps(Moody(factor)))
    return path


def broken(path: Path) -> Path:
    """Write a pickle that can be read but predicts nothing."""
    path.write_bytes(pickle.dumps({"not": "a model"}))
    return path
