"""Events in the order in which they were committed, as far as that order is final.

Neither timestamps nor ids are in commit order: a transaction that begins early may commit late. Every batch records the
id of its transaction, and no transaction below `pg_snapshot_xmin` is still running: the order below it is final.

Ids of transactions belong to a server. So a position has an epoch (`storage.epochs`), and every statement returns the
epoch of the server that ran it: one that was sent to another server than the one before is never taken for its sequel.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, BindParameter, DateTime, Text, bindparam, text

from brain_collector.errors import Unavailable
from brain_collector.read.store import Reads
from brain_collector.storage.epochs import CURRENT
from brain_collector.tail.position import Position, after_transaction, end_of

PIECE_IDS: Final = 1_000
"""Maximum number of ids in a piece."""
_MAX_BATCHES: Final = 2_000
_TICK: Final = timedelta(microseconds=1)
_FINAL: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1"

# A server that crashes may assign the numbers of transactions again that had not been written to its WAL. Those of
# batches had. So a position that a client gets is one of a batch, not just one below which all is final.
_LAST: Final = """coalesce((
    SELECT xid::text::bigint FROM batches WHERE batches.xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY batches.xid DESC LIMIT 1
), 0)"""

_ENDS: Final = text(f"""
    SELECT {CURRENT} AS epoch, {_FINAL} AS final, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1 AS tip
""")

# Both positions may be in the middle of a batch: a reader passes a large one on in several steps.
_BETWEEN: Final = """
    FROM batches CROSS JOIN LATERAL (SELECT
        CASE WHEN xid::text::bigint = :after_xid_number THEN greatest(batches.first_id - 1, :after_id) + 1
            ELSE batches.first_id END AS first_id,
        CASE WHEN xid::text::bigint = :until_xid THEN least(batches.first_id + n - 1, :until_id)
            ELSE batches.first_id + n - 1 END AS last_id
    ) AS part
    WHERE xid >= CAST(CAST(:after_xid AS text) AS xid8) AND xid < pg_snapshot_xmin(pg_current_snapshot())
        AND (xid::text::bigint, batches.first_id + n - 1) > (:after_xid_number, :after_id)
        AND (xid::text::bigint, batches.first_id) <= (:until_xid, :until_id)
        AND part.first_id <= part.last_id
"""

_IS_FORGOTTEN: Final = """(
    SELECT (forgotten_xid, forgotten_id) > (:after_xid_number, :after_id) FROM epochs ORDER BY epoch DESC LIMIT 1
)"""

_BATCHES: Final = text(f"""
    SELECT present.*, batch.*
    FROM (
        SELECT {CURRENT} AS epoch, {_FINAL} AS final, {_LAST} AS last, {_IS_FORGOTTEN} AS is_forgotten
    ) AS present LEFT JOIN LATERAL (
        SELECT xid::text::bigint AS xid, part.first_id, part.last_id, min_ts, max_ts {_BETWEEN}
        ORDER BY batches.xid, batches.first_id LIMIT {_MAX_BATCHES}
    ) AS batch ON true
""")  # noqa: S608 - constants

_SPAN: Final = text(f"""
    SELECT {CURRENT} AS epoch, coalesce(sum(part.last_id - part.first_id + 1), 0)::bigint AS n,
        min(min_ts) AS since, max(max_ts) AS until
    {_BETWEEN}
""")

_RECEIVED: Final = text(f"""
    SELECT {CURRENT} AS epoch, coalesce(sum(n), 0)::bigint AS n, min(min_ts) AS since, max(max_ts) AS until FROM batches
    WHERE received_at >= :received_since AND (xid::text::bigint, first_id) <= (:until_xid, :until_id)
