"""Deletes idempotency keys older than `idempotency_key_life_days`, once their events are in the search index."""

from typing import Final

import asyncpg

FORGET: Final = """
    WITH job AS MATERIALIZED (SELECT 1 FROM jobs WHERE name = 'maintain' FOR UPDATE SKIP LOCKED)
    DELETE FROM batches WHERE EXISTS (SELECT FROM job) AND ctid = ANY(ARRAY(
        SELECT batches.ctid FROM batches, search_progress AS progress
        WHERE received_at < now() - make_interval(days => $1)
            AND (batches.xid::text::bigint, first_id + n - 1) <= (progress.xid, progress.id)
        LIMIT 10000
    ))
"""


async def forget_some(connection: asyncpg.Connection, life_days: int) -> bool:
    """Delete up to 10,000 keys; return whether there were any."""
    status = await connection.execute(FORGET, life_days)
    return bool(status != "DELETE 0")
