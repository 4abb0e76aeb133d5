"""A collector to attack, in a process of its own: an attack that works ends this process, not the machine."""

import resource
from collections.abc import Iterator

import pytest

from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process
from tests.support.signals import undo_inherited

MAX_ADDRESS_SPACE = 4 * 2**30
"""Of each process of the run, in bytes. The attacks of this suite once made them take 3 to 11 GB."""

undo_inherited()


@pytest.fixture(scope="session", autouse=True)
def _limit_memory() -> None:
    """Let processes that take too much memory fail by themselves; the engines and the collector inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, hard))


@pytest.fixture(scope="module")
def victim(_limit_memory: None) -> Iterator[CollectorProcess]:
    """A collector with its engines and the default settings, for the tests of one file."""
    with scratch_dir() as path, collector_process(path / "data") as collector:
        yield collector
