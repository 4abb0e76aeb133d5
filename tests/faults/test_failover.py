"""Failover under load: the primary is killed or frozen, the standby promoted, again and again.

BRAIN_TEST_FAULT_ROUNDS=20 makes more rounds of each.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

import pytest

from brain_collector.storage import migrate
from tests.support.collector import Process, collector_process
from tests.support.engines import scratch_dir
from tests.support.follower import Follower, following
from tests.support.load import Load, loaded
from tests.support.replication import Pair, Server, replicated
from tests.support.waiting import wait_until

ROUNDS = int(os.environ.get("BRAIN_TEST_FAULT_ROUNDS", "1"))

DEADLINES = {
    "BRAIN_COLLECTOR_CONNECT_DEADLINE_S": "4",
    "BRAIN_COLLECTOR_WRITE_DEADLINE_S": "8",
    "BRAIN_COLLECTOR_READ_DEADLINE_S": "4",
}
"""So that a collector lets go of a frozen server; a request that a busy machine fails is sent again."""


class Site:
    """A collector on a pair of servers, the load on it, and its tails: two that stay, one that leaves and resumes."""

    def __init__(self, pair: Pair, collector: Process, load: Load, tails: list[Follower]) -> None:
        self.pair = pair
        self.collector = collector
        self.load = load
        self.tails = tails
        self.delivered: list[Counter[int]] = [Counter() for _ in tails]

    def flow(self) -> None:
        """Return when more events are acknowledged, and all tails receive events."""
        acknowledged = len(self.load.acknowledged)
        wait_until(lambda: len(self.load.acknowledged) > acknowledged + 200, "events are acknowledged")
        for tail in self.tails:
            received = len(tail.events)
            wait_until(lambda: len(tail.events) > received, f"events arrive: {tail.ends[-5:]}")  # noqa: B023 - at once

    def stored(self) -> list[tuple[int, int, datetime]]:
        """Return id, number and timestamp of every event of the load."""
        rows: list[Any] = self.pair.primary.sql(
            "SELECT id, (details->>'number')::int, timestamp FROM system_events WHERE source = 'load' ORDER BY 2"
        )
        return rows

    def check_tails(self) -> None:
        """Check that each tail got every stored event once, or was told of a gap that it lies in."""
        stored = self.stored()
        for tail in self.tails:
            wait_until(lambda: missing(tail, stored) == [], "the tail has every event, or a gap")  # noqa: B023
            repeated = [id for id, n in Counter(tail.ids).items() if n > 1]
            assert [row for row in stored if row[0] in repeated and not is_told(tail, row[2])] == []

    def check_ids(self) -> None:
        """Check that no id is stored twice, and no event."""
        stored = self.stored()
        assert [id for id, n in Counter(id for id, _, _ in stored).items() if n > 1] == []
        assert [number for number, n in Counter(number for _, number, _ in stored).items() if n > 1] == []


def is_told(tail: Follower, moment: datetime) -> bool:
    """Whether a gap of this tail includes a moment."""
    return any(
        datetime.fromisoformat(gap["since"]) <= moment <= datetime.fromisoformat(gap["until"]) for gap in tail.told
    )


def missing(tail: Follower, stored: list[tuple[int, int, datetime]]) -> list[int]:
    """Return the ids that the tail neither received nor was told of."""
    received = set(tail.ids)
    return [id for id, _, moment in stored if id not in received and not is_told(tail, moment)]


@contextmanager
def site(*, synchronous: bool) -> Iterator[Site]:
    with ExitStack() as stack:
        pair = stack.enter_context(replicated())
        migrate.upgrade(pair.url)
        pair.follow(synchronous=synchronous)
        log = stack.enter_context(scratch_dir()) / "collector.log"
        environ = DEADLINES | {"BRAIN_COLLECTOR_DATABASE_URL": pair.url, "BRAIN_COLLECTOR_REDIS_URL": "none"}
        collector = stack.enter_context(collector_process(log=str(log), **environ))
        tails = [
            stack.enter_context(following(collector.url, kind, "load", again=True))
            for kind in ("stream", "ws", "stream")
        ]
        load = stack.enter_context(loaded(collector.url))
        yield Site(pair, collector, load, tails)


@pytest.mark.parametrize("fault", [Server.kill, Server.freeze], ids=["killed", "frozen"])
def test_with_a_synchronous_standby_a_failover_loses_nothing_and_tails_miss_nothing(fault: Any) -> None:
    with site(synchronous=True) as at:
        for number in range(ROUNDS):
            at.flow()
            at.tails[-1].leave()
            wait_until(lambda: at.load.in_flight, "a request is in flight")
            fault(at.pair.primary)
            at.pair.fail_over()
            at.flow()
            at.load.pause()
            assert at.load.wrong == []
            assert [row[1] for row in at.stored()] == sorted(at.load.acknowledged)
            at.check_ids()
            at.check_tails()
            check_events_of_failover(at, number + 1)
            at.load.resume()
            at.pair.standby.kill()  # fencing: what was frozen must not wake up as a primary
            at.pair.follow(synchronous=True)


def test_with_an_asynchronous_standby_that_is_behind_no_id_is_doubled_and_every_tail_is_told_of_a_gap() -> None:
    with site(synchronous=False) as at:
        for number in range(ROUNDS):
            at.flow()
            with at.pair.lagging():
                for _ in range(3):
                    at.flow()
                at.pair.primary.kill()
            at.pair.fail_over()
            at.flow()
            at.load.pause()
            assert at.load.wrong == []
            assert {row[1] for row in at.stored()} <= set(at.load.acknowledged)
            at.check_ids()
            at.check_tails()
            for tail in at.tails:
                assert tail.gaps > number
            check_events_of_failover(at, number + 1)
            at.load.resume()
            at.pair.follow(synchronous=False)


def check_events_of_failover(at: Site, n: int) -> None:
    """Check that each failover was recorded once."""

    def is_recorded() -> bool:
        statement = "SELECT count(*) FROM system_events WHERE event_type = 'database_failed_over'"
        return at.pair.primary.sql(statement) == [(n,)]

    wait_until(is_recorded, f"{n} failovers are recorded")
