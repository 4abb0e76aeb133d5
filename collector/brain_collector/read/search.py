"""Search: the events that hold some words, newest first, from the ranges of ids that may have them.

The ranges are the blocks of the search index (`storage/search_index.py`) and the batches that are not indexed yet. They
are read in the order of their newest event. An event is returned as soon as no later range can hold a newer one, so a
page costs a few ranges however many events there are. When its time budget is spent, a page ends early, at a position
from which the next page resumes.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Text, TextClause, bindparam, text

from brain_collector.errors import QueryTooBroad, Unavailable
from brain_collector.query.cursor import Page, Position, position_of
from brain_collector.query.filter import Filter, in_order, matching
from brain_collector.query.matches import marked
from brain_collector.query.page_bytes import cut
from brain_collector.query.search_terms import Words
from brain_collector.read.store import NARROW, Store
from brain_collector.schema import Event
from brain_collector.storage import id_ranges
from brain_collector.storage.id_ranges import MAX_RANGES, IdRange, among, joined
from brain_collector.storage.search_index import EVERY_WORD

BUDGET_S: Final = 2.0
"""Time budget of a page: no further ranges are read after it."""
MAX_BUDGETS: Final = 4
"""Time budgets that a page may spend before it has made any progress."""
RETRY_AFTER_S: Final = 10
MAX_CANDIDATES: Final = 2_000
"""Maximum number of ranges that one statement returns."""
MAX_BATCH_IDS: Final = 1_000
"""Maximum number of ids in a range of batches, which has gaps of up to `MAX_GAP` ids and spans up to `MAX_SPAN`."""
MAX_GAP: Final = 50
MAX_SPAN: Final = timedelta(hours=1)
FIRST_RANGES: Final = 2
"""Number of ranges that are read first: enough for a common word."""
FEW_RANGES: Final = 64
"""Maximum number of ranges that are counted with one statement; beyond it, events are counted by time."""
_LATEST: Final = Position(datetime.max.replace(tzinfo=UTC), 2**63 - 1)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)

# One statement, so one snapshot: an event is in a block, or in a batch that is not indexed yet.
_WITHIN: Final = "max_ts >= :since AND min_ts <= :until AND (min_ts, first_id) < (:after_ts, :after_id)"
_CANDIDATES: Final = """
    WITH progress AS MATERIALIZED (SELECT * FROM search_progress), ranges AS (
        (SELECT first_id, last_id, min_ts, max_ts, true AS is_block FROM search_blocks
         WHERE ({holds} OR words @> '{{{every_word}}}') AND {within}
         ORDER BY max_ts DESC, last_id DESC LIMIT {limit})
        UNION ALL
        (SELECT first_id, first_id + n - 1, min_ts, max_ts, false FROM batches, progress
         WHERE batches.xid >= progress.xid::text::xid8
             AND (batches.xid::text::bigint, first_id + n - 1) > (progress.xid, progress.id) AND {within}
         ORDER BY max_ts DESC, first_id + n DESC LIMIT {limit})
    )
    SELECT ranges.*, progress.older_ts, progress.older_id FROM progress LEFT JOIN ranges ON true
    ORDER BY max_ts DESC NULLS LAST, last_id DESC LIMIT {limit}
