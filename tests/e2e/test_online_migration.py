"""Migrations beside live traffic, and collectors that are one release ahead of their schema, or one behind."""

import asyncio
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from brain_collector.settings import Settings
from brain_collector.storage import migrate, partitions, schema_version
from tests.e2e.test_rolling import Load, external, is_ready
from tests.support.collector import connected, event, sql
from tests.support.engines import SuiteEngines
from tests.support.next_release import NextRelease
from tests.support.waiting import PATIENCE_S, wait_until

ATTACHED = """
    SELECT indisvalid, (SELECT count(*) FROM pg_inherits WHERE inhparent = indexrelid),
        (SELECT count(*) FROM pg_inherits WHERE inhparent = 'system_events'::regclass)
    FROM pg_index WHERE indexrelid = 'idx_tags'::regclass
"""


@pytest.fixture
def following(tmp_path: Path) -> NextRelease:
    return NextRelease(tmp_path)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@contextmanager
def transaction_that_has_read(dsn: str) -> Iterator[threading.Event]:
    """Hold a transaction open that has read every partition, until the event is set or the block ends."""
    reads, end = threading.Event(), threading.Event()

    async def hold() -> None:
        async with connected(dsn) as connection, connection.transaction():
            await connection.fetch("SELECT count(*) FROM system_events")
            reads.set()
            while not end.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=asyncio.run, args=(hold(),))
    thread.start()
    assert reads.wait(PATIENCE_S)
    try:
        yield end
    finally:
        end.set()
        thread.join()


def test_a_migration_beside_live_ingest_loses_nothing_and_fails_no_request(
    engines: SuiteEngines, database_url: str, following: NextRelease
) -> None:
    with ExitStack() as stack:
        collectors = [external(stack, engines, database_url) for _ in range(2)]
        load = Load([collector.url for collector in collectors])
        with load.running():
            wait_until(lambda: len(load.acknowledged) > 5_000, "the load is on")
            outcome = ended(following.migrate(database_url))
            after = len(load.acknowledged)
            wait_until(lambda: len(load.acknowledged) > after + 5_000, "the load continues after the migration")
        assert all(map(is_ready, collectors)), "a collector is ready on the schema of the next release"
        rows = asyncio.run(
            sql(database_url, "SELECT message, count(*) FROM system_events WHERE event_type = 'test' GROUP BY 1")
        )

    assert outcome[:2] == (0, "the schema is at 9999 (newest: 9999)\n"), outcome
    assert load.failed == []
    assert Counter(load.acknowledged) == Counter(dict(rows))
    ((valid, attached, partitions_of),) = asyncio.run(sql(database_url, ATTACHED))
    assert (valid, attached) == (True, partitions_of)


def test_an_index_made_online_waits_for_old_transactions_and_covers_days_that_are_made_meanwhile(
    database_url: str, following: NextRelease
) -> None:
    """CREATE INDEX CONCURRENTLY waits for the transaction; a writer and a new day do not wait for either."""

    async def a_day_and_a_row() -> None:
        async with connected(database_url) as connection:
            await connection.execute("SET lock_timeout = '10s'")
            made = await partitions.ensure(connection, Settings(days_ahead=9))
            assert made
            await connection.execute(
                "INSERT INTO system_events (event_type, severity, message) VALUES ('t', 'info', 'm')"
            )

    def builds() -> bool:
        return asyncio.run(sql(database_url, "SELECT FROM pg_stat_progress_create_index")) != []

    async def days() -> None:
        async with connected(database_url) as connection:
            await partitions.ensure(connection, Settings())

    asyncio.run(days())
    assert ended(following.migrate(database_url, "upgrade", NextRelease.COLUMN))[0] == 0
    with transaction_that_has_read(database_url) as end:
        migrating = following.migrate(database_url, "--migrate-lock-s", "0.2", "--migrate-attempts", "1")
        wait_until(builds, "the first partition's index is being built")
        asyncio.run(a_day_and_a_row())
        asyncio.run(asyncio.sleep(0.5))  # longer than the migration may wait for a lock
        assert migrating.poll() is None
        end.set()
        outcome = ended(migrating)

    assert outcome[0] == 0, outcome
    ((valid, attached, partitions_of),) = asyncio.run(sql(database_url, ATTACHED))
    assert (valid, attached) == (True, partitions_of)


