"""Renumbering after a restore into another cluster, which has not assigned the stored transaction ids yet.

The commit order, and with it the search index, relies on these ids. So batches from before the restore get ids that
are lower than all of the new cluster's.
"""

from typing import Final

from asyncpg import Connection

from brain_collector.storage import epochs
from brain_collector.storage.search_index import LOCK

_LOCK: Final = f"SELECT pg_advisory_xact_lock({LOCK})"

_IS_RESTORED: Final = """
    SELECT greatest(
        (SELECT max(xid)::text::bigint FROM batches), (SELECT xid FROM search_progress)
    ) >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""

# 3 is the first transaction id of a cluster; initdb itself uses the first few hundred.
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
    """Return whether any batch has a transaction id that this cluster has not assigned yet."""
    return bool(await connection.fetchval(_IS_RESTORED))


async def renumber(connection: Connection) -> None:
    """Renumber all restored batches, and begin an epoch, in one transaction; 100,000 batches take about a second."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        while await connection.execute(_RENUMBER) != "UPDATE 0":
            pass
        await connection.execute(_SET_PROGRESS)
        await epochs.begin(connection, keeps_order=False)