"""


class Candidates(NamedTuple):
    """The ranges that may hold the words; if there is an `edge`, further events may be behind it.

    `is_building`: the edge is where the index that is being built ends.
    """

    ranges: list[IdRange]
    edge: Position | None
    is_building: bool


async def candidates(store: Store, filter: Filter, words: Words, after: Position | None = None) -> Candidates:
    """Return the ranges that may hold the words, in the descending order of their newest event."""
    rows = await store.search(_query(filter, words, after or _LATEST), NARROW)
    found = [row for row in rows if row.first_id]  # without any, there is one row with the progress alone
    blocks = [_range_of(row) for row in found if row.is_block]
    batches = [_range_of(row) for row in found if not row.is_block]
    edges = [_behind(_range_of(found[-1]))] if len(found) == MAX_CANDIDATES else []
    building = Position(rows[0].older_ts, rows[0].older_id) if rows[0].older_ts else None
    if building and building.timestamp >= (filter.since or _EARLIEST):
        edges.append(building)
    edge = max(edges, default=None)
    runs = joined(batches, max_ids=MAX_BATCH_IDS, max_gap=MAX_GAP, max_span=MAX_SPAN)
    ranges = blocks + [part for run in runs for part in id_ranges.cut(run, MAX_BATCH_IDS)]
    return Candidates(sorted(ranges, key=_behind, reverse=True), edge, edge is not None and edge == building)


def _range_of(row: Any) -> IdRange:
    return IdRange(row.first_id, row.last_id, row.min_ts, row.max_ts)


async def all_candidates(store: Store, filter: Filter, words: Words) -> list[IdRange] | None:
    """Return every range that may hold the words, or None if there are many or not all are known."""
    ranges, edge, _ = await candidates(store, filter, words)
    return ranges if edge is None and len(ranges) <= FEW_RANGES else None


async def search(
    store: Store, filter: Filter, words: Words, *, limit: int, max_bytes: int, after: Position | None
) -> Page:
    """Read ranges until the page is full or its time is spent; then all matches down to `edge` are known.

    Of events that exceed `max_bytes` together only the newest are kept, down to `cut_at`.

    Raises:
        QueryTooBroad: a page that makes no progress spent all its time.
        Unavailable: the page needs events that are not indexed yet.
    """
    ranges, last_edge, is_building = await candidates(store, filter, words, after)
    began_s = time.monotonic()
    events: list[Event] = []
    start, size, edge, cut_at = 0, FIRST_RANGES, last_edge, None
    while start < len(ranges):
        query = in_order(matching(filter, after).where(among(ranges[start : start + size]))).limit(limit + 1)
        query_began_s = time.monotonic()
        try:
            found = await store.first(query, max_bytes)
        except QueryTooBroad:
            if size == 1:
                raise
            size = 1
            continue
        events, rest = cut(_merged(events, found.events)[: limit + 1], max_bytes)
        cut_at = _latest(cut_at, found.after, rest)
        start, is_slow = start + size, time.monotonic() - query_began_s > BUDGET_S / 4
        size = max(1, size // 2) if is_slow else min(MAX_RANGES, 4 * size)
        unread = ranges[start] if start < len(ranges) else None
        edge = _latest(last_edge, cut_at, unread and _behind(unread))
        if edge in {last_edge, cut_at} or len(_before(events, edge)) > limit or _is_time_spent(began_s, edge, after):
            break
    known = _before(events, edge)
    events = await marked(known[:limit], words)
    if len(known) > limit:
        return Page(events, position_of(events[-1]))
    if edge is not None and not events and edge == last_edge and is_building:
        raise Unavailable(
            f"events before {edge.timestamp.isoformat()} cannot be searched yet: they are still being indexed; "
            "try again later, or limit the search with `from`",
            retry_after_s=RETRY_AFTER_S,
        )
    if edge is not None and after is not None and edge >= after:
        raise _too_broad()
    return Page(events, edge)


def _is_time_spent(began_s: float, edge: Position | None, after: Position | None) -> bool:
    """Return whether the time is spent. A page without progress gets more: the next one would get no further."""
    spent_s = time.monotonic() - began_s
    has_progress = edge is None or after is None or edge < after
    if spent_s > MAX_BUDGETS * BUDGET_S and not has_progress:
        raise _too_broad()
    return has_progress and spent_s > BUDGET_S


def _too_broad() -> QueryTooBroad:
    return QueryTooBroad(
        f"too many events with the same timestamp may hold these words; {NARROW}, or by type, severity or source"
    )


def _latest(*positions: Position | None) -> Position | None:
    return max((each for each in positions if each), default=None)


def _merged(events: list[Event], more: Iterable[Event]) -> list[Event]:
    """Return both in order, each event once."""
    by_id = {event.id: event for event in (*events, *more)}
    return sorted(by_id.values(), key=position_of, reverse=True)


def _before(events: list[Event], edge: Position | None) -> list[Event]:
    """Return the events that are newer than everything that was not read."""
    return events if edge is None else [event for event in events if position_of(event) >= edge]


def _behind(each: IdRange) -> Position:
    """Return a position that all events of the range come after."""
    return Position(each.until, each.last_id + 1)


def _query(filter: Filter, words: Words, after: Position) -> TextClause:
    groups = [" ".join(word for term in group for word in term.words) for group in words.required]
    holds = " OR ".join(f"words @> word_hashes(to_tsvector('simple', :words_{n}))" for n in range(len(groups)))
    times = {
        "since": filter.since or _EARLIEST,
        "until": min(filter.until or after.timestamp, after.timestamp),
        "after_ts": after.timestamp,
    }
    holds = holds if all(groups) else "true"
    sql = text(_CANDIDATES.format(holds=holds, within=_WITHIN, limit=MAX_CANDIDATES, every_word=EVERY_WORD))
    return sql.bindparams(
        *(bindparam(name, moment, DateTime(timezone=True)) for name, moment in times.items()),
        bindparam("after_id", after.id, BigInteger()),
        *(bindparam(f"words_{n}", group, Text()) for n, group in enumerate(groups) if all(groups)),
    )
