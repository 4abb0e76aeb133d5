"""Events in the order in which they were committed, as far as that order is settled.

Neither timestamps nor ids come in order: a transaction that began early may commit late. Every batch notes the number
of its transaction, and nothing below `pg_snapshot_xmin` is still under way: what stands there is complete for good.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger, BindParameter, Text, bindparam, select, text

from brain_collector.errors import ParameterInvalid
from brain_collector.query.filter import Filter, conditions
from brain_collector.query.search_terms import mark
from brain_collector.read.store import Store, to_event
from brain_collector.schema import Event
from brain_collector.storage.id_ranges import MAX_BOXES, Box, among, joined
from brain_collector.storage.tables import system_events

PIECE_IDS: Final = 1_000
"""Most ids that are looked up at once."""
_MOST_BATCHES: Final = 2_000
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
    ORDER BY batches.xid, first_id LIMIT {_MOST_BATCHES}
""")

_SPAN: Final = text(f"SELECT coalesce(sum(n), 0)::bigint AS n, min(min_ts) AS since, max(max_ts) AS until {_BETWEEN}")


class Arrival(NamedTuple):
    """A place in the order of arrival: everything up to this event of this transaction."""

    xid: int
    id: int

    def __str__(self) -> str:
        """Return it as it travels, in `id:` and `Last-Event-ID`."""
        return f"{self.xid}-{self.id}"


END: Final = Arrival(2**63 - 1, _MAX_ID)


class Piece(NamedTuple):
    """Ids that arrived together, at most `PIECE_IDS`, and the times that their events lie between."""

    xid: int
    first_id: int
    last_id: int
    since: datetime
    until: datetime

    @property
    def n(self) -> int:
        """How many events it is."""
        return self.last_id - self.first_id + 1

    @property
    def end(self) -> Arrival:
        """The place of its last event."""
        return Arrival(self.xid, self.last_id)


class Span(msgspec.Struct, frozen=True):
    """How many events arrived between two places (of any kind), and the times that they lie between, half open."""

    arrived: int
    since: datetime | None
    until: datetime | None

    def __add__(self, other: "Span") -> "Span":
        """Return both as one."""
        since = min((each.since for each in (self, other) if each.since), default=None)
        until = max((each.until for each in (self, other) if each.until), default=None)
        return Span(self.arrived + other.arrived, since, until)


def parse(token: str) -> Arrival:
    """Return the place that a `Last-Event-ID` names.

    Raises:
        ParameterInvalid: it names none.
    """
    found = _TOKEN.fullmatch(token)
    if found is None or max(int(found[1]), int(found[2])) > _MAX_ID:
        raise ParameterInvalid(f"Last-Event-ID is {token[:80]!r}; send back an `id:` of this stream, or none")
    return Arrival(int(found[1]), int(found[2]))


async def head(store: Store) -> Arrival:
    """Return the place behind everything that is settled now."""
    (row,) = await store.fetch(_HEAD)
    return Arrival(row.head, _MAX_ID)


async def tip(store: Store) -> Arrival:
    """Return the place behind everything that has been begun, whether it is settled or not."""
    (row,) = await store.fetch(_TIP)
    return Arrival(row.tip, _MAX_ID)


async def pieces(store: Store, after: Arrival, until: Arrival = END) -> list[Piece]:
    """Return what arrived between two places, in order; of very much, only the beginning."""
    return [
        piece for row in await store.fetch(_BATCHES.bindparams(*_bounds(after, until))) for piece in _pieces(row, after)
    ]


async def span(store: Store, after: Arrival, until: Arrival) -> Span:
    """Return how much arrived between two places."""
    (row,) = await store.fetch(_SPAN.bindparams(*_bounds(after, until)))
    return Span(row.n, row.since, row.until and row.until + _TICK)


def span_of(arrived: list[Piece]) -> Span:
    """Return how much these pieces are, at least one."""
    until = max(piece.until for piece in arrived)
    return Span(sum(piece.n for piece in arrived), min(piece.since for piece in arrived), until + _TICK)


async def events(store: Store, wanted: Filter, arrived: list[Piece]) -> list[Event]:
    """Return the events of these pieces that the filter wants and that are still there, in the order of the pieces."""
    found: dict[int, Event] = {}
    runs = list(joined(Box(piece.first_id, piece.last_id, piece.since, piece.until) for piece in arrived))
    for start in range(0, len(runs), MAX_BOXES):
        query = select(system_events).where(among(runs[start : start + MAX_BOXES]), *conditions(wanted))
        found |= {row.id: to_event(row) for row in await store.fetch(query)}
    ids = (id for piece in arrived for id in range(piece.first_id, piece.last_id + 1))
    events = [found[id] for id in ids if id in found]
    return [mark(event, wanted.words) for event in events] if wanted.words else events


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
    """Cut a batch; of one that was begun, what is after that place."""
    first = max(row.first_id, after.id + 1) if row.xid == after.xid else row.first_id
    for start in range(first, row.last_id + 1, PIECE_IDS):
        yield Piece(row.xid, start, min(start + PIECE_IDS - 1, row.last_id), row.min_ts, row.max_ts)
