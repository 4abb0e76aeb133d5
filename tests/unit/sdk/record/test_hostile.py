"""What an application can do to us without meaning to, each once a way to stop the delivery or the caller."""

import logging
from collections.abc import Iterator

import pytest

from brain_events.testing import MemoryTransport
from brain_events.wire import Event
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def raising_filter() -> Iterator[None]:
    """A filter that asks for a context which only requests have, as many do."""

    def look_up(_record: logging.LogRecord) -> bool:
        raise LookupError("no request here")

    logger = logging.getLogger("brain_events")
    logger.addFilter(look_up)
    yield
    logger.removeFilter(look_up)


@pytest.mark.usefixtures("raising_filter")
def test_a_logging_filter_that_raises_does_not_end_the_thread_that_delivers() -> None:
    memory = MemoryTransport(ConnectionError("down once"))
    with fast_client(transport=memory) as client:
        client.log("first", "info", "warns that the collector is down")
        client.log("second", "info", "m")

        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 2


def test_names_that_take_more_bytes_than_an_event_may_do_not_hold_the_caller_for_ever() -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, max_event_bytes=1024) as client:
        client.log("\x01" * 50, "info", "m", {"a": "b" * 2000}, source="\x01" * 100)
        client.flush(PATIENCE_S)

    (event,) = memory.events
    assert isinstance(event, Event)
    assert (len(event.event_type), len(event.source or "")) == (50, 100)
