from collections.abc import Iterator
from threading import enumerate as all_threads

import pytest

from brain_events import Client
from brain_events.context import WORKER_THREAD
from brain_events.testing import MemoryTransport
from tests.unit.sdk.sink import Sink, serve
from tests.unit.sdk.support import fast_client, wait_until


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not [thread for thread in all_threads() if thread.name == WORKER_THREAD])


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
