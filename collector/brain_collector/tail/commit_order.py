"""Events in the order in which they were committed, as far as that order is final.

Neither timestamps nor ids are in commit order: a transaction that begins early may commit late. Every batch records the
id of its transaction, and no transaction below `pg_snapshot_xmin` is still running: the order below it is final.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, BindParameter, Text, bindparam, select, text

from brain_collector.errors import ParameterInvalid
from brain_collector.query.filter import Filter, conditions
from brain_collector.query.matches import marked
from brain_collector.read.store import Store, to_event
from brain_collector.schema import Event
from brain_collector.storage.id_ranges import MAX_RANGES, IdRange, among, joined
from brain_collector.storage.tables import system_events

PIECE_IDS: Final = 1_000
"""Maximum number of ids in a piece."""
_MAX_BATCHES: Final = 2_000
_MAX_ID: Final = 2**63 - 1
_TICK: Final = timedelta(microseconds=1)
_TOKEN: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)

_HEAD: Final = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS head")

_TIP: Final = text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1 AS tip")

_BETWEEN: Final = """
    FROM batches
    WHERE xid >= CAST(CAST(:after_xid AS text) AS xid8) AND xid < pg_snapshot_xmin(pg_current_snapshot())
        AND (xid::text::bigint, first_id + n - 1) > (:after_xid_number, :after_id)
        AND (xid::text::bigint, first_id) <= (:until_xid, :until_id)
"""

_BATCHES: Final = text(f"""
    SELECT xid::text::bigint AS xid, first_id, first_id + n - 1 AS last_id, min_ts, max_ts {_BETWEEN}
    ORDER BY batches.xid, first_id LIMIT {_MAX_BATCHES}
""")

_SPAN: Final = text(f"SELECT coalesce(sum(n), 0)::bigint AS n, min(min_ts) AS since, max(max_ts) AS until {_BETWEEN}")


class Arrival(NamedTuple):
    """A position in commit order: everything up to this event of this transaction."""

    xid: int
    id: int

    def __str__(self) -> str:
        """Return the form used in `id:` and `Last-Event-ID`."""
        return f"{self.xid}-{self.id}"


END: Final = Arrival(2**63 - 1, _MAX_ID)


class Piece(NamedTuple):
    """Adjacent ids of one transaction, at most `PIECE_IDS`, and the time range of their events."""

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
    def end(self) -> Arrival:
        """The position of the last event."""
        return Arrival(self.xid, self.last_id)


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


def parse(token: str) -> Arrival:
    """Return the position that a `Last-Event-ID` names.

    Raises:
        ParameterInvalid: it is malformed.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or max(int(match[1]), int(match[2])) > _MAX_ID:
        raise ParameterInvalid(f"Last-Event-ID is {token[:80]!r}; send an `id:` of this stream, or omit the header")
    return Arrival(int(match[1]), int(match[2]))


async def head(store: Store) -> Arrival:
    """Return the position behind everything whose order is final now."""
    (row,) = await store.fetch(_HEAD)
    return Arrival(row.head, _MAX_ID)


async def tip(store: Store) -> Arrival:
    """Return the position behind every transaction that has begun, whether it has ended or not."""
    (row,) = await store.fetch(_TIP)
    return Arrival(row.tip, _MAX_ID)


async def pieces(store: Store, after: Arrival, until: Arrival = END) -> list[Piece]:
    """Return the pieces between two positions, in order; of many, only the first ones."""
    return [
        piece for row in await store.fetch(_BATCHES.bindparams(*_bounds(after, until))) for piece in _pieces(row, after)
    ]


async def span(store: Store, after: Arrival, until: Arrival) -> Span:
    """Return the number and the time range of the events between two positions."""
    (row,) = await store.fetch(_SPAN.bindparams(*_bounds(after, until)))
    return Span(row.n, row.since, row.until and row.until + _TICK)


def span_of(arrived: list[Piece]) -> Span:
    """Return the number and the time range of the events of these pieces, at least one."""
    until = max(piece.until for piece in arrived)
    return Span(sum(piece.n for piece in arrived), min(piece.since for piece in arrived), until + _TICK)


async def events(store: Store, filter: Filter, arrived: list[Piece]) -> list[Event]:
    """Return the events of these pieces that match the filter and still exist, in the order of the pieces."""
    by_id: dict[int, Event] = {}
    ranges = list(joined(IdRange(piece.first_id, piece.last_id, piece.since, piece.until) for piece in arrived))
    for start in range(0, len(ranges), MAX_RANGES):
        query = select(system_events).where(among(ranges[start : start + MAX_RANGES]), *conditions(filter))
        by_id |= {row.id: to_event(row) for row in await store.fetch(query)}
    ids = (id for piece in arrived for id in range(piece.first_id, piece.last_id + 1))
    events = [by_id[id] for id in ids if id in by_id]
    return await marked(events, filter.words) if filter.words else events


def _bounds(after: Arrival, until: Arrival) -> list[BindParameter[Any]]:
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


def _pieces(row: Any, after: Arrival) -> Iterator[Piece]:
    """Cut a batch into pieces, without the events up to the position."""
    first = max(row.first_id, after.id + 1) if row.xid == after.xid else row.first_id
    for start in range(first, row.last_id + 1, PIECE_IDS):
        yield Piece(row.xid, start, min(start + PIECE_IDS - 1, row.last_id), row.min_ts, row.max_ts)