def test_an_index_that_broke_off_halfway_is_finished_by_the_next_run(database_url: str, following: NextRelease) -> None:
    async def break_off() -> None:
        async with connected(database_url) as connection:
            await partitions.ensure(connection, Settings())
            await connection.execute('CREATE INDEX idx_tags ON ONLY system_events (source, "timestamp", id)')
            ((first,), (second,)) = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE tablename LIKE 'system_events_p%' ORDER BY 1 LIMIT 2"
            )
            columns = '(source, "timestamp", id)'
            for name in (first, second):
                await connection.execute(f"CREATE INDEX CONCURRENTLY idx_tags_{name} ON {name} {columns}")
            await connection.execute(f"ALTER INDEX idx_tags ATTACH PARTITION idx_tags_{first}")
            await connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass", f"idx_tags_{second}"
            )

    asyncio.run(break_off())
    outcome = ended(following.migrate(database_url))

    assert outcome[0] == 0, outcome
    ((valid, attached, partitions_of),) = asyncio.run(sql(database_url, ATTACHED))
    assert (valid, attached) == (True, partitions_of)
    assert asyncio.run(sql(database_url, "SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == [(0,)]


def test_a_migration_that_gets_no_lock_steps_back_and_is_tried_until_it_does(
    database_url: str, following: NextRelease
) -> None:
    with transaction_that_has_read(database_url) as end:
        migrating = following.migrate(database_url, "--migrate-lock-s", "0.1")
        assert migrating.stderr is not None
        tried_again = migrating.stderr.readline()
        end.set()
        code, _out, _err = ended(migrating)

    assert "could not acquire the lock; attempt 2 of 30" in tried_again
    assert code == 0
    assert asyncio.run(migrate.current(database_url)) == NextRelease.INDEX


def test_a_migration_that_never_gets_its_lock_ends_and_says_what_to_look_for(
    database_url: str, following: NextRelease
) -> None:
    with transaction_that_has_read(database_url):
        code, _out, err = ended(following.migrate(database_url, "--migrate-lock-s", "0.05", "--migrate-attempts", "2"))

    assert code == 1
    assert "could not acquire the lock in 2 attempts of 0.05 s" in err.splitlines()[-1]
    assert "pg_stat_activity" in err
    assert "Traceback" not in err
    assert asyncio.run(migrate.current(database_url)) == schema_version.HEAD


def test_a_second_migrate_waits_its_turn_and_says_for_whom(database_url: str, following: NextRelease) -> None:
    """The first builds an index CONCURRENTLY, which waits for every snapshot: also one of a migrate that waits."""
    assert ended(following.migrate(database_url, "upgrade", NextRelease.COLUMN))[0] == 0
    with transaction_that_has_read(database_url) as end:
        first = following.migrate(database_url)
        wait_until(
            lambda: asyncio.run(sql(database_url, "SELECT FROM pg_stat_progress_create_index")) != [],
            "the first is at work",
        )
        second = following.migrate(database_url)
        assert second.stderr is not None
        said = second.stderr.readline()
        end.set()
        outcomes = [ended(first), ended(second)]

    assert re.search(r"another migration is running \(backend \d+\)", said)
    assert [outcome[0] for outcome in outcomes] == [0, 0], outcomes


def test_a_collector_is_not_ready_on_the_schema_of_the_release_before_and_is_once_it_is_migrated(
    engines: SuiteEngines, database_url: str, following: NextRelease
) -> None:
    """What the old schema can hold is stored meanwhile: this next release needs nothing of its own revisions yet."""
    with ExitStack() as stack:
        collector = external(stack, engines, database_url, **following.environ)
        unready = httpx.get(f"{collector.url}/readyz", timeout=PATIENCE_S)
        stored = httpx.post(f"{collector.url}/api/events", json=event(), timeout=PATIENCE_S)
        assert ended(following.migrate(database_url))[0] == 0
        wait_until(lambda: is_ready(collector), "it is ready by itself")

    assert unready.status_code == 503
    assert unready.json()["reasons"] == [
        f"the database is at revision {schema_version.HEAD}, this collector needs 9999: run `brain-events migrate`"
    ]
    assert stored.status_code == 201


def test_a_schema_goes_back_one_release_beside_a_collector_of_the_one_before(
    engines: SuiteEngines, database_url: str, following: NextRelease
) -> None:
    assert ended(following.migrate(database_url))[0] == 0
    with ExitStack() as stack:
        collector = external(stack, engines, database_url)
        assert is_ready(collector)
        assert ended(following.migrate(database_url, "downgrade", schema_version.HEAD, "--yes"))[0] == 0
        assert httpx.post(f"{collector.url}/api/events", json=event(), timeout=PATIENCE_S).status_code == 201
        assert is_ready(collector)
    with pytest.raises(asyncpg.UndefinedColumnError):
        asyncio.run(sql(database_url, "SELECT tags FROM system_events"))
