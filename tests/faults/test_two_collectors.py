"""Two collectors on one Postgres and one Valkey: one of them may always be killed."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brain_collector.settings import Settings
from tests.faults.test_kill import ROUNDS
from tests.support.collector import sql
from tests.support.load import loaded
from tests.support.process import CollectorProcess
from tests.support.waiting import wait_until


@pytest.fixture
def pair(settings: Settings, tmp_path: Path) -> Iterator[list[CollectorProcess]]:
    addresses = {
        "BRAIN_COLLECTOR_DATABASE_URL": str(settings.database_url),
        "BRAIN_COLLECTOR_REDIS_URL": str(settings.redis_url),
    }
    found = [CollectorProcess(tmp_path / str(n), None, **addresses) for n in range(2)]
    yield found
    for collector in found:
        collector.stop()


def test_one_of_two_may_be_killed_and_restarted_in_turn(pair: list[CollectorProcess], settings: Settings) -> None:
    with loaded(*(collector.url for collector in pair)) as load:
        for round_ in range(ROUNDS):
            collector = pair[round_ % 2]
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 200, "events are acknowledged")  # noqa: B023
            time.sleep(random.uniform(0, 0.2))
            wait_until(lambda: load.in_flight, "a request is in flight")
            collector.kill()
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 50, "the other one continues")  # noqa: B023
            collector.start()
    assert load.wrong == []
    stored = asyncio.run(sql(settings.dsn, "SELECT (details->>'number')::int FROM system_events WHERE source = 'load'"))
    assert sorted(number for (number,) in stored) == sorted(load.acknowledged)
    counted = [collector.get("/api/events/stats")["events_by_type"]["test"] for collector in pair]
    assert counted == [len(load.acknowledged)] * 2
