"""A collector behind PgBouncer: it works if prepared statements are kept, and says in one sentence if they are not."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from brain_collector import doctor
from brain_collector.settings import Settings
from brain_collector.storage import migrate, schema_version
from brain_collector.storage.connection import connect
from brain_collector.storage.pooler import PoolerUnsupported
from tests.conftest import Serve
from tests.support import pgbouncer
from tests.support.collector import connected, count_foreign, create, event, ndjson, post_batch, sql, started
from tests.support.pgbouncer import Pooler, pooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

NOT_KEPT = "the connection pooler loses prepared statements: use PgBouncer 1.21 or later"
SESSION_NEEDED = "set BRAIN_COLLECTOR_DIRECT_URL (--direct-url)"
SMOKE = Path(__file__).parents[2] / "smoke" / "smoke.sh"
LEFT = ("default_transaction_read_only", "lock_timeout", "statement_timeout", "jit", "synchronous_commit")
"""Settings that one client could leave on a server connection for the next one."""


@pytest.fixture
def pooler(settings: Settings) -> Iterator[Pooler]:
    """PgBouncer in transaction mode, with its defaults, in front of the test's database."""
    with pooled(settings.dsn, pgbouncer.program()) as found:
        yield found


def through(pooler: Pooler, settings: Settings, **changes: object) -> Settings:
    return msgspec.structs.replace(settings, database_url=pooler.url, **changes)


async def checks_of(settings: Settings) -> dict[str, doctor.Check]:
    return {check.name: check async for check in doctor.examine(settings, doctor.Bounds())}


