"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator

import pytest

from tests.e2e.process import CollectorProcess, collector_process
from tests.integration.engines import scratch_dir


@pytest.fixture
def collector() -> Iterator[CollectorProcess]:
    """A collector with its own engines, on a fresh data directory."""
    with scratch_dir() as path, collector_process(path / "data") as found:
        yield found
