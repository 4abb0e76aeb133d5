"""Counts of events over time and by value: of hours and days from the kept counts, of all else from the events.

What has to be counted from the events is counted newest first, a piece of the time range a statement, for as long as
the time lasts: a range that is too large is answered in part, and says from when on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Select, func, select

from brain_collector.counts.buckets import By, buckets, buckets_of_events, is_kept
from brain_collector.counts.spans import HOUR
from brain_collector.counts.totals import totals
from brain_collector.errors import QueryTooBroad
from brain_collector.query.filter import Filter, conditions
from brain_collector.read import search
from brain_collector.read.store import Store
from brain_collector.storage.id_ranges import among
from brain_collector.storage.tables import system_events

MOST_GROUPS: Final = 100_000
"""Most groups (a bucket and a value) that one statement may find."""
FIRST_PIECE: Final = timedelta(hours=1)
FIRST_SEARCH: Final = timedelta(minutes=1)
GROWTH: Final = 4
BUDGET_S: Final = 2.0
"""How long pieces are begun; the last one ends with the read deadline."""
_AHEAD: Final = timedelta(days=2)
"""No event is further ahead of the clock."""
_MOST: Final = timedelta(days=10_000 * 366)
_REMEDY: Final = "narrow it with `from` and `to`"


class Counted(NamedTuple):
    """Counts by group; `since` is the moment from which on they are whole."""

    groups: Counter[tuple[Any, ...]]
    since: datetime


async def histogram(store: Store, wanted: Filter, *, step_s: int, by: By) -> Counted:
    """Return counts by (start of the bucket in seconds of the Unix epoch, value). The filter has both its ends.

    Raises:
        QueryTooBroad: there are more than `MOST_GROUPS` groups.
        Unavailable: the database is.
    """
    assert wanted.since
    if step_s % HOUR.seconds == 0 and by != "source" and is_kept(wanted):
        rows = await store.search(_limited(buckets(wanted, step_s, by)), _REMEDY)
        return Counted(_added(Counter(), rows), wanted.since)
    return await _pieces(store, wanted, lambda piece: buckets_of_events(piece, step_s, by))


async def values(store: Store, wanted: Filter) -> tuple[Counter[tuple[Any, ...]] | None, Counted]:
    """Return counts by (type, severity), None unless they are kept; then by (type, severity, source) from the events.

    Raises: as for `histogram`.
    """
    kept = None
    if is_kept(wanted):
        found = await store.search(totals(wanted, datetime.now(UTC)), _REMEDY)
        kept = Counter({(row.event_type, row.severity): int(row.n) for row in found})
    events = system_events.c
    columns = events.event_type, events.severity, events.source
    return kept, await _pieces(
        store,
        wanted,
        lambda piece: select(*columns, func.count().label("n")).where(*conditions(piece)).group_by(*columns),
    )


async def _pieces(store: Store, wanted: Filter, query: Callable[[Filter], Select[Any]]) -> Counted:
    """Count piece by piece, from the newest back, each the larger the faster it goes; rare words, where they may be."""
    assert wanted.since
    assert wanted.until
    if wanted.words is not None and (boxes := await search.all_places(store, wanted, wanted.words)) is not None:
        with suppress(QueryTooBroad):  # large events; piece by piece, some of them are counted
            rows = await store.search(_limited(query(wanted).where(among(boxes))), _REMEDY) if boxes else []
            return Counted(_added(Counter(), rows), wanted.since)
    groups: Counter[tuple[Any, ...]] = Counter()
    end = max(min(wanted.until, datetime.now(UTC) + _AHEAD), wanted.since)
    span = FIRST_PIECE if wanted.words is None else FIRST_SEARCH
    give_up_at_s = time.monotonic() + BUDGET_S
    while end > wanted.since:
        start = wanted.since if end - wanted.since <= span else end - span
        began_s = time.monotonic()
        piece = msgspec.structs.replace(wanted, since=start, until=end)
        try:
            rows = await store.search(_limited(query(piece)), _REMEDY)
        except QueryTooBroad:
            break
        groups = _added(groups, rows)
        end = start
        now_s = time.monotonic()
        if now_s > give_up_at_s:
            break
        if now_s - began_s < BUDGET_S / 10:
            span = min(span * GROWTH, _MOST)
    return Counted(groups, end)


def _limited(query: Select[Any]) -> Select[Any]:
    return query.limit(MOST_GROUPS + 1)


def _added(groups: Counter[tuple[Any, ...]], rows: Iterable[Any]) -> Counter[tuple[Any, ...]]:
    """Add rows whose last column is a count."""
    for *group, n in rows:
        groups[tuple(group)] += int(n)
    if len(groups) > MOST_GROUPS:
        raise QueryTooBroad(f"there are more than {MOST_GROUPS:,} groups to count; take a larger `step`, or narrow it")
    return groups
