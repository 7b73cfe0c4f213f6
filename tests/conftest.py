"""Fixtures for every test: recorded data, how hard hypothesis tries."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]  # it has no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # nor has this

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"

# Before any test module imports Polars: as in every process that runs operators.
os.environ.setdefault("POLARS_NO_PARTITION", "1")

for profile, examples in {"draft": 8, "fast": 50, "ci": 500, "deep": 10_000}.items():
    settings.register_profile(
        profile,
        max_examples=examples,
        # The default run gives one answer for one commit; `make laws` looks for new examples.
        derandomize=profile in ("draft", "fast"),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HEADRACE_HYPOTHESIS", "fast"))


def missing(what: str) -> NoReturn:
    """Skip the running test by name; in CI nothing may be missing, so there it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and in CI it must be there")
    pytest.skip(f"{what} is missing")


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Take back what a test configured of the logs: it may hold the test's own standard error."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of real recordings beside the project, e.g. `recorded / "fleet"`."""
    if not DATA.is_dir():
        missing("the recorded data (../shared/data)")
    return DATA


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium."""
    return shutil.which("chromium") or missing("chromium (make browser)")


SHARED = ("tests/web/", "tests/unit/features/test_sources.py")
"""Tests below one of these share something costly, e.g. the demonstration of the page."""


class OneWorkerForWhatIsShared(LoadScopeScheduling):  # type: ignore[misc]  # untyped, see above
    """Gives tests to workers one by one, but those that share something to the same worker.

    xdist's own groups are marks that it writes into a test's id, which pytest 9 does not let it
    change any more: `--dist loadgroup` groups nothing.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((shared for shared in SHARED if nodeid.startswith(shared)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorkerForWhatIsShared:
    """Choose how `pytest -n` spreads tests."""
    return OneWorkerForWhatIsShared(config, log)
