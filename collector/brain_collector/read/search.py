"""Search: events that hold words, newest first, from the blocks that may have them (`indexer.py` makes those).

Blocks come in the order of their newest event. What is found is shown as soon as no later block can hold anything
newer, so a page costs a few blocks however many events there are. When the time is spent, the page ends early: at a
position, where the next one goes on.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, DateTime, Text, TextClause, bindparam, text

from brain_collector.errors import QueryTooBroad, Unavailable
from brain_collector.query.cursor import Page, Position, position_of
from brain_collector.query.filter import Filter, in_order, matching
from brain_collector.query.search_terms import Words, mark
from brain_collector.read.store import Store, to_event
from brain_collector.schema import Event
from brain_collector.storage.id_ranges import MAX_BOXES, Box, among, cut, joined

BUDGET_S: Final = 2.0
"""How long boxes are begun with."""
MOST_BUDGETS: Final = 4
"""How many of these a page may take that has not got past the one before."""
RETRY_AFTER_S: Final = 10
MOST_BOXES: Final = 2_000
"""Most that are asked for at once."""
MOST_IDS: Final = 1_000
"""Most ids of waiting batches in a box, with at most `GAP_IDS` of others between, and times at most `SPAN` apart."""
GAP_IDS: Final = 50
SPAN: Final = timedelta(hours=1)
FIRST_BOXES: Final = 2
"""How many are looked into first: of a common word, that is enough."""
FEW_BOXES: Final = 64
"""Most that are counted in with one statement; beyond, it is counted by time."""
_LAST: Final = Position(datetime.max.replace(tzinfo=UTC), 2**63 - 1)
_EVER: Final = datetime.min.replace(tzinfo=UTC)
_REMEDY: Final = "narrow it with `from` and `to`"

# One statement, so one snapshot: an event is in a block, or in a batch that no block was made of yet.
_WITHIN: Final = "max_ts >= :since AND min_ts <= :until AND (min_ts, first_id) < (:after_ts, :after_id)"
_BOXES: Final = """
    WITH progress AS MATERIALIZED (SELECT * FROM search_progress), boxes AS (
        (SELECT first_id, last_id, min_ts, max_ts, true AS is_block FROM search_blocks
         WHERE ({holds}) AND {within}
         ORDER BY max_ts DESC, last_id DESC LIMIT {most})
        UNION ALL
        (SELECT first_id, first_id + n - 1, min_ts, max_ts, false FROM batches, progress
         WHERE batches.xid >= progress.xid::text::xid8
             AND (batches.xid::text::bigint, first_id + n - 1) > (progress.xid, progress.id) AND {within}
         ORDER BY max_ts DESC, first_id + n DESC LIMIT {most})
    )
    SELECT boxes.*, progress.older_ts, progress.older_id FROM progress LEFT JOIN boxes ON true
    ORDER BY max_ts DESC NULLS LAST, last_id DESC LIMIT {most}
