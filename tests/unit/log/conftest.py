from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.core.log import Log, Reader, Writer
from headrace.log import MemoryLog, SqliteLog
from headrace.testing import TestClock


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path, clock: TestClock) -> Iterator[Log]:
    if request.param == "memory":
        yield MemoryLog(clock)
    else:
        log = SqliteLog(tmp_path / "data", clock=clock)
        yield log
        log.close()


@pytest.fixture
def writer(log: Log) -> Iterator[Writer]:
    writer = log.writer("gateway-0")
    yield writer
    writer.close()


@pytest.fixture
def reader(log: Log) -> Iterator[Reader]:
    reader = log.reader()
    yield reader
    reader.close()
