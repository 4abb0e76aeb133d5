"""Health: the responses of the probes, the own events, and a start without a database."""

from pathlib import Path

import httpx
import pytest

from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH
from tests.conftest import Serve
from tests.support.collector import (
    collector_process,
    count_foreign,
    create,
    event,
    ndjson,
    new_database,
    own_events,
    post_batch,
    sql,
)
from tests.support.engines import SuiteEngines, scratch_dir
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

KEY = "s3cret-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
"""Only a known caller is shown reasons while the API keys cannot be read."""
NO_REDIS = "unix:///nowhere/redis.sock"


async def test_a_collector_that_works_says_so_everywhere(collector: httpx.AsyncClient) -> None:
    answers = {path: await collector.get(path) for path in ("/livez", "/readyz", "/health", "/health/db")}

    assert {answer.status_code for answer in answers.values()} == {200}
    assert answers["/livez"].json() == {"status": "alive"}
    assert answers["/readyz"].json() == {"status": "ready", "reasons": []}
    health = answers["/health"].json()
    assert health.pop("version")
    assert health.pop("unindexable_events") in {None, 0}  # null before the first survey
    assert health == {"status": "ok", "database": "up", "cache": "up", "engines": [], "failing_jobs": []}
    database = answers["/health/db"].json()
    assert database.pop("latency_ms") > 0
    assert database == {"status": "ok"}