""")  # noqa: S608 - constants


class OtherEpoch(Unavailable):
    """A statement was run by the server of another epoch than that of the positions."""

    def __init__(self) -> None:
        super().__init__("the database is another server than before; connect again", retry_after_s=1)


class Forgotten(Unavailable):
    """The batches after a position were deleted while a stream caught up with them."""

    def __init__(self) -> None:
        super().__init__("the position is older than the batches that are kept; connect again", retry_after_s=1)


class Piece(NamedTuple):
    """Adjacent ids of one transaction, at most `PIECE_IDS`, and the time range of their events."""

    epoch: int
    xid: int
    first_id: int
    last_id: int
    since: datetime
    until: datetime

    @property
    def n(self) -> int:
        """The number of events."""
        return self.last_id - self.first_id + 1

    @property
    def end(self) -> Position:
        """The position of the last event."""
        return Position(self.epoch, self.xid, self.last_id)


class Reading(NamedTuple):
    """The result of one statement: the epoch of the server, two positions, and the next pieces.

    `head` is the end of the last batch whose order is final, `limit` the end of all transactions whose order is.
    `is_forgotten`: batches after the position that was read from have been deleted; the pieces may not be the next.
    """

    epoch: int
    head: Position
    limit: Position
    pieces: list[Piece]
    is_forgotten: bool


class Span(msgspec.Struct, frozen=True):
    """The number of events between two positions, without a filter, and their time range, which excludes `until`."""

    arrived: int
    since: datetime | None
    until: datetime | None

    def __add__(self, other: "Span") -> "Span":
        """Return the sum of both."""
        since = min((each.since for each in (self, other) if each.since), default=None)
        until = max((each.until for each in (self, other) if each.until), default=None)
        return Span(self.arrived + other.arrived, since, until)


async def limit(store: Reads) -> Position:
    """Return the position behind every transaction whose order is final now."""
    (row,) = await store.fetch(_ENDS)
    return after_transaction(known(row.epoch), row.final)


async def tip(store: Reads) -> Position:
    """Return the position behind every transaction that has begun, whether it has ended or not."""
    (row,) = await store.fetch(_ENDS)
    return after_transaction(known(row.epoch), row.tip)


async def read(store: Reads, after: Position, until: Position | None = None) -> Reading:
    """Read the next pieces after a position; of many, only the first ones. Of another epoch, none are returned."""
    rows = await store.fetch(_BATCHES.bindparams(*_bounds(after, until or end_of(after.epoch))))
    epoch = known(rows[0].epoch)
    arrived = rows if epoch == after.epoch and rows[0].xid is not None else []
    pieces = [piece for row in arrived for piece in _pieces(row, epoch)]
    last, final = (after_transaction(epoch, xid) for xid in (rows[0].last, rows[0].final))
    return Reading(epoch, last, final, pieces, bool(rows[0].is_forgotten) and epoch == after.epoch)


async def span(store: Reads, after: Position, until: Position) -> Span:
    """Return the number and the time range of the events between two positions of an epoch.

    Raises:
        OtherEpoch: the server is of another epoch.
    """
    return await _sum(store, _SPAN.bindparams(*_bounds(after, until)), after.epoch)


async def received(store: Reads, since: datetime, until: Position) -> Span:
    """Return the number and the time range of the events that were stored from a moment on, up to a position.

    Raises:
        OtherEpoch: the server is of another epoch.
    """
    query = _RECEIVED.bindparams(
        bindparam("received_since", since, DateTime(timezone=True)),
        bindparam("until_xid", until.xid, BigInteger()),
        bindparam("until_id", until.id, BigInteger()),
    )
    return await _sum(store, query, until.epoch)


async def _sum(store: Reads, query: Any, epoch: int) -> Span:
    (row,) = await store.fetch(query)
    refuse_other(row.epoch, epoch)
    return Span(row.n, row.since, row.until and row.until + _TICK)


def span_of(arrived: list[Piece]) -> Span:
    """Return the number and the time range of the events of these pieces, at least one."""
    until = max(piece.until for piece in arrived)
    return Span(sum(piece.n for piece in arrived), min(piece.since for piece in arrived), until + _TICK)


def known(epoch: int | None) -> int:
    """Return the epoch of a statement.

    Raises:
        OtherEpoch: the server is another one, and no collector has noticed it yet; the monitor does so within seconds.
    """
    if epoch is None:
        raise OtherEpoch
    return epoch


def refuse_other(epoch: int | None, expected: int) -> None:
    """Refuse the result of a statement that was run by the server of another epoch.

    Raises:
        OtherEpoch: it was.
    """
    if epoch != expected:
        raise OtherEpoch


def _bounds(after: Position, until: Position) -> list[BindParameter[Any]]:
    numbers = {
        "after_xid_number": after.xid,
        "after_id": after.id,
        "until_xid": until.xid,
        "until_id": until.id,
    }
    return [
        bindparam("after_xid", str(after.xid), Text()),
        *(bindparam(name, number, BigInteger()) for name, number in numbers.items()),
    ]


def _pieces(row: Any, epoch: int) -> Iterator[Piece]:
    """Cut the part of a batch between two positions into pieces."""
    for start in range(row.first_id, row.last_id + 1, PIECE_IDS):
        yield Piece(epoch, row.xid, start, min(start + PIECE_IDS - 1, row.last_id), row.min_ts, row.max_ts)
