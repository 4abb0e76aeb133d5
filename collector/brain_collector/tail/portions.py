"""Reads the events of pieces of the commit order in portions of a limited size."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Text, any_, bindparam, cast, func, literal_column, select
from sqlalchemy.sql.elements import Label

from brain_collector.query.filter import Filter, conditions
from brain_collector.query.matches import marked
from brain_collector.read.store import Reads, to_event
from brain_collector.schema import Event
from brain_collector.storage.epochs import CURRENT
from brain_collector.storage.id_ranges import MAX_RANGES, IdRange, among, joined
from brain_collector.storage.tables import system_events
from brain_collector.tail.commit_order import Piece, Span, refuse_other, span_of

EVENT_BYTES: Final = 300
"""Approximate size of an encoded event without its message and details."""

_columns: Final = system_events.c
_EPOCH: Final[Label[Any]] = literal_column(CURRENT).label("epoch")
_SIZE: Final = (
    func.octet_length(_columns.message) + func.coalesce(func.octet_length(cast(_columns.details, Text)), 0)
).label("size")


class Portion(NamedTuple):
    """Events of some pieces, in order, and these pieces."""

    events: list[Event]
    pieces: list[Piece]

    @property
    def span(self) -> Span:
        """The number of events in these pieces, without a filter, and their time range."""
        return span_of(self.pieces)


async def events(store: Reads, filter: Filter, arrived: list[Piece], max_bytes: int) -> AsyncIterator[Portion]:
    """Yield the events of these pieces that match the filter and still exist, in the order of the pieces.

    A portion has at most about `max_bytes`, or one event. So a burst of large events is never in memory as a whole.

    Raises:
        OtherEpoch: the server is of another epoch.
    """
    sizes = await _sizes(store, filter, arrived)
    for pieces, ids in _portions(arrived, sizes, max_bytes):
        by_id = {event.id: event for event in await _fetch(store, ids, pieces)} if ids else {}
        events = [by_id[id] for id in ids if id in by_id]
        yield Portion(await marked(events, filter.words) if filter.words else events, pieces)


async def _sizes(store: Reads, filter: Filter, arrived: list[Piece]) -> dict[int, int]:
    """Return the approximate size of every event that matches, as it will be encoded, by id."""
    sizes: dict[int, int] = {}
    for ranges in _ranges(arrived):
        query = select(_columns.id, _SIZE, _EPOCH).where(among(ranges), *conditions(filter))
        for row in await store.fetch(query):
            refuse_other(row.epoch, arrived[0].epoch)
            sizes[row.id] = row.size + EVENT_BYTES
    return sizes


async def _fetch(store: Reads, ids: list[int], pieces: list[Piece]) -> list[Event]:
    events: list[Event] = []
    for ranges in _ranges(pieces):
        is_one = _columns.id == any_(bindparam(None, ids, type_=ARRAY(BigInteger)))
        query = select(system_events, _EPOCH).where(among(ranges), is_one)
        rows = await store.fetch(query)
        if rows:
            refuse_other(rows[0].epoch, pieces[0].epoch)
        events += [to_event(row[:-1]) for row in rows]  # without the epoch
    return events


def _ranges(pieces: list[Piece]) -> Iterator[list[IdRange]]:
    ranges = list(joined(IdRange(piece.first_id, piece.last_id, piece.since, piece.until) for piece in pieces))
    for start in range(0, len(ranges), MAX_RANGES):
        yield ranges[start : start + MAX_RANGES]


def _portions(arrived: list[Piece], sizes: dict[int, int], max_bytes: int) -> Iterator[tuple[list[Piece], list[int]]]:
    """Cut pieces so that the events of each portion have at most `max_bytes`, or are one."""
    pieces: list[Piece] = []
    ids: list[int] = []
    n_bytes = 0
    for piece in arrived:
        first_id = piece.first_id
        for id in (id for id in range(piece.first_id, piece.last_id + 1) if id in sizes):
            if ids and n_bytes + sizes[id] > max_bytes:
                if first_id < id:
                    pieces.append(piece._replace(first_id=first_id, last_id=id - 1))
                yield pieces, ids
                pieces, ids, n_bytes, first_id = [], [], 0, id
            ids.append(id)
            n_bytes += sizes[id]
        pieces.append(piece._replace(first_id=first_id))
    yield pieces, ids