"""


class Places(NamedTuple):
    """Boxes that may hold what is wanted; what is not in them comes behind `edge`, if there is one.

    `is_building`: it is there because the index is.
    """

    boxes: list[Box]
    edge: Position | None
    is_building: bool


async def places(store: Store, wanted: Filter, words: Words, after: Position | None = None) -> Places:
    """Return where the words may be, what has the newest event first."""
    rows = await store.search(_query(wanted, words, after or _LAST), _REMEDY)
    found = [(Box(row.first_id, row.last_id, row.min_ts, row.max_ts), row.is_block) for row in rows if row.first_id]
    edges = [_behind(found[-1][0])] if len(found) == MOST_BOXES else []
    building = Position(rows[0].older_ts, rows[0].older_id) if rows[0].older_ts else None
    if building and building.timestamp >= (wanted.since or _EVER):
        edges.append(building)
    edge = max(edges, default=None)
    waiting = joined((box for box, is_block in found if not is_block), most_ids=MOST_IDS, gap=GAP_IDS, span=SPAN)
    boxes = [box for box, is_block in found if is_block] + [part for run in waiting for part in cut(run, MOST_IDS)]
    return Places(sorted(boxes, key=_behind, reverse=True), edge, edge is not None and edge == building)


async def all_places(store: Store, wanted: Filter, words: Words) -> list[Box] | None:
    """Return every box that may hold the words, None if they are many or not all known."""
    boxes, edge, _ = await places(store, wanted, words)
    return boxes if edge is None and len(boxes) <= FEW_BOXES else None


async def search(store: Store, wanted: Filter, words: Words, limit: int, after: Position | None) -> Page:
    """Go through the boxes until the page is full or the time is spent; all down to `edge` is found by then."""
    boxes, last_edge, is_building = await places(store, wanted, words, after)
    began_s = time.monotonic()
    found: list[Event] = []
    start, size, edge = 0, FIRST_BOXES, last_edge
    while start < len(boxes):
        query = in_order(matching(wanted, after).where(among(boxes[start : start + size]))).limit(limit + 1)
        asked_s = time.monotonic()
        try:
            rows = await store.search(query, _REMEDY)
        except QueryTooBroad:
            if size == 1:
                raise
            size = 1
            continue
        found = _newest(found, map(to_event, rows))[: limit + 1]
        start, is_slow = start + size, time.monotonic() - asked_s > BUDGET_S / 4
        size = max(1, size // 2) if is_slow else min(MAX_BOXES, 4 * size)
        ahead = [last_edge, *map(_behind, boxes[start : start + 1])]
        edge = max(filter(None, ahead), default=None)
        if edge == last_edge or len(_known(found, edge)) > limit or _is_late(began_s, edge, after):
            break
    known = _known(found, edge)
    shown = []
    for event in known[:limit]:
        shown.append(mark(event, words))
        await asyncio.sleep(0)  # large events, many words: others have their turn
    if len(known) > limit:
        return Page(shown, position_of(shown[-1]))
    if edge is not None and not shown and edge == last_edge and is_building:
        raise Unavailable(
            f"events before {edge.timestamp.isoformat()} cannot be searched yet, their words are being gathered; "
            "try again later, or search with `from`",
            retry_after_s=RETRY_AFTER_S,
        )
    if edge is not None and after is not None and edge >= after:
        raise _too_broad()
    return Page(shown, edge)


def _is_late(began_s: float, edge: Position | None, after: Position | None) -> bool:
    """Tell whether the time is spent; a page that got nowhere has some more, as the next one would get no further."""
    spent_s = time.monotonic() - began_s
    is_further = edge is None or after is None or edge < after
    if spent_s > MOST_BUDGETS * BUDGET_S and not is_further:
        raise _too_broad()
    return is_further and spent_s > BUDGET_S


def _too_broad() -> QueryTooBroad:
    return QueryTooBroad(f"too many events of one time may hold these words; {_REMEDY}, or by type, severity or source")


def _newest(found: list[Event], more: Iterable[Event]) -> list[Event]:
    """Return both in order, each event once."""
    each = {event.id: event for event in (*found, *more)}
    return sorted(each.values(), key=position_of, reverse=True)


def _known(found: list[Event], edge: Position | None) -> list[Event]:
    """Return what is newer than all that was not looked at."""
    return found if edge is None else [event for event in found if position_of(event) >= edge]


def _behind(box: Box) -> Position:
    """Return the position that the events of this box come behind."""
    return Position(box.until, box.last_id + 1)


def _query(wanted: Filter, words: Words, after: Position) -> TextClause:
    groups = [" ".join(word for term in group for word in term.words) for group in words.wanted]
    holds = " OR ".join(f"words @> word_hashes(to_tsvector('simple', :words_{n}))" for n in range(len(groups)))
    times = {
        "since": wanted.since or _EVER,
        "until": min(wanted.until or after.timestamp, after.timestamp),
        "after_ts": after.timestamp,
    }
    sql = text(_BOXES.format(holds=holds if all(groups) else "true", within=_WITHIN, most=MOST_BOXES))
    return sql.bindparams(
        *(bindparam(name, moment, DateTime(timezone=True)) for name, moment in times.items()),
        bindparam("after_id", after.id, BigInteger()),
        *(bindparam(f"words_{n}", group, Text()) for n, group in enumerate(groups) if all(groups)),
    )
