"""The worker's law: whatever happens, every event is delivered, rejected, dropped, or in memory."""

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_events import Client
from brain_events._delivery.transport import Response
from brain_events._queue.batch import Batch, halve, seal, unseal
from brain_events.testing import MemoryTransport, accepted
from tests.support.effort import times
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S, wait_until

PROBLEM = "application/problem+json"

answers = st.lists(
    st.sampled_from(
        [
            Response(503),
            Response(401),
            Response(413),
            Response(413, PROBLEM, b'{"code":"body_too_large"}'),
            Response(422, PROBLEM, b'{"code":"batch_invalid"}'),
            Response(200, "application/json", b"{"),
            OSError("no route to host"),
            ValueError("a defect of a transport"),
        ]
    ),
    max_size=6,
)


@settings(max_examples=times(60))
@given(st.lists(st.tuples(st.integers(0, 40), answers), max_size=4))
def test_no_event_is_unaccounted_for(rounds: list[tuple[int, list[Response | Exception]]]) -> None:
    memory = MemoryTransport()
    client = fast_client(transport=memory, interval_s=0.001, retry_base_s=1e-5, retry_cap_s=1e-4, probe_interval_s=1e-4)
    logged = 0
    for count, script in rounds:
        memory.answers.extend(script)
        for _ in range(count):
            client.log("law", "info", str(logged))
            logged += 1
        figures = client.stats()
        accounted = figures.delivered + figures.rejected + sum(figures.dropped.values()) + figures.in_memory
        assert figures.logged == logged == accounted
    assert client.close(timeout_s=PATIENCE_S)
    figures = client.stats()
    assert figures.logged == logged == figures.delivered + figures.rejected
    messages = [int(event.message) for event in memory.events]
    assert len(messages) == figures.delivered
    assert messages == sorted(set(messages))


def test_many_threads_lose_and_invent_nothing(client: Client, memory: MemoryTransport) -> None:
    def log_many(thread: int) -> None:
        for n in range(3000):
            client.log("thread", "info", "", {"thread": thread, "n": n})

    threads = [threading.Thread(target=log_many, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush(PATIENCE_S)
    assert client.stats().delivered == 24_000
    assert client._worker.buffer.in_memory() == 0
    by_thread: dict[int, list[int]] = {}
    for event in memory.events:
        assert event.details is not None
        by_thread.setdefault(event.details["thread"], []).append(event.details["n"])
    assert by_thread == {thread: list(range(3000)) for thread in range(8)}


def test_a_full_buffer_drops_and_counts_and_keeps_a_fifth_for_errors() -> None:
    memory = MemoryTransport(*[Response(503)] * 100_000)
    client = fast_client(transport=memory, max_event_bytes=1024, max_buffer_bytes=10_000)
    for severity in ("info", "error"):
        for _ in range(100):
            client.log("full", severity, "x" * 100)
    kept = client.stats()
    size = client._worker.buffer.in_memory()
    assert 9_000 < size <= 10_000
    assert kept.dropped["buffer_full"] == 200 - kept.in_memory
    memory.answers.clear()
    assert client.close(timeout_s=PATIENCE_S)
    severities = [event.severity for event in memory.events if event.event_type == "full"]
    assert severities == sorted(severities, reverse=True)
    assert 0.15 < severities.count("error") / len(severities) < 0.25


def test_the_buffers_bytes_are_free_again_once_a_batch_is_settled(client: Client) -> None:
    for _ in range(10):
        client.log("a", "info", "x" * 1000)
    assert client.flush(PATIENCE_S)
    assert client._worker.buffer.in_memory() == 0


def test_flush_is_false_while_nothing_can_be_delivered_and_true_again_after() -> None:
    memory = MemoryTransport(*[OSError()] * 1_000_000)
    client = fast_client(transport=memory)
    client.log("a", "info", "")
    assert not client.flush(timeout_s=0.05)
    assert client.stats().in_memory == 1
    memory.answers.clear()
    assert client.flush(PATIENCE_S)
    assert client.close(PATIENCE_S)


def test_flush_does_not_wait_for_the_interval() -> None:
    with fast_client(transport=MemoryTransport(), interval_s=3600) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)


def test_events_are_sent_without_a_flush(client: Client, memory: MemoryTransport) -> None:
    client.log("a", "info", "")
    wait_until(lambda: memory.events)


def test_a_backlog_travels_in_large_batches(memory: MemoryTransport) -> None:
    with fast_client(transport=memory, interval_s=3600) as client:
        memory.answers.extend([OSError()] * 10)
        for n in range(12_000):
            client.log("a", "info", str(n))
        assert client.flush(PATIENCE_S)
    assert max(batch.count for batch in memory.attempts) == 5_000


def test_after_close_events_are_counted_and_close_is_safe_twice(memory: MemoryTransport) -> None:
    client = fast_client(transport=memory)
    client.log("a", "info", "before")
    assert client.close(PATIENCE_S)
    assert client.close(PATIENCE_S)
    client.log("a", "info", "after")
    assert client.stats().dropped == {"closed": 1}
    assert [event.message for event in memory.events] == ["before"]


def test_a_client_that_never_logged_closes_at_once_and_starts_no_thread(memory: MemoryTransport) -> None:
    client = fast_client(transport=memory)
    assert client.close(PATIENCE_S)
    assert client._worker._thread is None


class HungTransport(MemoryTransport):
    """Hangs in its first request until released."""

    def __init__(self) -> None:
        super().__init__()
        self.hung = threading.Event()
        self.release = threading.Event()

    def send(self, batch: Batch, timeout_s: float) -> Response:
        if not self.hung.is_set():
            self.hung.set()
            self.attempts.append(batch)
            self.release.wait(PATIENCE_S)
            return accepted(batch.count)
        return super().send(batch, timeout_s)


def test_a_hung_worker_is_abandoned_and_its_batch_sent_again_under_the_same_key() -> None:
    transport = HungTransport()
    client = fast_client(transport=transport)
    client.log("a", "info", "")
    assert transport.hung.wait(PATIENCE_S)
    assert client.close(timeout_s=0.4)
    assert client.stats().delivered == 1
    transport.release.set()
    wait_until(lambda: client._worker._thread is not None and not client._worker._thread.is_alive())
    assert client.stats().delivered == 1
    assert len({batch.key for batch in transport.attempts}) == 1


def test_trouble_is_reported_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="brain_events")
    memory = MemoryTransport(*[Response(401, PROBLEM, b'{"code":"unauthorized","detail":"unknown key"}')] * 5)
    with fast_client(transport=memory) as client:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
        wait_until(lambda: len(caplog.records) == 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "HTTP 401 unauthorized unknown key" in caplog.messages[0]


@given(st.lists(st.binary(min_size=1).filter(lambda line: not {10, 13} & set(line)), min_size=2, max_size=50))
def test_halves_are_the_same_wherever_they_are_made(lines: list[bytes]) -> None:
    batch = seal(lines)
    halves = halve(batch)
    assert halves == halve(seal(lines, batch.key))
    assert [line for half in halves for line in unseal(half)] == lines
    assert sum(half.line_bytes for half in halves) == batch.line_bytes == sum(map(len, lines))
    keys: list[Any] = [batch.key, *(half.key for half in halves)]
    assert len(set(keys)) == 3
    assert {key.int >> 76 for key in keys} == {batch.key.int >> 76}
    assert {(key.version, key.variant) for key in keys} == {(7, batch.key.variant)}
