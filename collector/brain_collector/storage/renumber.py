"""A database that was restored into another cluster, where the numbers of its transactions have not been given out yet.

The order of arrival, and the search index with it, go by these numbers; so what was stored before the restore is given
numbers that are before all of the new cluster's.
"""

from typing import Final

from asyncpg import Connection

from brain_collector.storage.search_index import LOCK

_LOCK: Final = f"SELECT pg_advisory_xact_lock({LOCK})"

_IS_RESTORED: Final = """
    SELECT greatest(
        (SELECT max(xid)::text::bigint FROM batches), (SELECT xid FROM search_progress)
    ) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""

# 3 is the first transaction of a cluster, which makes itself with the first hundreds of them.
_RENUMBER: Final = """
    UPDATE batches SET xid = (
        SELECT CASE
            WHEN (batches.xid::text::bigint, first_id + n - 1) <= (progress.xid, progress.id) THEN '3' ELSE '4'
        END
        FROM search_progress AS progress
    )::xid8
    WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM batches WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT 10000
    ))
"""

_SET_PROGRESS: Final = "UPDATE search_progress SET xid = 3, id = 9223372036854775807"


async def is_restored(connection: Connection) -> bool:
    """Tell whether anything has a number that this cluster has not given out yet."""
    return bool(await connection.fetchval(_IS_RESTORED))


async def renumber(connection: Connection) -> None:
    """Renumber what was restored, all of it or nothing; it takes a second for some 100,000 batches."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        while await connection.execute(_RENUMBER) != "UPDATE 0":
            pass
        await connection.execute(_SET_PROGRESS)
