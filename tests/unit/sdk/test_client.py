"""A client's life."""

import gc

import pytest

from brain_events import Client
from brain_events.testing import MemoryTransport
from tests.unit.sdk.support import fast_client


def test_a_client_that_was_not_closed_warns() -> None:
    client = fast_client(transport=MemoryTransport())
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client


def test_a_closed_client_leaves_nothing_behind(memory: MemoryTransport) -> None:
    for _ in range(20):
        with fast_client(transport=memory) as client:
            client.log("a", "info", "")
    del client
    gc.collect()
    assert not [item for item in gc.get_objects() if type(item) is Client]
    assert len(memory.events) == 20
