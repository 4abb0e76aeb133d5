"""`before_send`: what it sees, what it may do, and what becomes of an event when it fails."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

import brain_events
from brain_events import Client, ConfigError, Event, EventsHandler, bind, bound, clear
from brain_events._delivery.drop_report import REPORT_TYPE
from brain_events.context import BOUND
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S

Hook = Callable[[Event], Any]


def own(events: list[Event]) -> list[Event]:
    """Return the events without the report of what was dropped."""
    return [event for event in events if event.event_type != REPORT_TYPE]


def sent_with(hook: Hook, **settings: Any) -> tuple[list[Event], dict[str, int]]:
    memory = MemoryTransport()
    with fast_client(transport=memory, before_send=hook, **settings) as client:
        for _ in range(2):
            client.log("order_paid", "info", "paid", {"order": 7})
        assert client.flush(PATIENCE_S)
        figures = client.stats()
    assert figures.logged == figures.delivered + sum(figures.dropped.values())
    return own(memory.events), figures.dropped


def test_it_sees_each_event_and_may_return_it() -> None:
    seen = []

    def watch(event: Event) -> Event:
        seen.append((event.event_type, event.details, event.source))
        return event

    events, dropped = sent_with(watch, source="shop")
    assert seen == [("order_paid", {"order": 7}, "shop")] * 2
    assert [(event.message, event.details) for event in events] == [("paid", {"order": 7})] * 2
    assert dropped == {}


def test_none_drops_the_event_and_is_counted() -> None:
    assert sent_with(lambda _: None) == ([], {"before_send": 2})


@pytest.mark.parametrize("junk", [True, "text", {"event_type": "t"}, 0, [], object])
def test_what_is_no_event_drops_it(junk: Any) -> None:
    assert sent_with(lambda _: junk) == ([], {"before_send": 2})


def test_an_exception_drops_the_event_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Event) -> Event:
        raise RecursionError("canary")

    assert sent_with(fail) == ([], {"before_send": 2})
    assert [record.getMessage() for record in caplog.records] == [
        "before_send failed and its event was dropped; later failures are only counted: it raised RecursionError"
    ]


def test_what_it_changes_is_made_valid_and_scrubbed_again() -> None:
    def change(event: Event) -> Event:
        event.event_type = "x" * 99
        event.severity = "warn"
        event.message = 7  # type: ignore[assignment]
        event.details = {"password": "hunter2", "when": {1, 2} and float("nan"), "it": object}
        event.source, event.timestamp = "s" * 200, None
        return event

    (event, _), dropped = sent_with(change)
    assert (event.event_type, event.severity, event.message) == ("x" * 50, "warning", "7")
    assert event.details == {"password": "[scrubbed]", "when": None, "it": "<class 'object'>"}
    assert event.source == "s" * 100
    assert event.timestamp is not None
    assert dropped == {}


def test_an_event_of_its_own_making_is_sent() -> None:
    (event, _), _ = sent_with(lambda _: Event("mine", "error", "made up"))
    assert (event.event_type, event.severity, event.message) == ("mine", "error", "made up")


@pytest.mark.parametrize("way", [lambda: None, clear, lambda: bind(a=1), lambda: brain_events.unbind("a")])
def test_what_it_logs_itself_is_dropped_and_does_not_recurse(memory: MemoryTransport, way: Callable[[], None]) -> None:
    logger = logging.getLogger("shop.hook")

    def chatty(event: Event) -> Event:
        way()
        client.log("inner", "info", "from the hook", {"a": 1})
        logger.warning("from the hook")
        with bound(b=2):
            client.log("inner", "info", "from the hook")
        return event

    with fast_client(transport=memory, before_send=chatty) as client:
        handler = EventsHandler(client=client)
        logger.addHandler(handler)
        client.log("outer", "info", "1")
        client.log("outer", "info", "2")
        logger.removeHandler(handler)
        assert client.flush(PATIENCE_S)
        assert client.stats().dropped == {"before_send": 6}
    assert [event.message for event in own(memory.events)] == ["1", "2"]


def test_what_is_bound_is_in_the_event_and_bound_again_after() -> None:
    def leak(event: Event) -> Event:
        bind(leaked=1)
        return event

    with bound(user="ann"):
        events, _ = sent_with(leak)
        assert BOUND.get() == {"user": "ann"}
    assert events[0].details == {"user": "ann", "order": 7}


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="before_send"):
        fast_client(before_send="hook")


def test_without_a_hook_events_inside_another_clients_hook_are_dropped_too(
    client: Client, memory: MemoryTransport
) -> None:
    def cross(event: Event) -> Event:
        client.log("cross", "info", "")
        return event

    sent_with(cross)
    assert client.flush(PATIENCE_S)
    assert own(memory.events) == []
    assert client.stats().dropped == {"before_send": 2}
