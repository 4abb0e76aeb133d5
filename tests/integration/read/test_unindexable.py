"""Events that cannot be indexed: the index goes past them, and every search still finds them."""

import logging

import httpx
import pytest

from brain_collector.jobs import idempotency_keys
from brain_collector.settings import Settings
from brain_collector.storage import search_index
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, post_batch, sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

FAILING_WORDS = """
    CREATE FUNCTION event_words(event_type text, message text, source text, details jsonb) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE COST 1000
    AS $$ BEGIN
        IF event_type = 'poison' AND current_setting('application_name') = 'brain-events' AND
            current_query() LIKE '%INSERT INTO search_blocks%' THEN {fail}; END IF;
        RETURN words_of(event_type, message, source, details);
    END $$
"""
"""The true function, which fails for some events while the index is built."""
FAILURES = {"an error": "RAISE EXCEPTION 'poisoned'", "a time-out": "PERFORM pg_sleep(3600)"}
WAITING = """
    SELECT count(*) FROM batches, search_progress AS p
    WHERE (batches.xid::text::bigint, first_id + n - 1) > (p.xid, p.id)
"""


async def found(client: httpx.AsyncClient, words: str) -> list[str]:
    answer = await client.get("/api/events", params={"q": words})
    assert answer.status_code == 200, answer.text
    return [each["message"] for each in answer.json()]


async def poisoned(dsn: str, fail: str) -> None:
    await sql(dsn, "ALTER FUNCTION event_words RENAME TO words_of")
    await sql(dsn, FAILING_WORDS.format(fail=fail))


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
async def test_an_event_that_fails_alone_holds_up_no_other_and_is_found(
    settings: Settings, serve: Serve, fail: str, caplog: pytest.LogCaptureFixture
) -> None:
    await poisoned(settings.dsn, fail)
    async with serve(settings, write_deadline_s=3.0) as client, connected(settings.dsn) as connection:
        with caplog.at_level(logging.WARNING):
            created = [
                await create(client, event_type="poison" if n == 7 else "test", message=f"word{n} common")
                for n in range(20)
            ]
            await connection.execute("UPDATE batches SET received_at = now() - interval '2 hours'")

            async def all_indexed() -> bool:
                return bool(await connection.fetchval(WAITING) == 0)

            await eventually(all_indexed, "every event is in a block")
        passed = "SELECT FROM search_blocks WHERE words @> '{-1}' AND $1 BETWEEN first_id AND last_id"
        assert len(await connection.fetch(passed, created[7]["id"])) == 1
        assert len(await found(client, "common")) == 20
        assert await found(client, "word7") == ["word7 common"]
        assert await found(client, "word8") == ["word8 common"]
        assert [each for each in caplog.messages if "cannot be indexed" in each]
        assert [each for each in caplog.messages if each.startswith("the job 'index' fails")]

        async def told() -> bool:
            return bool((await client.get("/health")).json()["unindexable_events"])

        await eventually(told, "the health endpoint tells it")
        assert "brain_collector_search_unindexable_events" in (await client.get("/metrics")).text


async def test_an_older_event_that_fails_alone_holds_up_no_other(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        messages = [event(event_type="poison" if n == 2 else "test", message=f"older{n}") for n in range(5)]
        await post_batch(client, ndjson(*messages))
    await poisoned(settings.dsn, FAILURES["an error"])
    await sql(  # as the migration leaves a database that has events
        settings.dsn,
        "UPDATE search_progress SET xid = pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, id = 2^62, "
        "(older_ts, older_id) = (SELECT max(timestamp), 9223372036854775807 FROM system_events)",
    )
    async with serve(settings) as client:

        async def all_indexed() -> bool:
            return await sql(settings.dsn, "SELECT older_ts FROM search_progress") == [(None,)]

        await eventually(all_indexed, "every older event is in a block")
        assert sorted(await found(client, "older2 or older3")) == ["older2", "older3"]


async def test_old_keys_are_deleted_though_the_index_does_not_move_and_their_events_are_found(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client, connected(settings.dsn) as connection:
        await connection.execute(f"SELECT pg_advisory_lock({search_index.LOCK})")  # no collector can index
        await post_batch(client, ndjson(*(event(message=f"forgotten{n}") for n in range(300))))
        life_days = settings.idempotency_key_life_days
        for age_days, is_left in ((life_days + 1, True), (2 * life_days + 1, False)):
            await connection.execute("UPDATE batches SET received_at = now() - make_interval(days => $1)", age_days)
            while await idempotency_keys.forget_some(connection, life_days):
                pass
            assert bool(await connection.fetchval("SELECT count(*) FROM batches WHERE n = 300")) == is_left
            assert await found(client, "forgotten7") == ["forgotten7"]
            assert await found(client, "forgotten299") == ["forgotten299"]
        await connection.execute(f"SELECT pg_advisory_unlock({search_index.LOCK})")