async def test_a_probe_can_be_asked_by_head(collector: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/health", "/health/db"):
        answer = await collector.head(path)

        assert (answer.status_code, answer.content) == (200, b"")


# -- its own events


async def test_start_and_graceful_stop_are_events(settings: Settings, serve: Serve) -> None:
    async with serve(settings):
        pass

    rows = await sql(
        settings.dsn, "SELECT event_type, severity, source, details->>'version' FROM system_events ORDER BY timestamp"
    )
    assert [row[:3] for row in rows] == [
        ("system_startup", "info", "collector"),
        ("system_shutdown", "info", "collector"),
    ]
    assert rows[0][3]


async def test_repeated_checks_become_one_event_in_an_interval(settings: Settings, serve: Serve) -> None:
    async with serve(settings, health_interval_s=3600.0) as client:
        for path in ("/health", "/health/db", "/livez", "/readyz") * 5:
            await client.get(path)

    assert await own_events(settings.dsn, "health_check") == [{"count": 1, "status": "ok"}]
    (database,) = await own_events(settings.dsn, "db_health_check")
    assert database.pop("latency_ms") > 0
    assert database == {"count": 1}
    kinds = await sql(settings.dsn, "SELECT DISTINCT event_type FROM system_events ORDER BY 1")
    assert [kind for (kind,) in kinds] == ["db_health_check", "health_check", "system_shutdown", "system_startup"]


async def test_checks_that_became_no_event_are_counted_in_the_next(settings: Settings, serve: Serve) -> None:
    calls = 0
    counts: list[int] = []
    async with serve(settings, health_interval_s=0.5) as client:

        async def counted() -> bool:
            nonlocal calls
            calls += 1
            await client.get("/health")
            counts[:] = [details["count"] for details in await own_events(settings.dsn, "health_check")]
            return sum(counts) >= 6

        await eventually(counted, "six checks are counted")

    assert counts[0] == 1
    assert max(counts) > 1
    assert sum(counts) <= calls


async def test_refused_input_is_an_event(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        assert (await client.post("/api/events", json=event(severity="odd"))).status_code == 422

    assert await own_events(settings.dsn, "input_rejected") == [{"count": 1}]


async def test_a_lost_cache_degrades_and_is_an_event_but_costs_no_readiness(settings: Settings, serve: Serve) -> None:
    async with serve(settings, redis_url=NO_REDIS) as client:

        async def noticed() -> bool:
            return bool((await client.get("/health")).json()["cache"] == "down")

        await eventually(noticed, "the cache is seen to be down")
        assert (await client.get("/health")).json()["status"] == "degraded"
        assert (await client.get("/readyz")).status_code == 200
        created = await create(client)
        assert (await client.get(f"/api/events/{created['id']}")).json() == created

    assert len(await own_events(settings.dsn, "cache_lost")) == 1


# -- jobs that fail


async def test_a_job_that_fails_in_an_unforeseen_way_is_told_with_its_traceback_and_tried_again(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    await sql(settings.dsn, "DELETE FROM jobs WHERE name = 'fold'")  # the survey needs this row
    async with serve(settings) as client:

        async def fails() -> bool:
            return [job["name"] for job in (await client.get("/health")).json()["failing_jobs"]] == ["survey"]

        async def works_again() -> bool:
            return not (await client.get("/health")).json()["failing_jobs"]

        await eventually(fails, "a job fails")
        assert 'job_failures_total{job_name="survey"} ' in (await client.get("/metrics")).text
        (record,) = [record for record in caplog.records if "the job 'survey' fails" in record.getMessage()]
        assert record.exc_info
        assert (await client.get("/readyz")).status_code == 200
        assert (await post_batch(client, ndjson(event()))).status_code == 200
        await sql(settings.dsn, "INSERT INTO jobs (name, done_at) VALUES ('fold', now())")
        await eventually(works_again, "the job works again")


async def test_a_first_preparation_that_fails_in_an_unforeseen_way_leaves_the_collector_not_ready(
    settings: Settings, serve: Serve
) -> None:
    bounds = "CREATE OR REPLACE FUNCTION pg_catalog.pg_get_expr(pg_node_tree, oid) RETURNS text STABLE"
    await sql(settings.dsn, f"{bounds} LANGUAGE sql AS $$ SELECT 'nonsense' $$")
    async with serve(settings) as client:
        readiness = await client.get("/readyz")
        assert readiness.json()["reasons"] == ["the database has not been prepared yet"]
        assert "maintain" in [job["name"] for job in (await client.get("/health")).json()["failing_jobs"]]
        await sql(settings.dsn, f"{bounds} STRICT LANGUAGE internal AS 'pg_get_expr'")

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_ready, "the collector is ready")


# -- without a database


async def test_a_collector_starts_without_its_database_and_stores_what_it_said_when_it_appears(
    engines: SuiteEngines,
) -> None:
    with new_database(engines, template="migrated") as dsn, scratch_dir() as scratch:
        sockets = Path(dsn.partition("host=")[2].partition("&")[0])
        flags = ("--database-url", dsn.replace(str(sockets), str(scratch / "sockets")), "--redis-url", "none")
        with collector_process(*flags, BRAIN_COLLECTOR_RETRY_AFTER_S="1", BRAIN_COLLECTOR_API_KEY=KEY) as process:
            async with httpx.AsyncClient(base_url=process.url, headers=BEARER, timeout=PATIENCE_S) as client:
                assert (await client.get("/livez")).status_code == 200
                readiness = await client.get("/readyz")
                assert (readiness.status_code, readiness.headers["retry-after"]) == (503, "1")
                assert readiness.json()["status"] == "not_ready"
                (reason,) = readiness.json()["reasons"]
                assert reason.startswith("the database does not respond")
                database = await client.get("/health/db")
                assert (database.status_code, database.headers["retry-after"]) == (503, "1")
                assert database.json() == {"status": "down", "latency_ms": None}
                for answer in await ask_everything(client):
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                    assert answer.headers["retry-after"] == "1"

                async def told() -> bool:
                    return {"system_startup", "database_lost", "db_health_check"} <= set(process.printed_events)

                await eventually(told, "its events are printed")
                assert (await client.get("/health")).json()["status"] == "degraded"

                (scratch / "sockets").symlink_to(sockets)

                async def ready() -> bool:
                    return (await client.get("/readyz")).status_code == 200

                await eventually(ready, "the collector is ready")
                assert (await post_batch(client, ndjson(event()))).status_code == 200

                async def back() -> bool:
                    return len(await own_events(dsn, "database_back")) == 1

                await eventually(back, "database_back is stored")
            assert process.stop() == 0

        assert await count_foreign(dsn) == 1
        for once in ("system_startup", "database_lost", "db_health_check", "system_shutdown"):
            assert len(await own_events(dsn, once)) == 1, once
        assert len(process.printed_events) == len(set(process.printed_events))


async def ask_everything(client: httpx.AsyncClient) -> list[httpx.Response]:
    return [
        await client.post("/api/events", json=event()),
        await client.post(BATCH_PATH, content=ndjson(event()), headers={"Content-Type": "application/x-ndjson"}),
        await client.get("/api/events"),
        await client.get("/api/events/1"),
        await client.put("/api/events/1", json={"message": "x"}),
        await client.delete("/api/events/1"),
        await client.get("/api/events/stats"),
    ]


async def test_a_collector_heals_when_its_database_is_created(
    engines: SuiteEngines, settings: Settings, serve: Serve
) -> None:
    name = f"late_{settings.dsn.rpartition('/test_')[2].partition('?')[0]}"
    async with serve(settings, database_url=engines.database_url(name)) as client:
        for answer in await ask_everything(client):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        with new_database(engines, template="migrated", name=name):

            async def ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(ready, "the collector is ready")
            assert (await client.post("/api/events", json=event())).status_code == 201


async def test_a_database_without_a_schema_is_not_ready_and_the_remedy_is_named(
    engines: SuiteEngines, settings: Settings, serve: Serve
) -> None:
    with new_database(engines) as dsn:
        async with serve(settings, database_url=dsn, api_key=KEY) as client:
            client.headers.update(BEARER)
            readiness = await client.get("/readyz")
            written = await client.post("/api/events", json=event())
            listed = await client.get("/api/events")

        assert readiness.status_code == 503
        (reason,) = readiness.json()["reasons"]
        assert "has no schema" in reason or "its schema is missing" in reason  # whichever notices it first
        assert "run `brain-events migrate`" in reason
        assert [(answer.status_code, answer.json()["code"]) for answer in (written, listed)] == [
            (503, "unavailable")
        ] * 2
