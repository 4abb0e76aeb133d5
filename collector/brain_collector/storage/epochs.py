"""Epochs of the commit order: a new one begins when the database is no longer the one that it was.

Transaction numbers belong to a server. After a failover, the promoted standby may assign numbers that the lost primary
had assigned to other transactions, and a restored copy assigns its own. So a position carries the epoch of its number.
An epoch ends with every start of the server: a promoted standby was started at another time than the primary, and so
was a copy of the server's files or a snapshot of its volume, in which nothing else tells that it is not the original.
And it ends when the oid of the database is another one: the database was restored in the same server. A start costs a
row, and if nothing was lost, no reader notices it. The system identifier and the timeline, which every promotion
increments, only tell these cases apart in reports, and some roles may not read them.

A writer makes sure that the epoch is known before its first write on a connection, so the first transaction number of
an epoch precedes all its batches.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from asyncpg import Connection

from brain_collector.settings import ID_BLOCK

MARGIN: Final = timedelta(minutes=1)
"""How long before the start of an epoch a gap begins: clocks differ, and the time of the loss is not known."""
IDS_PER_MS: Final = 1_024
"""The ids of an epoch begin at its number times this: more ids than any server draws in the same time.

The number is the time at which the epoch begins, in milliseconds. So an epoch that began earlier, on any server, has
used ids below that: at 200,000 events per second, 200 per millisecond, or 400 if the blocks that are cut off at their
end count twice. This holds for ids that the new server does not know of, however many were lost: those of a lost
primary, of a standby that was promoted before this one, or of the time since a backup was made. It presumes that the
clocks of the servers differ by less than the time between two epochs.

JavaScript has exact integers up to 2^53. Epochs begin below that until the year 2248, with a time as their number;
those of today have four fifths of these ids above them, which last for 1,000 years at 200,000 per second.
"""
SKIPPED_IDS: Final = 100_000 * ID_BLOCK
"""Number of ids that a new epoch leaves unused if the last id is above that (the sequence was set, or a clock was)."""

MAX_EPOCHS: Final = 1_000
"""Maximum number of rows that are kept. A position of an older epoch is unknown: its stream is told of a gap."""

_OID: Final = "(SELECT oid::bigint FROM pg_database WHERE datname = current_database())"

CURRENT: Final = f"""(
    SELECT epochs.epoch FROM epochs
    WHERE epochs.epoch = (SELECT max(newest.epoch) FROM epochs AS newest)
        AND epochs.database_oid = {_OID}
        AND (epochs.started_at = pg_postmaster_start_time() OR pg_is_in_recovery())
)"""  # noqa: S608 - a constant
"""The epoch of the server that runs the statement; null if no collector has noticed yet that it is another server.

A standby has the epoch of its primary. Every role may evaluate this, and it costs some microseconds.
"""

_CURRENT: Final = f"SELECT {CURRENT}"

ALL: Final = f"""
    SELECT epoch, first_xid, keeps_order, at, forgotten_xid, forgotten_id, forgotten_until, {CURRENT} AS current
    FROM epochs ORDER BY epoch
