"""Loguru, with the handler as a sink."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from loguru import logger

from brain_events import Client, Event, EventsHandler
from brain_events.testing import MemoryTransport
from tests.support.waiting import PATIENCE_S


@pytest.fixture(params=[{}, {"format": "{message}"}, {"enqueue": True}], ids=str)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    options: dict[str, Any] = request.param
    return options


@pytest.fixture(autouse=True)
def _only_our_sink(client: Client, options: dict[str, Any]) -> Iterator[None]:
    logger.remove()
    logger.add(EventsHandler(client=client), **({"level": 0} | options))
    yield
    logger.remove()


def sent(client: Client, memory: MemoryTransport) -> list[Event]:
    logger.complete()
    assert client.flush(PATIENCE_S)
    return memory.events


def test_levels_become_severities_and_what_is_bound_becomes_details(
    client: Client, memory: MemoryTransport, options: dict[str, Any]
) -> None:
    logger.trace("t")
    logger.success("paid {} - all", 7)
    logger.bind(event_type="stock_low", left=3).warning("w")
    with logger.contextualize(request_id="r1"):
        logger.critical("c")
    events = sent(client, memory)
    where = {"logger": __name__}
    assert [(e.event_type, e.severity, e.details) for e in events] == [
        ("log", "info", where),
        ("log", "info", where),
        ("stock_low", "warning", {"left": 3} | where),
        ("log", "critical", {"request_id": "r1"} | where),
    ]
    assert [event.message for event in events] == ["t", "paid 7 - all", "w", "c"]
    assert all(abs((datetime.now(UTC) - (e.timestamp or datetime.min)).total_seconds()) < 60 for e in events)  # noqa: DTZ901


def test_an_exception_is_described_without_the_values_of_variables(
    client: Client, memory: MemoryTransport, options: dict[str, Any]
) -> None:
    canary = "c4n4ry"
    try:
        _ = {"": 0}[canary[6:] + "gone"]
    except KeyError:
        logger.exception("no such key")
    try:
        raise ExceptionGroup("many", [ValueError(1)])  # noqa: TRY301
    except ExceptionGroup:
        logger.opt(exception=True).error("group")
    single, group = sent(client, memory)
    for event, message, kind in ((single, "no such key", "KeyError"), (group, "group", "ExceptionGroup")):
        assert event.message == message
        assert event.details is not None
        assert event.details["exception"]["type"] == kind
        assert canary not in str(event)


def test_a_message_that_looks_like_the_layout_is_kept(
    client: Client, memory: MemoryTransport, options: dict[str, Any]
) -> None:
    text = "a | b - c\nsecond line"
    logger.info(text)
    assert [event.message for event in sent(client, memory)] == [text]
