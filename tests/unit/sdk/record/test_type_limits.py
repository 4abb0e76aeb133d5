"""Limits for noisy event types: the first ones pass, errors always, and what is left out is counted and reported."""

import threading
from collections import Counter
from typing import Any

import pytest

from brain_events import Config
from brain_events.errors import ConfigError
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S, wait_until

RARELY = 1e-9


def test_only_the_first_events_of_a_limited_type_are_logged(memory: MemoryTransport) -> None:
    with fast_client(transport=memory, limits={"noisy": (50, RARELY)}) as client:
        for n in range(200):
            client.log("noisy", "info", str(n), {"n": n})
            client.log("quiet", "info", str(n))
        assert client.flush(PATIENCE_S)
        figures = client.stats()
    events = [event for event in memory.events if event.event_type != "sdk_report"]
    assert Counter(event.event_type for event in events) == {"noisy": 50, "quiet": 200}
    assert [event.message for event in events if event.event_type == "noisy"] == [str(n) for n in range(50)]
    assert figures.dropped == {"limited": 150}
    assert figures.logged == figures.delivered + 150


@pytest.mark.parametrize("severity", ["error", "critical", "err", "EXCEPTION", 40, "unknown"])
def test_errors_are_never_left_out(memory: MemoryTransport, severity: Any) -> None:
    with fast_client(transport=memory, limits={"noisy": (1, RARELY)}) as client:
        for _ in range(20):
            client.log("noisy", severity, "")
        client.log("noisy", "info", "has its token still")
        client.log("noisy", "info", "has none")
    assert [event.severity for event in memory.events if event.event_type == "noisy"].count("info") == 1
    assert len([event for event in memory.events if event.event_type == "noisy"]) == 21


def test_the_bucket_fills_again(memory: MemoryTransport) -> None:
    with fast_client(transport=memory, limits={"noisy": (1, 20.0)}) as client:

        def three_have_passed() -> bool:
            client.log("noisy", "info", "")
            return client.stats().logged - client.stats().dropped.get("limited", 0) >= 3

        wait_until(three_have_passed)


def test_what_was_left_out_is_reported_by_type_with_the_severity_info(memory: MemoryTransport) -> None:
    with fast_client(transport=memory, limits={"noisy": (1, RARELY), "other": (2, RARELY)}) as client:
        for _ in range(10):
            client.log("noisy", "info", "")
            client.log("other", "warning", "")
        assert client.flush(PATIENCE_S)
        wait_until(lambda: any(event.event_type == "sdk_report" for event in memory.events))
    (report,) = [event for event in memory.events if event.event_type == "sdk_report"]
    assert (report.severity, report.message) == ("info", "17 events were dropped")
    assert report.details == {"dropped": {"limited": 17}, "limited": {"noisy": 9, "other": 8}}


def test_threads_at_once_pass_hardly_more_than_the_limit(memory: MemoryTransport) -> None:
    with fast_client(transport=memory, limits={"noisy": (1000, RARELY)}) as client:

        def log_many() -> None:
            for _ in range(1000):
                client.log("noisy", "info", "")

        threads = [threading.Thread(target=log_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(PATIENCE_S)
        figures = client.stats()
    assert 1000 <= figures.delivered <= 1100
    assert figures.delivered + figures.dropped["limited"] == figures.logged == 4000


@pytest.mark.parametrize("event_type", [None, ["unhashable"], 7])
def test_any_event_type_is_accepted_beside_limits(memory: MemoryTransport, event_type: Any) -> None:
    with fast_client(transport=memory, limits={"noisy": (1, 1.0)}) as client:
        client.log(event_type, "info", "")
    assert len(memory.events) == 1


@pytest.mark.parametrize(
    "limits", [{"a": (0, 1.0)}, {"a": (1, 0)}, {"a": 5}, {"a": (1,)}, {1: (1, 1.0)}, {"a": ("1", 1.0)}]
)
def test_a_limit_that_cannot_be_used_is_refused_with_its_value(limits: Any) -> None:
    with pytest.raises(ConfigError, match="limits has") as caught:
        Config(url="http://127.0.0.1:8001", limits=limits)
    assert repr(next(iter(limits.values()))) in str(caught.value)


def test_what_was_left_out_is_not_reported_as_lost_at_exit(sink: Sink) -> None:
    done = run_script(
        """
        import brain_events
        brain_events.init(limits={"noisy": (1, 1e-9)})
        for _ in range(10): brain_events.log_system_event("noisy", "info", "")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert [event.event_type for event in sink.events].count("noisy") == 1
