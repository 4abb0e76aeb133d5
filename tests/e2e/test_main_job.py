"""The main job, end to end: applications' events land in Postgres, once, whatever dies on the way."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from brain_events import Stats
from tests.support.process import CollectorProcess
from tests.support.relay import Relay, relayed
from tests.support.waiting import wait_until

PRODUCER = Path(__file__).parents[1] / "support" / "producer.py"
PROCESSES = 4
EACH = 25_000


def produce(url: str, name: str, n: int) -> subprocess.Popen[str]:
    """Start an application that logs n events."""
    return subprocess.Popen(
        [sys.executable, PRODUCER, name, str(n)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "BRAIN_EVENTS_URL": url},
    )


def account(producer: subprocess.Popen[str]) -> Stats:
    """Wait for an application to end; return where its events are."""
    out, _ = producer.communicate()
    assert producer.returncode == 0
    return msgspec.json.decode(out, type=Stats)


def assert_each_event_is_there_once(collector: CollectorProcess, names: list[str], each: int) -> None:
    rows = collector.sql(
        "SELECT source, count(*), count(DISTINCT details->>'number'), count(DISTINCT id) FROM system_events "
        "WHERE source LIKE 'app-%' GROUP BY 1 ORDER BY 1"
    )
    assert rows == [(name, each, each, each) for name in names]


def assert_statistics_are_exact(collector: CollectorProcess) -> None:
    """Compare with COUNT(*), by type and by severity; retry while the collector logs its own events in between."""

    def agree() -> bool:
        stats = collector.get("/api/events/stats")
        by_type = dict(collector.sql("SELECT event_type, count(*) FROM system_events GROUP BY 1"))
        by_severity = dict(collector.sql("SELECT severity, count(*) FROM system_events GROUP BY 1"))
        return bool(
            stats["events_by_type"] == by_type
            and stats["events_by_severity"] == by_severity
            and stats["total_events"] == sum(by_type.values())
        )

    wait_until(agree, "statistics equal COUNT(*)")


def test_100_000_events_of_4_processes_are_100_000_rows(collector: CollectorProcess) -> None:
    names = [f"app-{number}" for number in range(PROCESSES)]
    accounts = [account(producer) for producer in [produce(collector.url, name, EACH) for name in names]]

    assert [(stats.logged, stats.delivered) for stats in accounts] == [(EACH, EACH)] * PROCESSES
    assert_each_event_is_there_once(collector, names, EACH)
    assert_statistics_are_exact(collector)


def test_killing_the_collector_with_requests_in_flight_loses_and_doubles_nothing(collector: CollectorProcess) -> None:
    names = [f"app-{number}" for number in range(PROCESSES)]
    with relayed(collector.url) as relay:
        producers = [produce(relay.url, name, EACH) for name in names]
        for round_ in range(1, 4):
            target = 10_000 * round_
            wait_until(lambda: rows(collector) >= target, f"{target} rows are there")  # noqa: B023 - called at once
            kill_with_a_request_in_flight(collector, relay)
        accounts = [account(producer) for producer in producers]

    assert [(stats.logged, stats.delivered) for stats in accounts] == [(EACH, EACH)] * PROCESSES
    assert_each_event_is_there_once(collector, names, EACH)
    assert_statistics_are_exact(collector)


def rows(collector: CollectorProcess) -> int:
    ((n,),) = collector.sql("SELECT count(*) FROM system_events")
    return int(n)


def kill_with_a_request_in_flight(collector: CollectorProcess, relay: Relay) -> None:
    """Kill until a request has been taken and its connection ended without an answer; start again."""
    cut = relay.cut
    while relay.cut == cut:
        wait_until(lambda: relay.in_flight, "a request is in flight")
        collector.kill()
        wait_until(lambda: not relay.in_flight, "the relay has seen the end of every connection")
        collector.start()
