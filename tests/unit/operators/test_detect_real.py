"""Detection on recorded series, through the stream."""

from pathlib import Path

import numpy as np
import pytest

import headrace as hr
from headrace.bench import nab, nab_score

pytestmark = pytest.mark.filterwarnings("error")


def test_the_ensemble_finds_the_anomalies_of_two_recorded_series(recorded: Path) -> None:
    folder = recorded / "sentry" / "nab"
    names = ("realTraffic/speed_6005.csv", "realKnownCause/ec2_request_latency_system_failure.csv")
    files = [one for one in nab_score.corpus(folder) if one.name in names]
    scores = nab.detect(hr.detector.ensemble(), files)

    for file in files:
        found = np.flatnonzero(scores[file.name] >= hr.detector.ensemble().threshold)
        hit = [any(first <= row <= last for row in found) for first, last in file.windows]
        outside = [
            row for row in found if not any(first <= row <= last for first, last in file.windows)
        ]
        assert scores[file.name].size == file.rows.height
        assert sum(hit) >= len(file.windows) - 1
        assert len(outside) <= 10
