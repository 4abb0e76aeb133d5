"""Acknowledged transactions wait for the disk: each one sets this itself, whatever its session and its server say."""

from collections import Counter

import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, post_batch, sql, started

pytestmark = pytest.mark.anyio

WATCHED = ("batches", "event_deltas", "api_keys")
"""Every acknowledged transaction writes one of these tables."""

RECORD = """
    CREATE TABLE commits (origin text, setting text);
    CREATE FUNCTION record_commit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO commits VALUES (TG_TABLE_NAME || ' ' || TG_OP, current_setting('synchronous_commit'));
            RETURN NULL;
        END
    $$
"""
RECORD_TABLE = """
    CREATE CONSTRAINT TRIGGER record_commit AFTER INSERT OR UPDATE ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION record_commit()
"""
"""A deferred trigger runs at COMMIT, and so sees the value that the COMMIT uses."""


async def set_default(dsn: str, value: str) -> None:
    ((database,),) = await sql(dsn, "SELECT current_database()")
    await sql(dsn, f"ALTER DATABASE {database} SET synchronous_commit = {value}")


@pytest.mark.parametrize(
    ("server", "at_commit"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")],
)
async def test_every_acknowledged_commit_waits_for_the_disk_whatever_the_server_says(
    settings: Settings, serve: Serve, server: str, at_commit: str
) -> None:
    await set_default(settings.dsn, server)
    async with serve(settings, api_key="bootstrap", fold_interval_s=3600.0) as client:
        client.headers["Authorization"] = "Bearer bootstrap"
        await started(settings.dsn)
        async with connected(settings.dsn) as connection:
            await connection.execute(RECORD)
            for table in WATCHED:
                await connection.execute(RECORD_TABLE.format(table=table))
        stored = await create(client)
        small = await post_batch(client, ndjson(*[event()] * 3))
        large = await post_batch(client, ndjson(*[event()] * 1_000))
        changed = await client.put(f"/api/events/{stored['id']}", json=event(severity="error"))
        deleted = await client.delete(f"/api/events/{stored['id']}")
        key = await client.post("/api/keys", json={"name": "k", "scopes": ["admin"]})
        revoked = await client.delete(f"/api/keys/{key.json()['id']}")
        answers = [small, large, changed, deleted, key, revoked]
        assert [answer.is_success for answer in answers] == [True] * 6, [answer.text for answer in answers]

    rows = await sql(settings.dsn, "SELECT origin, setting FROM commits")
    origins = Counter(origin for origin, _ in rows)
    assert set(origins) == {"batches INSERT", "event_deltas INSERT", "api_keys INSERT", "api_keys UPDATE"}
    assert origins["batches INSERT"] >= 3
    assert {setting for _, setting in rows} == {at_commit}
