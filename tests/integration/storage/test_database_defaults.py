"""A collector works with whatever defaults its database, its role or a pooler has, also odd ones."""

import msgspec
import pytest

from brain_collector import doctor
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support import pgbouncer
from tests.support.collector import connected, count_foreign, create, event, ndjson, post_batch, sql, started
from tests.support.pgbouncer import pooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PRINTING = {"IntervalStyle": "sql_standard", "bytea_output": "escape", "extra_float_digits": "-15"}
DEFAULTS = [
    PRINTING | {"DateStyle": "German"},
    PRINTING | {"DateStyle": "SQL, DMY", "TimeZone": "Pacific/Kiritimati"},
    {"statement_timeout": "1s", "idle_session_timeout": "100ms", "transaction_timeout": "1s"},
    {"default_transaction_isolation": "repeatable read"},
    {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
]


async def set_defaults(dsn: str, defaults: dict[str, str]) -> None:
    async with connected(dsn) as connection:
        database = await connection.fetchval("SELECT current_database()")
        known = await connection.fetch("SELECT name FROM pg_settings WHERE name = ANY($1)", list(defaults))
        for name in {row["name"] for row in known}:
            await connection.execute(f"ALTER DATABASE {database} SET {name} = '{defaults[name]}'")


async def use_everything(settings: Settings, serve: Serve) -> None:
    async with serve(settings, maintain_interval_s=0.01, fold_interval_s=0.01) as client:
        await started(settings.dsn)
        first = await create(client, details={"number": 0.1})
        assert (await post_batch(client, ndjson(*[event()] * 1_000))).status_code == 200
        answers = [
            await client.put(f"/api/events/{first['id']}", json={"message": "changed"}),
            await client.get("/api/events?q=changed&details.number=0.1"),
            await client.get("/api/events/stats"),
            await client.get("/api/events/export?limit=10"),
            await client.get("/readyz"),
        ]
        assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text for answer in answers]
        assert [found["timestamp"] for found in answers[1].json()] == [first["timestamp"]]

        async def has_maintained_again() -> bool:
            return await sql(settings.dsn, "SELECT FROM jobs WHERE name = 'maintain' AND done_at > $1", done) != []

        ((done,),) = await sql(settings.dsn, "SELECT done_at FROM jobs WHERE name = 'maintain'")
        await eventually(has_maintained_again, "maintenance runs again")
        assert (await client.get("/health")).json()["failing_jobs"] == []


@pytest.mark.parametrize("defaults", DEFAULTS, ids=str)
async def test_a_collector_and_its_doctor_work_with_odd_defaults_of_the_database(
    settings: Settings, serve: Serve, defaults: dict[str, str]
) -> None:
    await set_defaults(settings.dsn, defaults)
    await use_everything(settings, serve)

    checks = {check.name: check async for check in doctor.examine(settings, doctor.Bounds())}
    assert {name for name, check in checks.items() if check.status == "problem"} == {"fsync", "full_page_writes"}
    assert await count_foreign(settings.dsn) == 1_001


@pytest.mark.parametrize("old", [True, False])
async def test_a_pooler_passes_on_how_a_collector_wants_dates_printed(
    settings: Settings, serve: Serve, *, old: bool
) -> None:
    await set_defaults(settings.dsn, PRINTING | {"DateStyle": "German"})
    path = pgbouncer.program(tracks_statements=not old)
    mode = {"pool_mode": "session", "default_pool_size": "20"} if old else {}
    with pooled(settings.dsn, path, **mode) as pooler:
        await use_everything(msgspec.structs.replace(settings, database_url=pooler.url), serve)
