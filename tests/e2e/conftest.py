"""Fixtures of the end-to-end tests."""

import os
from collections.abc import Iterator

import pytest

from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process


@pytest.fixture(scope="session", autouse=True)
def _own_spool(tmp_path_factory: pytest.TempPathFactory, _no_environment: None) -> None:
    """Applications of one test must not adopt what those of another left."""
    os.environ["BRAIN_EVENTS_SPOOL_DIR"] = str(tmp_path_factory.mktemp("spool"))


@pytest.fixture
def collector() -> Iterator[CollectorProcess]:
    """A collector with its own engines, on a fresh data directory."""
    with scratch_dir() as path, collector_process(path / "data") as found:
        yield found
