"""Counts of events over time and by value: from the kept counts where possible, otherwise from the events.

Events are counted newest first, one part of the time range per statement, until the time budget is spent. A range that
is too large gets a partial result, which says from which time on it is complete.
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

MAX_GROUPS: Final = 100_000
"""Maximum number of groups (a bucket and a value) that one statement may return."""
FIRST_PART: Final = timedelta(hours=1)
FIRST_SEARCH_PART: Final = timedelta(minutes=1)
GROWTH: Final = 4
BUDGET_S: Final = 2.0
"""Time budget: no further part is begun after it; the last one may take up to the read deadline."""
_MAX_AHEAD: Final = timedelta(days=2)
"""No event is further ahead of the clock."""
_MAX_PART: Final = timedelta(days=10_000 * 366)
_REMEDY: Final = "narrow it with `from` and `to`"


class Counted(NamedTuple):
    """Counts by group; they are complete from `since` on."""

    groups: Counter[tuple[Any, ...]]
    since: datetime


async def histogram(store: Store, filter: Filter, *, step_s: int, by: By) -> Counted:
    """Return counts by (start of the bucket in seconds of the Unix epoch, value). The filter has `since` and `until`.

    Raises:
        QueryTooBroad: there are more than `MAX_GROUPS` groups.
        Unavailable: the database is unavailable.
    """
    assert filter.since
    if step_s % HOUR.seconds == 0 and by != "source" and is_kept(filter):
        rows = await store.search(_limited(buckets(filter, step_s, by)), _REMEDY)
        return Counted(_add(Counter(), rows), filter.since)
    return await _count_in_parts(store, filter, lambda part: buckets_of_events(part, step_s, by))


async def values(store: Store, filter: Filter) -> tuple[Counter[tuple[Any, ...]] | None, Counted]:
    """Return the kept counts by (type, severity), None if there are none; and counts by (type, severity, source).

    The latter are counted from the events, so they may be partial. Raises as `histogram` does.
    """
    kept = None
    if is_kept(filter):
        rows = await store.search(totals(filter, datetime.now(UTC)), _REMEDY)
        kept = Counter({(row.event_type, row.severity): int(row.n) for row in rows})
    events = system_events.c
    columns = events.event_type, events.severity, events.source
    return kept, await _count_in_parts(
        store,
        filter,
        lambda part: select(*columns, func.count().label("n")).where(*conditions(part)).group_by(*columns),
    )


async def _count_in_parts(store: Store, filter: Filter, query: Callable[[Filter], Select[Any]]) -> Counted:
    """Count part by part, backwards from the newest; parts grow while they are fast.

    Words that are rare are counted with one statement, in the ranges of ids that may hold them.
    """
    assert filter.since
    assert filter.until
    if filter.words is not None and (ranges := await search.all_candidates(store, filter, filter.words)) is not None:
        with suppress(QueryTooBroad):  # large events; part by part, some of them are counted
            rows = await store.search(_limited(query(filter).where(among(ranges))), _REMEDY) if ranges else []
            return Counted(_add(Counter(), rows), filter.since)
    groups: Counter[tuple[Any, ...]] = Counter()
    end = max(min(filter.until, datetime.now(UTC) + _MAX_AHEAD), filter.since)
    span = FIRST_PART if filter.words is None else FIRST_SEARCH_PART
    last_start_s = time.monotonic() + BUDGET_S
    while end > filter.since:
        start = filter.since if end - filter.since <= span else end - span
        began_s = time.monotonic()
        part = msgspec.structs.replace(filter, since=start, until=end)
        try:
            rows = await store.search(_limited(query(part)), _REMEDY)
        except QueryTooBroad:
            break
        groups = _add(groups, rows)
        end = start
        now_s = time.monotonic()
        if now_s > last_start_s:
            break
        if now_s - began_s < BUDGET_S / 10:
            span = min(span * GROWTH, _MAX_PART)
    return Counted(groups, end)


def _limited(query: Select[Any]) -> Select[Any]:
    return query.limit(MAX_GROUPS + 1)


def _add(groups: Counter[tuple[Any, ...]], rows: Iterable[Any]) -> Counter[tuple[Any, ...]]:
    """Add rows whose last column is a count."""
    for *group, n in rows:
        groups[tuple(group)] += int(n)
    if len(groups) > MAX_GROUPS:
        raise QueryTooBroad(f"there are more than {MAX_GROUPS:,} groups to count; use a larger `step`, or {_REMEDY}")
    return groups
