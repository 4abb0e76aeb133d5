"""Migrations and partitions: up, down, by hand, by two at once; the original's columns; a place for every day."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from alembic.script import ScriptDirectory

from brain_collector import doctor
from brain_collector.settings import Settings
from brain_collector.storage import migrate, partitions, schema_version
from tests.conftest import Serve
from tests.support.collector import connected, new_database, sql
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S

TABLES = {"alembic_version", "api_keys", "batches", "epochs", "event_counts", "event_deltas", "jobs", "system_events"}
TABLES |= {"hash_keys", "rejected_lines", "sessions", "search_blocks", "search_progress", "system_events_before"}
INSERT = "INSERT INTO system_events (event_type, severity, message, timestamp) VALUES ('t', 'info', 'm', $1)"


@pytest.fixture
def bare(engines: SuiteEngines) -> Iterator[str]:
    """A database without a schema."""
    with new_database(engines) as dsn:
        yield dsn


@pytest.fixture
def migrated(engines: SuiteEngines) -> Iterator[str]:
    """A database with the schema, but without partitions."""
    with new_database(engines, template="migrated") as dsn:
        yield dsn


async def tables(dsn: str) -> set[str]:
    rows = await sql(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows}


async def catalogue(dsn: str) -> list[list[tuple[object, ...]]]:
    """Return every column, index and sequence there is."""
    return [
        await sql(
            dsn,
            "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
        ),
        await sql(dsn, "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 2"),
        await sql(dsn, "SELECT sequencename, increment_by FROM pg_sequences ORDER BY 1"),
        await sql(dsn, "SELECT name FROM jobs ORDER BY 1"),
    ]


# -- migrations


def test_a_database_is_brought_up_from_nothing_and_again_without_a_change(bare: str) -> None:
    assert asyncio.run(migrate.current(bare)) is None
    migrate.upgrade(bare)
    first = asyncio.run(catalogue(bare))
    migrate.upgrade(bare)

    assert asyncio.run(tables(bare)) == TABLES
    assert asyncio.run(catalogue(bare)) == first
    assert asyncio.run(migrate.current(bare)) == schema_version.HEAD


def test_a_database_comes_down_to_nothing_and_up_again(bare: str) -> None:
    migrate.upgrade(bare)
    first = asyncio.run(catalogue(bare))
    asyncio.run(ensured(bare))
    migrate.downgrade(bare, "base")

    assert asyncio.run(tables(bare)) == {"alembic_version"}
    assert asyncio.run(sql(bare, "SELECT sequencename FROM pg_sequences")) == []
    assert asyncio.run(migrate.current(bare)) is None
    migrate.upgrade(bare)
    assert asyncio.run(catalogue(bare)) == first


def test_the_printed_sql_does_the_same_by_hand(bare: str, migrated: str) -> None:
    printed = io.StringIO()
    migrate.sql(printed)

    async def run() -> None:
        async with connected(bare) as connection:
            await connection.execute(printed.getvalue())

    asyncio.run(run())
    assert asyncio.run(catalogue(bare)) == asyncio.run(catalogue(migrated))
    assert asyncio.run(migrate.current(bare)) == schema_version.HEAD


@pytest.mark.anyio
async def test_a_database_that_is_not_utf8_is_refused_with_the_remedy(
    engines: SuiteEngines, settings: Settings, serve: Serve
) -> None:
    name = f"latin_{uuid4().hex}"
    dsn, printed = engines.database_url(name), io.StringIO()
    await sql(engines.maintenance_url, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(migrate.MigrationError, match=r"encoding of the database is LATIN1.* ENCODING 'UTF8'"):
            await asyncio.to_thread(migrate.upgrade, dsn)
        assert await migrate.current(dsn) is None
        migrate.sql(printed)  # as an earlier release would have done
        async with connected(dsn) as connection:
            await connection.execute(printed.getvalue())
        other = msgspec.structs.replace(settings, database_url=dsn)
        async with serve(other) as client:
            readiness = await client.get("/readyz")
        checks = {check.name: check async for check in doctor.examine(other, doctor.Bounds())}
    finally:
        await sql(engines.maintenance_url, f"DROP DATABASE {name} WITH (FORCE)")

    (reason,) = readiness.json()["reasons"]
    assert readiness.status_code == 503
    assert reason == f"{checks['schema'].detail}: {checks['schema'].advice}"
    assert checks["schema"].advice == "create another one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"


def test_two_upgrades_at_once_take_turns(bare: str) -> None:
    command = [sys.executable, "-m", "brain_collector", "migrate", "--database-url", bare]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert said == [f"the schema is at {schema_version.HEAD} (newest: {schema_version.HEAD})\n"] * 2
    assert asyncio.run(tables(bare)) == TABLES


def test_there_is_one_head_and_it_can_be_reached(bare: str) -> None:
    migrate.upgrade(bare, schema_version.HEAD)

    scripts = ScriptDirectory(str(schema_version.MIGRATIONS))
    assert {script.revision for script in scripts.walk_revisions()} == schema_version.KNOWN
    assert scripts.get_heads() == [schema_version.HEAD]
    assert asyncio.run(migrate.current(bare)) == schema_version.HEAD


def test_the_columns_of_the_original_are_there(database_url: str) -> None:
    rows = asyncio.run(
        sql(
            database_url,
            "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_name = 'system_events' ORDER BY ordinal_position",
        )
    )

    assert rows == [
        ("id", "bigint", None, "NO", "nextval('system_events_id_seq'::regclass)"),
        ("event_type", "character varying", 50, "NO", None),
        ("severity", "character varying", 20, "NO", None),
        ("message", "text", None, "NO", None),
        ("details", "jsonb", None, "YES", None),
        ("source", "character varying", 100, "YES", None),
        ("timestamp", "timestamp with time zone", None, "NO", "now()"),
        ("created_at", "timestamp with time zone", None, "NO", "now()"),
    ]


def test_the_indexes_of_the_original_lead_with_its_columns(database_url: str) -> None:
    rows = asyncio.run(
        sql(
            database_url,
            "SELECT index.relname::text, attname::text FROM pg_index "
            "JOIN pg_class index ON index.oid = indexrelid "
            "JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] "
            "WHERE indrelid = 'system_events'::regclass AND NOT indisprimary ORDER BY 1",
        )
    )

    assert rows == [
        ("idx_system_events_severity", "severity"),
        ("idx_system_events_timestamp", "timestamp"),
        ("idx_system_events_type", "event_type"),
    ]


# -- partitions


async def ensured(dsn: str, days_ahead: int = 7) -> list[str]:
    async with connected(dsn) as connection:
        return await partitions.ensure(connection, Settings(days_ahead=days_ahead))


async def days(dsn: str) -> list[tuple[datetime, datetime]]:
    """Return the range of every day partition, in order."""
    rows = await sql(
        dsn,
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class "
        "WHERE relispartition AND relkind = 'r' AND relname LIKE 'system_events_p%' ORDER BY relname",
    )
    ranges = [bounds.split("'")[1::2] for (bounds,) in rows]
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in ranges]


@pytest.mark.anyio
async def test_days_are_made_ahead_without_a_gap_and_only_once(migrated: str) -> None:
    made = await ensured(migrated)
    again = await ensured(migrated)

    found = await days(migrated)
    assert len(made) == len(found)
    assert again == []
    assert all(end - start == timedelta(days=1) for start, end in found)
    assert all(one[1] == following[0] for one, following in pairwise(found))
    (before,) = await sql(
        migrated, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'system_events_before'"
    )
    assert before[0] == f"FOR VALUES FROM (MINVALUE) TO ('{found[0][0].isoformat(' ').removesuffix(':00')}')"
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert found[0][0] <= today - timedelta(days=1)
    assert found[-1][0] >= today + timedelta(days=7)


@pytest.mark.anyio
async def test_more_days_are_added_to_those_that_are_there(migrated: str) -> None:
    first = await ensured(migrated, days_ahead=2)
    more = await ensured(migrated, days_ahead=4)

    assert len(more) == 2
    assert not set(first) & set(more)
    found = await days(migrated)
    assert all(one[1] == following[0] for one, following in pairwise(found))


@pytest.mark.anyio
async def test_there_is_a_place_for_the_distant_past_and_every_day_of_the_next_week(migrated: str) -> None:
    await ensured(migrated)
    now = datetime.now(UTC)
    moments = [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)]
    moments += [now + timedelta(days=n) for n in range(-3, 8)]
    async with connected(migrated) as connection:
        await connection.executemany(INSERT, [(moment,) for moment in moments])
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(INSERT, now + timedelta(days=10))

    rows = await sql(migrated, "SELECT tableoid::regclass::text, count(*) FROM system_events GROUP BY 1")
    homes = dict(rows)
    assert homes.pop("system_events_before") >= 3
    assert set(homes.values()) == {1}


@pytest.mark.anyio
async def test_a_partition_is_named_after_its_day_and_has_every_index(migrated: str) -> None:
    made = await ensured(migrated)

    starts = [start.date() for start, _ in await days(migrated)]
    assert [date.fromisoformat(name.removeprefix("system_events_p")) for name in made] == starts
    rows = await sql(
        migrated,
        "SELECT count(*), (SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid "
        "WHERE indrelid = $1::text::regclass) FROM pg_index WHERE indrelid = 'system_events'::regclass",
        made[0],
    )
    assert rows == [(4, 4)]


@pytest.mark.anyio
async def test_two_collectors_that_make_days_at_once_take_turns(migrated: str) -> None:
    made = await asyncio.gather(*(ensured(migrated) for _ in range(4)))

    assert sorted(len(names) > 0 for names in made) == [False, False, False, True]
    assert len(await days(migrated)) == max(map(len, made))


@pytest.mark.anyio
async def test_an_open_read_and_an_open_write_do_not_hold_up_new_days(migrated: str) -> None:
    await ensured(migrated, days_ahead=2)
    async with (
        connected(migrated) as reader,
        connected(migrated) as writer,
        reader.transaction(),
        writer.transaction(),
    ):
        await reader.fetch("SELECT * FROM system_events")
        await writer.execute(INSERT, datetime.now(UTC))

        assert len(await ensured(migrated, days_ahead=3)) == 1


def test_the_settings_keep_at_least_two_days_ahead() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"days_ahead": 1}, Settings)
