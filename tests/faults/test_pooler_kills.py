"""Collectors behind PgBouncer, under load, on a server whose commits do not wait for the disk by default.

BRAIN_TEST_FAULT_ROUNDS makes more kills, BRAIN_TEST_POOLER_S a longer load, BRAIN_TEST_POOLER_BURST a larger burst.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from brain_events import Client, Config
from tests.faults.test_kill import ROUNDS, is_up
from tests.support import pgbouncer
from tests.support.collector import collector_process, count_foreign, sql
from tests.support.load import loaded
from tests.support.pgbouncer import Pooler, pooled
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S, wait_until

SECONDS = float(os.environ.get("BRAIN_TEST_POOLER_S", "5"))
BURST = int(os.environ.get("BRAIN_TEST_POOLER_BURST", "5000"))
FORGETFUL = (
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "ALTER DATABASE postgres SET synchronous_commit = off",
    "SELECT pg_reload_conf()",
)
"""With these settings, a kill loses ten seconds of commits, unless they wait for the disk."""


@pytest.fixture
def host(collector: CollectorProcess) -> CollectorProcess:
    """A collector that only keeps its Postgres running, with commits that do not wait."""
    for statement in FORGETFUL:
        collector.sql(statement)
    return collector


@pytest.fixture
def pooler(host: CollectorProcess) -> Iterator[Pooler]:
    with pooled(host.database_url, pgbouncer.program(), server_login_retry="0.1") as found:
        yield found


def flags_for(pooler: Pooler) -> tuple[str, ...]:
    return ("--database-url", pooler.url, "--redis-url", "none")


def kill_all_of_postgres(host: CollectorProcess) -> None:
    """SIGKILL the server and each of its processes: none of them writes what is still in memory."""
    postmaster = host.engine_pid("postgres")
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split()
    for pid in (postmaster, *map(int, children)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def stored_numbers(host: CollectorProcess) -> list[int]:
    rows = host.sql("SELECT (details->>'number')::int FROM system_events WHERE source = 'load' ORDER BY 1")
    return [number for (number,) in rows]


def test_behind_a_pooler_a_kill_of_all_of_postgres_loses_nothing_acknowledged(
    host: CollectorProcess, pooler: Pooler
) -> None:
    with (
        collector_process(*flags_for(pooler), BRAIN_COLLECTOR_RETRY_AFTER_S="1") as process,
        loaded(process.url) as load,
    ):
        for _ in range(ROUNDS):
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before + 200, "events are acknowledged")  # noqa: B023
            wait_until(lambda: load.in_flight, "a request is in flight")
            kill_all_of_postgres(host)
            before = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > before, "events are acknowledged again")  # noqa: B023
            load.pause()
            wait_until(lambda: is_up(host), "Postgres accepts connections")
            assert load.wrong == []
            assert stored_numbers(host) == sorted(load.acknowledged)
            load.resume()
    print(f"{ROUNDS} kills, {len(load.acknowledged)} events acknowledged and stored, {load.refused} requests refused")


def test_two_collectors_share_a_pooler_without_a_503(host: CollectorProcess, pooler: Pooler) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(collector_process(*flags_for(pooler))) for _ in range(2)]
        load = stack.enter_context(loaded(*(process.url for process in processes)))
        time.sleep(SECONDS)
        load.pause()
    print(f"{len(load.acknowledged)} events in {SECONDS:.0f} s")
    assert (load.refused, load.ambiguous, load.wrong) == (0, 0, [])
    assert stored_numbers(host) == sorted(load.acknowledged)


def test_a_burst_through_a_pooler_is_stored_once(host: CollectorProcess, pooler: Pooler, tmp_path: Path) -> None:
    with collector_process(*flags_for(pooler)) as process:
        client = Client(Config(url=process.url, spool_dir=str(tmp_path)))
        began_s = time.monotonic()
        for number in range(BURST):
            client.log("burst", "info", "m", {"number": number})
        while not client.flush(PATIENCE_S):  # ended by the time-out of the test
            continue
        print(f"{BURST} events in {time.monotonic() - began_s:.1f} s")
        client.close()
    assert asyncio.run(count_foreign(host.database_url)) == BURST
    ((distinct,),) = asyncio.run(
        sql(
            host.database_url, "SELECT count(DISTINCT details->>'number') FROM system_events WHERE event_type = 'burst'"
        )
    )
    assert distinct == BURST
