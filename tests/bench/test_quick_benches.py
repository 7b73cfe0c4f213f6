"""Short runs on real processes: each bench compares its outputs with a reference and raises."""

import json
import sys

import pytest

from headrace.bench import suite
from headrace.core.errors import ConfigError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the benches read /proc"),
]


@pytest.mark.parametrize(
    "name",
    [
        "geofence",
        "detect",
        "voxel",
        "join",
        "pattern",
        "rules",
        "predict",
        "ingest",
        "e2e",
        "push",
        "recover",
    ],
)
def test_a_quick_bench_gives_checked_figures(name: str) -> None:
    said: list[str] = []
    result = suite.run(name, quick=True, say=said.append)
    assert said
    assert result.bench == name
    for part in (result, *result.parts):
        assert part.checked
        assert part.quick
        assert part.p95_ms is not None
        assert part.p95_ms > 0
    assert json.loads(result.line())["machine"]
    assert suite.save(result) is None


def test_an_unknown_bench_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="have window, geofence, "):
        suite.run("wimdow")
