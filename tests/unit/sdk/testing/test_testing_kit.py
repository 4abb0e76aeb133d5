"""The testing kit: what a test of an application sees of its events, and a collector that fails as told."""

import logging
import socket
import threading
from pathlib import Path

import pytest

import brain_events
from brain_events import Client, Config, Event, EventsHandler, EventsProcessor, bound, log_system_event
from brain_events._delivery import connector
from brain_events.testing import MemoryTransport, capture_events, sending_off
from brain_events.testing.faulty import FAULTS, FaultyCollector
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until


def messages(events: list[Event]) -> list[str]:
    return [event.message for event in events]


def test_events_are_captured_in_order_when_log_system_event_returns() -> None:
    with capture_events() as events:
        for n in range(100):
            log_system_event("order", "info", str(n), {"n": n})
            assert len(events) == n + 1
    assert messages(events) == [str(n) for n in range(100)]
    assert type(events[0]) is Event


def test_a_captured_event_is_what_a_collector_would_get() -> None:
    with capture_events() as events, bound(customer="c-77"):
        log_system_event("login", "WARN", "password=hunter22", {"token": "abc", "n": 1})
    (event,) = events
    assert event.severity == "warning"
    assert event.message == "password=[scrubbed]"
    assert event.details == {"customer": "c-77", "token": "[scrubbed]", "n": 1}


def test_adapters_and_threads_are_captured_too() -> None:
    handler = EventsHandler()
    with capture_events() as events:
        handler.emit(logging.makeLogRecord({"name": "shop", "msg": "from logging", "levelno": logging.ERROR}))
        EventsProcessor()(None, "info", {"event": "from structlog"})
        thread = threading.Thread(target=log_system_event, args=("a", "info", "from a thread"))
        thread.start()
        thread.join()
    assert messages(events) == ["from logging", "from structlog", "from a thread"]


def test_nothing_is_captured_after_the_block_and_the_outer_block_sees_what_the_inner_one_does() -> None:
    with capture_events() as outer:
        with capture_events() as inner:
            log_system_event("a", "info", "both")
        log_system_event("a", "info", "outer")
    log_system_event("a", "info", "neither")
    assert messages(inner) == ["both"]
    assert messages(outer) == ["both", "outer"]


def test_init_inside_the_block_sends_nothing_but_its_settings_hold(sink: Sink) -> None:
    with capture_events() as events:
        brain_events.init(sink.url, source="shop", before_send=lambda event: event if event.details else None)
        log_system_event("a", "info", "dropped")
        log_system_event("a", "info", "kept", {"n": 1})
        assert brain_events.flush(PATIENCE_S)
        assert brain_events.stats().delivered == 1
    assert [(event.message, event.source) for event in events] == [("kept", "shop")]
    assert sink.requests == []


def test_a_client_that_is_sent_to_a_faulty_collector_sends_to_it_though_sending_is_off(state_home: Path) -> None:
    with FaultyCollector() as collector, capture_events() as events:
        collector.once("error", "cut")
        brain_events.init(collector.url)
        log_system_event("a", "info", "both")
        assert brain_events.flush(PATIENCE_S)
        assert messages(events) == messages(collector.events) == ["both"]
    assert not state_home.exists()


def test_a_client_of_its_own_is_captured_if_it_is_made_inside() -> None:
    with capture_events() as events, Client(Config(url="http://collector.invalid")) as client:
        client.log("a", "info", "own")
    assert messages(events) == ["own"]


def test_events_logged_after_close_are_not_captured_as_they_would_not_be_sent() -> None:
    with capture_events() as events:
        log_system_event("a", "info", "before")
        brain_events.close()
        log_system_event("a", "info", "after")
    assert messages(events) == ["before"]


def test_a_given_transport_gets_the_events_though_they_are_captured(memory: MemoryTransport) -> None:
    with capture_events() as events:
        brain_events.init("http://collector.invalid", transport=memory)
        log_system_event("a", "info", "both")
        assert brain_events.flush(PATIENCE_S)
    assert messages(events) == messages(memory.events) == ["both"]


