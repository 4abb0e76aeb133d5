"""`kill -9` under load, again and again: what was acknowledged is stored, once, and counted.

BRAIN_TEST_FAULT_ROUNDS=50 makes more rounds of it.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from tests.support.load import Load, loaded
from tests.support.process import CollectorProcess
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("BRAIN_TEST_FAULT_ROUNDS", "4"))


def kill_collector(collector: CollectorProcess) -> None:
    """With its engines, which end by themselves when it is gone."""
    collector.kill()
    collector.start()


def kill_postgres(collector: CollectorProcess) -> None:
    os.kill(collector.engine_pid("postgres"), signal.SIGKILL)


def test_killing_the_collector_loses_and_doubles_nothing(collector: CollectorProcess) -> None:
    load = rounds_of(kill_collector, collector, count=lambda load: load.ambiguous)
    print(f"{ROUNDS} kills of the collector cut {load.ambiguous} requests")


def test_killing_postgres_loses_and_doubles_nothing(collector: CollectorProcess) -> None:
    pid = collector.pid
    load = rounds_of(kill_postgres, collector, count=lambda load: load.refused)
    print(f"{ROUNDS} kills of Postgres refused {load.refused} requests")
    assert load.ambiguous == 0
    deaths = next(engine["restarts"] for engine in collector.get("/health")["engines"] if engine["name"] == "postgres")
    assert len(own_events(collector, "database_lost")) <= deaths
    assert collector.running
    assert collector.pid == pid


def rounds_of(
    kill: Callable[[CollectorProcess], None], collector: CollectorProcess, count: Callable[[Load], int]
) -> Load:
    """Kill at a random moment with a request in flight, until one is hit; check; again."""
    with loaded(collector.url) as load:
        for _ in range(ROUNDS):
            hit = count(load)
            while count(load) == hit:
                before = len(load.acknowledged)
                wait_until(lambda: len(load.acknowledged) > before + 200, "events are acknowledged")  # noqa: B023
                time.sleep(random.uniform(0, 0.2))
                wait_until(lambda: load.in_flight, "a request is in flight")
                kill(collector)
                before = len(load.acknowledged)
                wait_until(lambda: len(load.acknowledged) > before, "events are acknowledged again")  # noqa: B023
            load.pause()
            check(collector, load)
            load.resume()
    check(collector, load)
    return load


def own_events(collector: CollectorProcess, event_type: str) -> list[Any]:
    found: list[Any] = collector.get(f"/api/events?source=collector&limit=1000&event_type={event_type}")
    return found


def is_up(collector: CollectorProcess) -> bool:
    try:
        return collector.sql("SELECT 1") == [(1,)]
    except (OSError, asyncpg.PostgresError):
        return False


def check(collector: CollectorProcess, load: Load) -> None:
    """Hold the account against Postgres, which may still be restarting after the last kill."""
    assert load.wrong == []
    wait_until(lambda: is_up(collector), "Postgres accepts connections")
    stored = collector.sql("SELECT (details->>'number')::int FROM system_events WHERE source = 'load' ORDER BY 1")
    assert [number for (number,) in stored] == sorted(load.acknowledged)

    def statistics_are_exact() -> bool:
        found = collector.get("/api/events/stats")
        by_type = dict(collector.sql("SELECT event_type, count(*) FROM system_events GROUP BY 1"))
        by_severity = dict(collector.sql("SELECT severity, count(*) FROM system_events GROUP BY 1"))
        return bool(found["events_by_type"] == by_type and found["events_by_severity"] == by_severity)

    wait_until(statistics_are_exact, "statistics equal COUNT(*)")  # its own events come in between