async def defaults_of(dsn: str) -> set[tuple[str, str]]:
    rows = await sql(dsn, "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(LEFT))
    return {(name, setting) for name, setting in rows}


async def every_kind_of_request(client: httpx.AsyncClient) -> None:
    stored = await create(client)
    answers = [
        await post_batch(client, ndjson(*[event()] * 10)),
        await post_batch(client, ndjson(*[event()] * 1_000)),
        await client.put(f"/api/events/{stored['id']}", json=event(severity="error", message="changed")),
        await client.get("/api/events?q=changed&severity=error"),
        await client.get("/api/events/stats"),
        await client.get("/api/events/histogram"),
        await client.get("/api/events/export?limit=10"),
        await client.delete(f"/api/events/{stored['id']}"),
    ]
    assert [answer.is_success for answer in answers] == [True] * len(answers), [answer.text for answer in answers]


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_collector_works_behind_a_pooler_and_leaves_no_setting_behind(
    settings: Settings, serve: Serve, mode: str
) -> None:
    with pooled(settings.dsn, pgbouncer.program(), pool_mode=mode, default_pool_size="20") as pooler:
        async with serve(through(pooler, settings), max_exports=5) as client:
            for _ in range(2):
                await asyncio.gather(*(every_kind_of_request(client) for _ in range(5)))
            assert (await client.get("/readyz")).status_code == 200

        assert await pooler.settings_left(*LEFT) == await defaults_of(settings.dsn)
    assert await count_foreign(settings.dsn) == 10 * 1_010


async def test_the_smoke_test_passes_behind_a_pooler(pooler: Pooler, settings: Settings, serve: Serve) -> None:
    async with serve(through(pooler, settings)) as client:
        running = await asyncio.create_subprocess_exec(SMOKE, str(client.base_url), stdout=subprocess.PIPE)
        out, _ = await running.communicate()

    assert out.decode().splitlines()[-1] == "12 passed", out.decode()


async def test_missing_time_outs_are_told_once_and_those_of_the_role_are_used(
    pooler: Pooler, settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(through(pooler, settings), maintain_interval_s=0.01):
        await started(settings.dsn)

    (warning,) = [record.getMessage() for record in caplog.records if "drops the time-outs" in record.getMessage()]
    statements = warning.partition(": run ")[2].partition(", then RECONNECT")[0]
    assert statements.count("ALTER ROLE brain SET ") == 3
    caplog.clear()
    both = through(pooler, settings, direct_url=settings.database_url)
    assert (await checks_of(both))["session"].advice == f"run {statements}; then RECONNECT on the pooler"
    ((database,),) = await sql(settings.dsn, "SELECT current_database()")
    async with connected(settings.dsn) as connection:
        await connection.execute(statements.replace(" SET ", f" IN DATABASE {database} SET "))
    await pooler.console("RECONNECT")
    async with serve(through(pooler, settings)):
        pass
    assert "drops the time-outs" not in caplog.text
    session = (await checks_of(both))["session"]
    assert session.status == "ok"
    assert session.detail.startswith("a collector connects through a connection pooler, with lock_timeout ")


async def test_doctor_and_migrate_refuse_a_pooler_and_leave_nothing_on_its_connections(
    pooler: Pooler, settings: Settings
) -> None:
    before = await pooler.settings_left(*LEFT)
    with pytest.raises(migrate.MigrationError, match=re.escape(SESSION_NEEDED)):
        await asyncio.to_thread(migrate.upgrade, pooler.url)
    with pytest.raises(migrate.MigrationError, match=re.escape(SESSION_NEEDED)):
        await asyncio.to_thread(migrate.downgrade, pooler.url, "base")
    with pytest.raises(migrate.MigrationError, match=re.escape(SESSION_NEEDED)):
        await migrate.current(pooler.url)
    checks = await checks_of(through(pooler, settings))
    assert list(checks) == ["pooler", "cache"]
    assert checks["pooler"].status == "problem"
    assert SESSION_NEEDED in checks["pooler"].advice

    assert await pooler.settings_left(*LEFT) == before == await defaults_of(settings.dsn)
    assert await migrate.current(settings.dsn) == schema_version.HEAD


async def test_with_the_direct_url_doctor_and_migrate_work_and_leave_nothing(
    pooler: Pooler, settings: Settings
) -> None:
    command = [sys.executable, "-m", "brain_collector", "migrate", "--database-url", pooler.url]
    running = await asyncio.create_subprocess_exec(*command, "--direct-url", settings.dsn, stdout=subprocess.PIPE)
    out, _ = await running.communicate()
    newest = schema_version.HEAD
    assert (running.returncode, out) == (0, f"the schema is at {newest} (newest: {newest})\n".encode())
    checks = await checks_of(through(pooler, settings, direct_url=settings.dsn))

    assert checks["session"].status == "warning"
    assert checks["recount"].status == "ok", checks
    assert await pooler.settings_left(*LEFT) == await defaults_of(settings.dsn)


async def test_a_direct_url_of_another_database_is_told(pooler: Pooler, settings: Settings) -> None:
    elsewhere = settings.dsn.replace(settings.dsn.partition("@/")[2].partition("?")[0], "migrated")
    check = (await checks_of(through(pooler, settings, direct_url=elsewhere)))["session"]

    assert (check.status, check.detail) == ("problem", "--direct-url and --database-url lead to different databases")


@pytest.mark.parametrize("old", [True, False])
async def test_a_pooler_that_loses_prepared_statements_is_refused_in_one_sentence(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture, *, old: bool
) -> None:
    path = pgbouncer.program(tracks_statements=not old)
    with pooled(settings.dsn, path, **({} if old else {"max_prepared_statements": "0"})) as pooler:
        async with serve(through(pooler, settings), api_key="s3cret-key") as client:
            client.headers["Authorization"] = "Bearer s3cret-key"  # others get no reasons before API keys are read

            async def is_told() -> bool:
                return NOT_KEPT in (await client.get("/readyz")).text

            await eventually(is_told, "/readyz names the pooler")
            readiness = await client.get("/readyz")
            assert (readiness.status_code, len(readiness.json()["reasons"])) == (503, 1)
            answer = await client.post("/api/events", json=event())
            assert answer.status_code == 503
        assert NOT_KEPT in caplog.text
        check = (await checks_of(through(pooler, settings, direct_url=settings.dsn)))["session"]
        assert (check.status, NOT_KEPT in check.detail) == ("problem", True)
        async with pooler.all_connections() as connections:
            left = [await connection.fetch("SELECT name FROM pg_prepared_statements") for connection in connections]
            assert {row["name"] for rows in left for row in rows if row["name"]} == set()
    assert await count_foreign(settings.dsn) == 0


@pytest.mark.parametrize("in_turn", ["0", "1"])
async def test_a_pooler_that_loses_prepared_statements_is_refused_by_connections_opened_at_once(
    settings: Settings, in_turn: str
) -> None:
    path = pgbouncer.program(tracks_statements=False)
    with pooled(settings.dsn, path, server_round_robin=in_turn) as pooler:
        behind = through(pooler, settings)
        for n in range(1, 13):
            opened = (connect(behind, statement_timeout_s=10) for _ in range(n))
            outcomes = await asyncio.gather(*opened, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [PoolerUnsupported] * n


async def test_in_session_mode_an_older_pooler_works(settings: Settings, serve: Serve) -> None:
    path = pgbouncer.program(tracks_statements=False)
    with pooled(settings.dsn, path, pool_mode="session", default_pool_size="20") as pooler:
        async with serve(through(pooler, settings), max_exports=5) as client:
            await asyncio.gather(*(every_kind_of_request(client) for _ in range(5)))
            assert (await client.get("/readyz")).status_code == 200
    assert await count_foreign(settings.dsn) == 5 * 1_010


async def test_a_pooler_that_begins_to_work_is_used_without_a_restart(settings: Settings, serve: Serve) -> None:
    with pooled(settings.dsn, pgbouncer.program(), max_prepared_statements="0") as pooler:
        async with serve(through(pooler, settings)) as client:
            assert (await client.get("/readyz")).status_code == 503
            await pooler.console("SET max_prepared_statements = 100")

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(is_ready, "the collector is ready")
            await create(client)


async def test_a_pooler_that_leaves_session_mode_is_refused_once_a_connection_was_lost(settings: Settings) -> None:
    path = pgbouncer.program(tracks_statements=False)
    with pooled(settings.dsn, path, pool_mode="session", default_pool_size="20") as pooler:
        behind = through(pooler, settings)
        connections = [await connect(behind, statement_timeout_s=10) for _ in range(2)]
        await pooler.console("SET pool_mode = transaction")
        connections[0].terminate()
        await asyncio.sleep(0)

        with pytest.raises(PoolerUnsupported):
            await connect(behind, statement_timeout_s=10)
        connections[1].terminate()


async def test_a_pooler_that_leaves_session_mode_is_refused_by_a_collector_that_uses_it(
    settings: Settings, serve: Serve
) -> None:
    path = pgbouncer.program(tracks_statements=False)
    with pooled(settings.dsn, path, pool_mode="session", default_pool_size="20") as pooler:
        async with serve(through(pooler, settings)) as client:
            await every_kind_of_request(client)
            await pooler.console("SET pool_mode = transaction")

            async def is_told() -> bool:
                await asyncio.gather(*(client.get(f"/api/events?source={n}") for n in range(5)))
                return NOT_KEPT in (await client.get("/readyz")).text

            async def is_ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(is_told, "/readyz names the pooler")
            await pooler.console("SET pool_mode = session")
            await eventually(is_ready, "the collector is ready again")
            await every_kind_of_request(client)


async def test_statements_of_two_processes_never_have_the_same_name(settings: Settings) -> None:
    script = (
        "import asyncio, sys; from brain_collector.storage.hosts import connect\n"
        "async def name(): return (await (await connect(sys.argv[1], {}, timeout_s=60)).prepare('SELECT 1')).get_name()"
        "\nprint(asyncio.run(name()))"
    )
    command = (sys.executable, "-c", script, settings.dsn)
    running = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)]
    names = {(await each.communicate())[0] for each in running}

    assert len(names - {b""}) == 2


async def test_a_pooler_that_refuses_transactions_is_refused_in_one_sentence(settings: Settings, serve: Serve) -> None:
    with pooled(settings.dsn, pgbouncer.program(), pool_mode="statement") as pooler:
        async with serve(through(pooler, settings), api_key="s3cret-key") as client:
            client.headers["Authorization"] = "Bearer s3cret-key"  # others get no reasons before API keys are read
            readiness = await client.get("/readyz")

    assert readiness.status_code == 503
    (reason,) = readiness.json()["reasons"]
    assert "the connection pooler refuses transactions: set pool_mode = transaction or session" in reason


@pytest.mark.parametrize("n", [1, 1_000])
async def test_behind_a_pooler_no_batch_is_written_before_the_epoch_of_its_server_begins(
    pooler: Pooler, settings: Settings, serve: Serve, n: int
) -> None:
    before = "SELECT count(*) FROM batches WHERE xid::text::bigint < (SELECT max(first_xid) FROM epochs)"
    async with serve(through(pooler, settings, writers=1)) as client:
        await create(client)  # the rest of its block of ids is left for the next events
        await sql(
            settings.dsn, "UPDATE epochs SET started_at = started_at - interval '1 second'"
        )  # as if the pooler led to another server
        ((stored,),) = await sql(settings.dsn, "SELECT count(*) FROM batches")
        answer = await post_batch(client, ndjson(*[event()] * n))
        assert answer.status_code == 200, answer.text

    assert await sql(settings.dsn, "SELECT count(*) FROM epochs") == [(2,)]
    assert await sql(settings.dsn, before) == [(stored,)]