def test_capturing_touches_no_outbox(state_home: Path) -> None:
    with capture_events():
        brain_events.init("http://collector.invalid", durable=True)
        log_system_event("a", "info", "")
    assert not state_home.exists()


def test_the_client_of_before_is_back_after_the_block() -> None:
    done = run_script("""
        import brain_events
        from brain_events.testing.faulty import FaultyCollector
        from brain_events.testing import capture_events

        with FaultyCollector() as collector:
            brain_events.init(collector.url, source="shop")
            with capture_events() as events:
                brain_events.log_system_event("a", "info", "captured")
                brain_events.init("http://127.0.0.1:9")
            brain_events.log_system_event("a", "info", "sent")
            brain_events.flush()
            print([event.message for event in collector.events], events[0].source, brain_events.close())
    """)
    assert done.stdout == "['sent'] shop True\n", done.stderr


def test_early_events_outlive_a_capture() -> None:
    done = run_script("""
        import brain_events
        from brain_events.testing.faulty import FaultyCollector
        from brain_events.testing import capture_events

        brain_events.log_system_event("a", "info", "early")
        with capture_events() as events:
            brain_events.init("http://127.0.0.1:9")
        with FaultyCollector() as collector:
            brain_events.init(collector.url)
            brain_events.flush()
            print([event.message for event in collector.events], events)
    """)
    assert done.stdout == "['early'] []\n", done.stderr


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_client_delivers_each_event_once_when_a_fault_is_over(fault: str) -> None:
    with FaultyCollector(fault, retry_after_s=0) as collector:
        with fast_client(collector.url, request_timeout_s=0.3) as client:
            client.log("a", "info", "through")
            if fault == "refuse":
                wait_until(lambda: client.stats().in_memory == 1)
            else:
                wait_until(lambda: collector.requests >= 2)
            assert client.stats().delivered == 0
            collector.fault = None
            assert client.flush(PATIENCE_S)
            assert client.stats().delivered == 1
        assert messages(collector.events) == ["through"]
        assert collector.batches == 1


def test_a_fault_can_be_told_for_one_request() -> None:
    with FaultyCollector() as collector, fast_client(collector.url) as client:
        collector.once("cut", "error")
        client.log("a", "info", "third time")
        assert client.flush(PATIENCE_S)
        assert collector.requests == 3
        assert messages(collector.events) == ["third time"]


def test_refused_connections_are_refused_and_it_comes_back_at_the_same_address() -> None:
    with FaultyCollector("refuse") as collector:
        address = ("127.0.0.1", int(collector.url.rpartition(":")[2]))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        collector.fault = None
        socket.create_connection(address).close()


@pytest.mark.parametrize("use", [lambda: FaultyCollector("slow"), lambda: FaultyCollector().once("refuse")])
def test_a_fault_that_cannot_be_is_refused(use: object) -> None:
    assert callable(use)
    with pytest.raises(ValueError, match=r"use one of|set `fault` instead"):
        use()


def test_the_faulty_collector_runs_as_a_command() -> None:
    done = run_script("""
        import os, signal, sys, threading
        from brain_events.testing import faulty
        import brain_events

        real = faulty._say
        def say(line):
            real(line.replace(line.split()[0], "URL", 1) if line.startswith("http") else line)
            if line.startswith("http"):
                signal.setitimer(signal.ITIMER_REAL, 0.2)
        faulty._say = say
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        sys.exit(faulty.main(["busy", "--retry-after", "7"]))
    """)
    assert (
        done.stdout
        == "URL responds with 429 and Retry-After; press Ctrl-C to stop\n0 requests, 0 batches, 0 events stored\n"
    )
    assert done.returncode == 0, done.stderr


def test_sending_off_replaces_the_connector_and_restores_it_also_when_nested() -> None:
    before = connector.installed()
    with sending_off():
        outer = connector.installed()
        with sending_off():
            assert connector.installed() not in {before, outer}
        assert connector.installed() is outer
    assert connector.installed() is before


def test_a_client_made_while_sending_is_off_has_no_outbox() -> None:
    with sending_off(), Client(Config(url="http://127.0.0.1:8001", durable=True)) as client:
        assert (client.config.spool_dir, client.config.durable) == (None, False)
