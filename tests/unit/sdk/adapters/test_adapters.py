"""structlog and logging: what passes through, what is logged, and that neither feeds itself."""

import io
import logging
import logging.handlers
import os
import pickle
import queue
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from brain_events import Client, EventsHandler, EventsProcessor
from brain_events.context import WORKER_THREAD
from brain_events.testing import MemoryTransport
from brain_events.wire import Event
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S


def sent(client: Client, memory: MemoryTransport) -> list[Event]:
    assert client.flush(PATIENCE_S)
    return memory.events


class TestEventsProcessor:
    def test_the_event_dict_passes_through_unchanged(self, client: Client) -> None:
        given = {"event": "paid", "event_type": "order_paid", "level": "warning", "order": 7, "exc_info": False}
        event_dict = dict(given)
        assert EventsProcessor(client)(None, "info", event_dict) is event_dict
        assert event_dict == given

    def test_positional_arguments_leave_their_template(self, client: Client, memory: MemoryTransport) -> None:
        for processor in (EventsProcessor(client), EventsProcessor(client, add_template=False)):
            processor(None, "info", {"event": "%d left", "positional_args": (3,)})
            processor(None, "info", {"event": "none left"})
        assert [(event.message, event.details) for event in sent(client, memory)] == [
            ("3 left", {"template": "%d left"}),
            ("none left", None),
            ("3 left", None),
            ("none left", None),
        ]

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

    def test_it_pickles_with_its_client_or_without_in_another_process(self, client: Client, sink: Sink) -> None:
        logger = structlog.wrap_logger(None, processors=[EventsProcessor(client), EventsProcessor()])
        (own, default) = pickle.loads(pickle.dumps(logger))._processors
        assert (own._client, default._client) == (client, None)
        pickled = pickle.dumps(EventsProcessor(client, terminal=True))
        script = f"""
            import pickle, brain_events, structlog
            brain_events.init()
            processor = pickle.loads({pickled!r})
            try:
                processor(None, "info", {{"event": "hello"}})
            except structlog.DropEvent:
                pass
        """
        assert run_script(script, sink.url).stderr == ""
        assert [event.message for event in sink.events] == ["hello"]

    @pytest.mark.parametrize("given", ["rendered already", None, 7])
    def test_what_is_no_dict_passes_through_too(self, client: Client, given: Any) -> None:
        assert EventsProcessor(client)(None, "info", given) is given

    def test_a_method_named_exception_describes_the_one_that_is_handled(
        self, client: Client, memory: MemoryTransport
    ) -> None:
        try:
            _ = os.environ["LOST"]
        except KeyError:
            EventsProcessor(client)(None, "exception", {"event": "failed"})
            EventsProcessor(client)(None, "exception", {"event": "failed", "exception": "rendered"})
        first, second = sent(client, memory)
        assert (first.details or {})["exception"]["type"] == "KeyError"
        assert second.details == {"exception": "rendered"}

    def test_a_stack_is_that_of_the_caller(self, client: Client, memory: MemoryTransport) -> None:
        log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[EventsProcessor(client)])
        log.info("here", stack_info=True)
        log.info("there", stack_info="Stack (most recent call last):\n  rendered")
        here, there = sent(client, memory)
        assert (here.details or {})["stack"].endswith('log.info("here", stack_info=True)')
        assert there.details == {"stack": "Stack (most recent call last):\n  rendered"}

    @pytest.mark.parametrize(
        ("args", "message"), [((1, "b"), "1 of b"), (({"a": 1},), "%d of %s ({'a': 1},)"), (("x",), "%d of %s ('x',)")]
    )
    def test_positional_arguments_are_put_into_the_message(
        self, client: Client, memory: MemoryTransport, args: tuple[Any, ...], message: str
    ) -> None:
        given = {"event": "%d of %s", "positional_args": args}
        EventsProcessor(client)(None, "info", dict(given))
        assert [(event.message, event.details) for event in sent(client, memory)] == [
            (message, {"template": "%d of %s"})
        ]

    def test_a_terminal_one_ends_the_chain(self, client: Client, memory: MemoryTransport) -> None:
        output = structlog.testing.CapturingLogger()
        log = structlog.wrap_logger(output, processors=[EventsProcessor(client, terminal=True)])
        log.info("kept", n=1)
        assert output.calls == []
        assert [(event.message, event.details) for event in sent(client, memory)] == [("kept", {"n": 1})]

    def test_what_structlog_binds_to_the_context_is_in_the_details(
        self, client: Client, memory: MemoryTransport
    ) -> None:
        log = structlog.wrap_logger(
            structlog.testing.CapturingLogger(),
            processors=[structlog.contextvars.merge_contextvars, EventsProcessor(client)],
        )
        with structlog.contextvars.bound_contextvars(basket=5):
            log.info("opened")
        assert sent(client, memory)[0].details == {"basket": 5}


