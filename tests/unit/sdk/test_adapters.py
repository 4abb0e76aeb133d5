"""structlog and logging: what passes through, what is logged, and that neither feeds itself."""

import logging
import logging.handlers
import os
import queue
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from brain_events import Client, EventsHandler, EventsProcessor
from brain_events.testing import MemoryTransport
from brain_events.wire import Event
from tests.unit.sdk.sink import Sink
from tests.unit.sdk.support import fast_client


def sent(client: Client, memory: MemoryTransport) -> list[Event]:
    assert client.flush()
    return memory.events


class TestEventsProcessor:
    def test_the_event_dict_passes_through_unchanged(self, client: Client) -> None:
        given = {"event": "paid", "event_type": "order_paid", "level": "warning", "order": 7, "exc_info": False}
        event_dict = dict(given)
        assert EventsProcessor(client)(None, "info", event_dict) is event_dict
        assert event_dict == given

    def test_keys_become_details(self, client: Client, memory: MemoryTransport) -> None:
        log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[
            structlog.processors.add_log_level, EventsProcessor(client), structlog.processors.JSONRenderer(),
        ])  # fmt: skip
        log.bind(user="ann").warning("order paid", event_type="order_paid", amount=12)
        log.debug("hello")
        assert [(e.event_type, e.severity, e.message, e.details) for e in sent(client, memory)] == [
            ("order_paid", "warning", "order paid", {"user": "ann", "amount": 12}),
            ("log", "info", "hello", None),
        ]

    @pytest.mark.parametrize("method", ["exception", "error"])
    def test_an_exception_is_described(self, client: Client, memory: MemoryTransport, method: str) -> None:
        log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[EventsProcessor(client)])
        try:
            _ = os.environ["LOST"]
        except KeyError:
            getattr(log, method)("failed", exc_info=True)
        (event,) = sent(client, memory)
        assert event.severity == "error"
        assert event.details is not None
        assert event.details["exception"]["type"] == "KeyError"

    @pytest.mark.parametrize("given", ["rendered already", None, 7])
    def test_what_is_no_dict_passes_through_too(self, client: Client, given: Any) -> None:
        assert EventsProcessor(client)(None, "info", given) is given


@pytest.fixture
def logger(client: Client) -> Iterator[logging.Logger]:
    logger = logging.getLogger("shop.checkout")
    handler = EventsHandler(client=client)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


class TestEventsHandler:
    def test_levels_become_severities_and_extra_becomes_details(
        self, logger: logging.Logger, client: Client, memory: MemoryTransport
    ) -> None:
        logger.debug("d")
        logger.info("i")
        logger.warning("w %s", 1, extra={"event_type": "stock_low", "left": 3})
        logger.error("e")
        logger.critical("c")
        where = {"logger": "shop.checkout"}
        assert [(e.event_type, e.severity, e.message, e.details) for e in sent(client, memory)] == [
            ("log", "info", "d", where),
            ("log", "info", "i", where),
            ("stock_low", "warning", "w 1", {"left": 3} | where),
            ("log", "error", "e", where),
            ("log", "critical", "c", where),
        ]

    def test_the_time_is_the_records(self, logger: logging.Logger, client: Client, memory: MemoryTransport) -> None:
        record = logger.makeRecord("shop", logging.INFO, "f.py", 1, "late", (), None)
        record.created = 1_700_000_000.0
        logger.handle(record)
        assert sent(client, memory)[0].timestamp == datetime.fromtimestamp(1_700_000_000, UTC)

    def test_an_exception_is_described(self, logger: logging.Logger, client: Client, memory: MemoryTransport) -> None:
        try:
            _ = os.environ["LOST"]
        except KeyError:
            logger.exception("failed")
        (event,) = sent(client, memory)
        assert event.details is not None
        assert event.details["exception"]["type"] == "KeyError"

    def test_arguments_that_do_not_fit_raise_nothing(self, client: Client, memory: MemoryTransport) -> None:
        record = logging.LogRecord("shop", logging.INFO, "f.py", 1, "%d apples", ("many",), None)
        EventsHandler(client=client).handle(record)
        assert sent(client, memory)[0].message == "%d apples ('many',)"

    def test_records_of_this_package_are_left_out(self, client: Client, memory: MemoryTransport) -> None:
        handler = EventsHandler(client=client)
        for name in ("brain_events", "brain_events.anything", "brain_events_of_mine"):
            handler.handle(logging.LogRecord(name, logging.INFO, "f.py", 1, name, (), None))
        assert [event.message for event in sent(client, memory)] == ["brain_events_of_mine"]


def direct(handler: EventsHandler) -> tuple[logging.Handler, logging.handlers.QueueListener | None]:
    return handler, None


def queued(handler: EventsHandler) -> tuple[logging.Handler, logging.handlers.QueueListener | None]:
    records: queue.Queue[Any] = queue.Queue()
    return logging.handlers.QueueHandler(records), logging.handlers.QueueListener(records, handler)


@pytest.mark.parametrize("way", [direct, queued])
def test_delivery_does_not_log_itself_though_urllib3_logs_every_request(sink: Sink, way: Any) -> None:
    root = logging.getLogger()
    level = root.level
    with fast_client(sink.url) as client:
        handler, listener = way(EventsHandler(client=client))
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        if listener:
            listener.start()
        try:
            for n in range(5):
                client.log("n", "info", str(n))
                assert client.flush()
        finally:
            if listener:
                listener.stop()
            root.removeHandler(handler)
            root.setLevel(level)
        assert client.flush()
        root.addHandler(handler)  # and while the closing thread delivers
        root.setLevel(logging.DEBUG)
        client.log("n", "info", "5")
    root.removeHandler(handler)
    root.setLevel(level)
    assert [event.message for event in sink.events] == ["0", "1", "2", "3", "4", "5"]
