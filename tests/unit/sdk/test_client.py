"""A client's life."""

import gc
import weakref

import pytest

from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client


def test_a_client_that_was_not_closed_warns() -> None:
    client = fast_client(transport=MemoryTransport())
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client


def test_a_closed_client_leaves_nothing_behind(memory: MemoryTransport) -> None:
    clients = []
    for _ in range(20):
        with fast_client(transport=memory) as client:
            client.log("a", "info", "")
        clients.append(weakref.ref(client))
    del client
    gc.collect()
    assert [client() for client in clients] == [None] * 20
    assert len(memory.events) == 20
