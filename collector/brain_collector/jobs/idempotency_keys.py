"""Deletes idempotency keys older than `idempotency_key_life_days`, once their events are in the search index.

An index that does not advance holds them up for twice that time at most.

Their positions in the commit order are deleted with them. The epoch records up to where, so that a stream that resumes
before that position is told of a gap.
"""

from typing import Final

import asyncpg

FORGET: Final = """
    WITH job AS MATERIALIZED (SELECT 1 FROM jobs WHERE name = 'maintain' FOR UPDATE SKIP LOCKED), forgotten AS (
        DELETE FROM batches USING search_progress AS progress
        WHERE EXISTS (SELECT FROM job) AND batches.ctid = ANY(ARRAY(
            SELECT batches.ctid FROM batches, search_progress AS progress
            WHERE received_at < now() - make_interval(days => $1) AND (
                (batches.xid::text::bigint, first_id + n - 1) <= (progress.xid, progress.id)
                OR received_at < now() - make_interval(days => 2 * $1)
            )
            LIMIT 10000
        ))
        RETURNING batches.xid::text::bigint AS xid, first_id, first_id + n - 1 AS last_id, min_ts, max_ts,
            (batches.xid::text::bigint, first_id + n - 1) <= (progress.xid, progress.id) AS is_indexed
    ), unread AS (
        INSERT INTO search_blocks (first_id, last_id, min_ts, max_ts, words)
        SELECT first, least(first + 255, last_id), min_ts, max_ts, '{-1}'
        FROM forgotten, generate_series(first_id, last_id, 256) AS first
        WHERE NOT is_indexed
    ), furthest AS (
        SELECT xid, last_id, (SELECT max(max_ts) FROM forgotten) AS until FROM forgotten
        ORDER BY xid DESC, last_id DESC LIMIT 1
    ), recorded AS (
        UPDATE epochs SET
            forgotten_xid = CASE WHEN is_further THEN furthest.xid ELSE forgotten_xid END,
            forgotten_id = CASE WHEN is_further THEN furthest.last_id ELSE forgotten_id END,
            forgotten_until = greatest(forgotten_until, furthest.until)
        FROM furthest, LATERAL (
            SELECT (furthest.xid, furthest.last_id) > (present.forgotten_xid, present.forgotten_id) AS is_further,
                present.epoch AS current
            FROM epochs AS present ORDER BY present.epoch DESC LIMIT 1
        ) AS latest
        WHERE epoch = latest.current
    )
    SELECT count(*) FROM forgotten
"""
"""A batch that is not indexed after twice its life is not waited for: its blocks match every word (`search_index`)."""


async def forget_some(connection: asyncpg.Connection, life_days: int) -> bool:
    """Delete up to 10,000 keys; return whether there were any."""
    return bool(await connection.fetchval(FORGET, life_days))
