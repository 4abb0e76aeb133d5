from collections.abc import Iterator
from pathlib import Path
from threading import enumerate as all_threads

import pytest

from brain_events import Client
from brain_events.context import WORKER_THREAD
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client
from tests.support.sink import Sink, serve
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(all_threads())
    yield
    wait_until(
        lambda: not [thread for thread in all_threads() if thread.name == WORKER_THREAD and thread not in before]
    )


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for each test's outboxes, its child processes' included."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with serve() as sink:
        yield sink


@pytest.fixture
def memory() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def client(memory: MemoryTransport) -> Iterator[Client]:
    with fast_client(transport=memory) as client:
        yield client
