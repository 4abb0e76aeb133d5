"""What the collector answers while its cache or its database is killed, emptied or hung."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from brain_collector.embedded import valkey
from brain_events.wire import new_key
from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process, signal_all, stop_family
from tests.support.waiting import PATIENCE_S, wait_until

EVENT = {"event_type": "probe", "severity": "info", "message": "m", "source": "probe"}


def kill(collector: CollectorProcess) -> None:
    os.kill(collector.engine_pid("valkey"), signal.SIGKILL)


def flush(collector: CollectorProcess) -> None:
    with redis.Redis.from_url(valkey.url(collector.data_dir / "run")) as client:
        client.flushall()


def hang(collector: CollectorProcess) -> None:
    pid = collector.engine_pid("valkey")
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(2.0, signal_all, ([pid], signal.SIGCONT)).start()


@pytest.mark.parametrize("fault", [kill, flush, hang])
def test_answers_stay_right_while_redis_is_hit(collector: CollectorProcess, fault: Callable[[Any], None]) -> None:
    """A list, a count and an event are asked for after every write: each must show it, and none may fail."""
    with httpx.Client(base_url=collector.url, timeout=PATIENCE_S) as client:
        for number in range(60):
            if number % 20 == 10:
                fault(collector)
            created = client.post("/api/events", json=EVENT)
            listed = client.get("/api/events?event_type=probe&limit=1000")
            stats = client.get("/api/events/stats")
            event = client.get(created.headers["Location"])

            assert [answer.status_code for answer in (created, listed, stats, event)] == [201, 200, 200, 200]
            assert (len(listed.json()), stats.json()["events_by_type"]["probe"]) == (number + 1, number + 1)
            assert listed.json()[0] == event.json()


@contextmanager
def writing(url: str) -> Iterator[tuple[Counter[int], list[httpx.Response], dict[str, int]]]:
    """Post events from four threads, each under its key until it is stored; yield what was answered so far."""
    statuses: Counter[int] = Counter()
    unavailable: list[httpx.Response] = []
    stored: dict[str, int] = {}
    done = threading.Event()

    def post_until_done() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            while not done.is_set():
                key = str(new_key())
                while key not in stored:
                    answer = client.post("/api/events", json=EVENT, headers={"Idempotency-Key": key})
                    statuses[answer.status_code] += 1
                    if answer.status_code == 201:
                        stored[key] = answer.json()["id"]
                    else:
                        unavailable.append(answer)
                        done.wait(0.05)

    threads = [threading.Thread(target=post_until_done) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses, unavailable, stored
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_killed_postgres_is_503_and_then_back_without_a_restart(collector: CollectorProcess) -> None:
    pid = collector.pid
    with (
        writing(collector.url) as (statuses, unavailable, stored),
        httpx.Client(base_url=collector.url, timeout=PATIENCE_S) as reader,
    ):
        for _ in range(3):
            before = len(stored)
            wait_until(lambda: len(stored) > before + 50, "events are stored")  # noqa: B023 - called at once
            refused = len(unavailable)
            os.kill(collector.engine_pid("postgres"), signal.SIGKILL)
            wait_until(lambda: len(unavailable) > refused, "a write is refused")  # noqa: B023 - called at once
            reads = {reader.get("/api/events?source=nobody", timeout=PATIENCE_S).status_code for _ in range(20)}
            assert reads <= {200, 503}
            assert reader.get("/livez").status_code == 200
            wait_until(lambda: reader.get("/readyz").status_code == 200, "the collector is ready again")

    assert set(statuses) == {201, 503}
    assert {answer.headers.get("Retry-After") is not None for answer in unavailable} == {True}
    assert {answer.json()["code"] for answer in unavailable} == {"unavailable"}
    rows = collector.sql("SELECT id FROM system_events WHERE event_type = 'probe' ORDER BY 1")
    assert [row[0] for row in rows] == sorted(stored.values())
    assert collector.pid == pid
    assert collector.running
    wait_until(
        lambda: {"database_lost", "database_back", "engine_restarted"} <= own_events(collector),
        "the collector has stored what happened to it",
    )


def own_events(collector: CollectorProcess) -> set[str]:
    """Return the types of the collector's own events."""
    return {event["event_type"] for event in collector.get("/api/events?source=collector&limit=1000")}


def test_a_hung_postgres_is_503_within_the_deadline_and_then_back(hasty: CollectorProcess) -> None:
    collector = hasty
    family = stop_family(collector.engine_pid("postgres"))
    try:
        answers = [httpx.post(collector.url + "/api/events", json=EVENT, timeout=PATIENCE_S) for _ in range(4)]
        reads = [httpx.get(f"{collector.url}/api/events?source={name}", timeout=PATIENCE_S) for name in "ab"]
        alive = httpx.get(collector.url + "/livez", timeout=PATIENCE_S)
    finally:
        signal_all(family, signal.SIGCONT)

    assert {answer.status_code for answer in (*answers, *reads)} == {503}
    assert {answer.headers.get("Retry-After") for answer in (*answers, *reads)} == {"2"}
    assert alive.status_code == 200
    wait_until(
        lambda: httpx.post(collector.url + "/api/events", json=EVENT, timeout=PATIENCE_S).status_code == 201,
        "events are stored again",
    )


@pytest.fixture
def hasty() -> Iterator[CollectorProcess]:
    """A collector with short deadlines."""
    with (
        scratch_dir() as path,
        collector_process(
            path / "data",
            BRAIN_COLLECTOR_WRITE_DEADLINE_S="1",
            BRAIN_COLLECTOR_READ_DEADLINE_S="1",
            BRAIN_COLLECTOR_CONNECT_DEADLINE_S="1",
        ) as found,
    ):
        yield found