"""  # noqa: S608 - a constant
"""The rows of `Epoch`, and the current epoch."""

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('brain-events epochs'))"

# An epoch's number is the time in milliseconds: servers that were promoted from the same one must not reuse a number.
# Its first transaction follows that of the last batch: a position beyond is one of a batch that is not here. (A backup
# that is restored in the same server gets higher numbers than all that were lost; `xmax` would be above them.)
_BEGIN: Final = f"""
    INSERT INTO epochs (epoch, identifier, timeline, database_oid, started_at, first_xid, keeps_order, forgotten_xid,
        forgotten_id, forgotten_until, is_announced)
    SELECT greatest(last.epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        present.identifier, present.timeline, present.oid, pg_postmaster_start_time(),
        1 + greatest(last.forgotten_xid, (SELECT xid::text::bigint FROM batches ORDER BY batches.xid DESC LIMIT 1), 0),
        $1::boolean,
        CASE WHEN $1::boolean THEN coalesce(last.forgotten_xid, 0) ELSE 0 END,
        CASE WHEN $1::boolean THEN coalesce(last.forgotten_id, 0) ELSE 0 END, last.forgotten_until,
        (last.identifier, last.timeline, last.database_oid)
            IS NOT DISTINCT FROM (present.identifier, present.timeline, present.oid)
    FROM (SELECT identifier, timeline, {_OID} AS oid FROM database_identity()) AS present
    LEFT JOIN (SELECT * FROM epochs ORDER BY epoch DESC LIMIT 1) AS last ON true
    RETURNING epoch
"""  # noqa: S608 - a constant

_SKIP_IDS: Final = f"""
    SELECT setval('system_events_id_seq', greatest($1::bigint * {IDS_PER_MS},
        greatest(last_value, (SELECT coalesce(max(id), 0) FROM system_events)) + {SKIPPED_IDS}))
    FROM system_events_id_seq
"""  # noqa: S608 - constants

_PRUNE: Final = f"""
    DELETE FROM epochs WHERE epoch <= (SELECT epoch FROM epochs ORDER BY epoch DESC LIMIT 1 OFFSET {MAX_EPOCHS})
"""  # noqa: S608 - a constant

_IS_RESTART: Final = """
    SELECT count(DISTINCT (identifier, timeline, database_oid)) = 1 FROM epochs WHERE epoch IN ($1, $2)
"""

_ANNOUNCE: Final = """
    UPDATE epochs SET is_announced = true FROM (
        SELECT epoch, lag(identifier) OVER epochs AS identifier, lag(timeline) OVER epochs AS timeline,
            lag(database_oid) OVER epochs AS database_oid
        FROM epochs WINDOW epochs AS (ORDER BY epoch)
    ) AS before
    WHERE before.epoch = epochs.epoch AND NOT is_announced
    RETURNING epochs.epoch, epochs.identifier, epochs.timeline, epochs.database_oid,
        before.identifier AS identifier_before, before.timeline AS timeline_before,
        before.database_oid AS database_oid_before
"""

_IS_UNANNOUNCED: Final = "SELECT EXISTS (SELECT FROM epochs WHERE NOT is_announced)"


class Epoch(NamedTuple):
    """One row of `epochs`, as far as positions depend on it.

    Batches of the epoch have numbers from `first_xid` on. Batches up to (`forgotten_xid`, `forgotten_id`) may have been
    deleted; `forgotten_until` is the latest timestamp of their events.
    """

    epoch: int
    first_xid: int
    keeps_order: bool
    at: datetime
    forgotten_xid: int
    forgotten_id: int
    forgotten_until: datetime | None


class Change(NamedTuple):
    """The beginning of an epoch, with the identities of the databases after and before it."""

    epoch: int
    identifier: int
    timeline: int
    database_oid: int
    identifier_before: int
    timeline_before: int
    database_oid_before: int

    @property
    def is_failover(self) -> bool:
        """Whether a standby was promoted; otherwise the database was restored or copied."""
        return (self.identifier, self.database_oid) == (self.identifier_before, self.database_oid_before)


async def ensure(connection: Connection) -> int:
    """Return the current epoch; begin a new one if the server is another than that of the last epoch."""
    epoch: int | None = await connection.fetchval(_CURRENT)
    if epoch is not None:
        return epoch
    async with connection.transaction():
        await connection.execute(_LOCK)
        epoch = await connection.fetchval(_CURRENT)  # another collector may have been first
        return await begin(connection) if epoch is None else epoch


async def begin(connection: Connection, *, keeps_order: bool = True) -> int:
    """Begin a new epoch, in the transaction of the caller; return its number.

    `keeps_order` says whether positions of earlier epochs, below the new `first_xid`, are still valid.
    """
    await connection.execute(_LOCK)
    epoch: int = await connection.fetchval(_BEGIN, keeps_order)
    await connection.execute(_PRUNE)
    await connection.execute(_SKIP_IDS, epoch)
    return epoch


async def is_restart(connection: Connection, before: int, after: int) -> bool:
    """Return whether two epochs are of the same database, as far as it can be told from a copy of its files."""
    return bool(await connection.fetchval(_IS_RESTART, before, after))


async def announce(connection: Connection) -> list[Change]:
    """Return the changes of the database that no collector has announced yet; they count as announced then.

    Restarts are not announced.
    """
    if not await connection.fetchval(_IS_UNANNOUNCED):
        return []
    return [Change(*row) for row in await connection.fetch(_ANNOUNCE)]