class Bridge:
    """structlog and logging through one `ProcessorFormatter`, with the processor in the place that is asked for."""

    def __init__(self, client: Client, place: str) -> None:
        ours, shared = EventsProcessor(client), [structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name]
        formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, *([ours] if place == "pre-chain" else [])],
            processors=[
                *([ours] if place == "formatter" else []),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
        self.output = io.StringIO()
        self.handler = logging.StreamHandler(self.output)
        self.handler.setFormatter(formatter)
        self.logger = logging.getLogger("shop.bridge")
        self.logger.handlers, self.logger.propagate = [self.handler], False
        self.logger.setLevel(logging.DEBUG)
        self.structlog = structlog.wrap_logger(
            self.logger,
            wrapper_class=structlog.stdlib.BoundLogger,
            processors=[
                *shared,
                *([ours] if place == "pre-chain" else []),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
        )


@pytest.fixture(params=["pre-chain", "formatter"])
def bridge(client: Client, request: pytest.FixtureRequest) -> Iterator[Bridge]:
    bridge = Bridge(client, request.param)
    yield bridge
    bridge.logger.removeHandler(bridge.handler)


class TestEventsProcessorInTheBridgeToLogging:
    def test_records_of_both_become_events(self, client: Client, memory: MemoryTransport, bridge: Bridge) -> None:
        bridge.structlog.bind(user="ann").warning("%s low", "stock", event_type="stock_low", left=3)
        bridge.logger.warning("%s low", "stock", extra={"event_type": "stock_low", "left": 3})
        first, second = sent(client, memory)
        where = {"logger": "shop.bridge", "left": 3}
        assert (first.event_type, first.severity, first.message) == ("stock_low", "warning", "stock low")
        assert (second.event_type, second.severity, second.message) == ("stock_low", "warning", "stock low")
        assert first.details == where | {"user": "ann", "template": "%s low"}
        assert second.details == where
        assert bridge.output.getvalue().count("\n") == 2

    def test_exceptions_and_stacks_come_through(self, client: Client, memory: MemoryTransport, bridge: Bridge) -> None:
        try:
            _ = os.environ["LOST"]
        except KeyError:
            bridge.structlog.exception("failed")
            bridge.logger.exception("failed", stack_info=True)
        first, second = sent(client, memory)
        for event in (first, second):
            assert (event.details or {})["exception"]["type"] == "KeyError"
        assert "Stack (most recent call last)" in (second.details or {})["stack"]

    def test_records_about_the_delivery_are_left_out(
        self, client: Client, memory: MemoryTransport, bridge: Bridge
    ) -> None:
        record = bridge.logger.makeRecord("urllib3", logging.INFO, "f.py", 1, "POST", (), None)
        record.threadName = WORKER_THREAD
        bridge.handler.handle(record)
        assert sent(client, memory) == []
        assert "POST" in bridge.output.getvalue()


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
            ("stock_low", "warning", "w 1", {"left": 3, "template": "w %s"} | where),
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

    def test_the_template_is_added_only_for_arguments_and_can_be_switched_off(
        self, client: Client, memory: MemoryTransport
    ) -> None:
        handlers = (EventsHandler(client=client), EventsHandler(client=client, add_template=False))
        for handler, args in ((handlers[0], (7,)), (handlers[0], ({"n": 7},)), (handlers[0], ()), (handlers[1], (7,))):
            handler.handle(
                logging.LogRecord("shop", logging.INFO, "f.py", 1, "%(n)d" if args == ({"n": 7},) else "%s", args, None)
            )
        handlers[0].handle(logging.makeLogRecord({"msg": "%s", "args": (7,), "template": "of the application"}))
        assert [(event.message, (event.details or {}).get("template")) for event in sent(client, memory)] == [
            ("7", "%s"),
            ("7", "%(n)d"),
            ("%s", None),
            ("7", None),
            ("7", "of the application"),
        ]

    def test_records_of_this_package_are_left_out(self, client: Client, memory: MemoryTransport) -> None:
        handler = EventsHandler(client=client)
        for name in ("brain_events", "brain_events.anything", "brain_events_of_mine"):
            handler.handle(logging.LogRecord(name, logging.INFO, "f.py", 1, name, (), None))
        assert [event.message for event in sent(client, memory)] == ["brain_events_of_mine"]


def test_a_stack_and_an_event_type_are_the_records(
    logger: logging.Logger, client: Client, memory: MemoryTransport
) -> None:
    logger.info("here", stack_info=True, extra={"event_type": "asked"})
    (event,) = sent(client, memory)
    assert event.event_type == "asked"
    assert (event.details or {})["stack"].startswith("Stack (most recent call last):")


def test_a_record_that_a_queue_has_prepared_keeps_its_exception(client: Client, memory: MemoryTransport) -> None:
    records: queue.Queue[Any] = queue.Queue()
    sender = logging.handlers.QueueHandler(records)
    try:
        _ = os.environ["LOST"]
    except KeyError as error:
        record = logging.LogRecord(
            "shop", logging.ERROR, "f.py", 1, "%s", ("m",), (KeyError, error, error.__traceback__)
        )
        sender.emit(record)
    EventsHandler(client=client).handle(records.get())
    (event,) = sent(client, memory)
    assert event.message.startswith("m")
    assert "KeyError: 'LOST'" in event.message + str(event.details)


def test_a_field_named_extra_of_loggings_own_is_flattened_as_logurus_is(
    logger: logging.Logger, client: Client, memory: MemoryTransport
) -> None:
    logger.info("m", extra={"extra": {"a": 1}, "b": 2})
    assert sent(client, memory)[0].details == {"a": 1, "b": 2, "logger": "shop.checkout"}


def test_dict_config_knows_the_handler_and_flush_does_nothing() -> None:
    done = run_script("""
        import logging, logging.config, brain_events
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"events": {"class": "brain_events.EventsHandler", "level": "WARNING"}},
            "root": {"handlers": ["events"], "level": "DEBUG"},
        })
        logging.getLogger("a").info("not this")
        logging.getLogger("a").warning("this")
        (handler,) = logging.getLogger().handlers
        handler.flush()
        print(brain_events.stats().logged)
    """)
    assert done.stdout == "1\n", done.stderr


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
                assert client.flush(PATIENCE_S)
        finally:
            if listener:
                listener.stop()
            root.removeHandler(handler)
            root.setLevel(level)
        assert client.flush(PATIENCE_S)
        root.addHandler(handler)  # and while the closing thread delivers
        root.setLevel(logging.DEBUG)
        client.log("n", "info", "5")
    root.removeHandler(handler)
    root.setLevel(level)
    assert [event.message for event in sink.events] == ["0", "1", "2", "3", "4", "5"]


def test_a_record_without_a_name_becomes_an_event(client: Client, memory: MemoryTransport) -> None:
    EventsHandler(client=client).handle(logging.makeLogRecord({"msg": "from elsewhere", "levelno": logging.INFO}))
    assert client.flush(PATIENCE_S)
    assert [event.message for event in memory.events] == ["from elsewhere"]


def test_an_application_at_level_debug_gets_no_records_about_the_requests_of_the_sdk(sink: Sink) -> None:
    script = """
        import logging, sys, brain_events, urllib3
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s")
        brain_events.init()
        brain_events.log_system_event("a", "info", "")
        assert brain_events.flush(60)
        print("--")
        urllib3.PoolManager().request("GET", "{url}/livez", retries=False)
    """
    before, _, after = run_script(script.replace("{url}", sink.url), sink.url).stdout.partition("--\n")
    assert before == ""
    assert "urllib3.connectionpool" in after
