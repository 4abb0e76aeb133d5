"""Counts of events over time and by value: from the kept counts where possible, otherwise from the events.

Postgres adds up the counts and returns the most frequent values and the rest, so the answer is bounded whatever is
counted. Events are counted newest first, one part of the time range per statement, until the time budget is spent. A
range that is too large gets a partial result, which says from which time on it is complete.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Select, SelectBase, func, literal_column, select, true

from brain_collector.counts.buckets import By, buckets, buckets_of_events, has_full_days, is_kept
from brain_collector.counts.leading import leading
from brain_collector.counts.legs import FullDays
from brain_collector.counts.spans import DAY, HOUR
from brain_collector.counts.tally import FieldCounts, Tally
from brain_collector.counts.totals import kinds_of
from brain_collector.errors import QueryTooBroad
from brain_collector.query.filter import Filter, conditions
from brain_collector.read import search
from brain_collector.read.store import Store
from brain_collector.storage.id_ranges import among
from brain_collector.storage.tables import system_events
from brain_events.wire import SEVERITIES

MAX_COUNTS: Final = 100_000
"""Maximum number of counts (of a value in a bucket) that one statement returns, if it may list `MIN_VALUES`."""
MIN_VALUES: Final = 50
MAX_VALUES: Final = 1_000
"""Maximum number of values that are counted by name; the others are added up."""
VALUE_BYTES: Final = 512
COUNT_BYTES: Final = 32
"""Size of a value, and of its count in one bucket, that is reserved for the response."""
FIRST_PART: Final = timedelta(hours=1)
FIRST_SEARCH_PART: Final = timedelta(minutes=1)
GROWTH: Final = 4
BUDGET_S: Final = 2.0
"""Time budget: no further part is begun after it; the last one may take up to the read deadline."""
_MAX_AHEAD: Final = timedelta(days=2)
"""No event is further ahead of the clock."""
_MAX_PART: Final = timedelta(days=10_000 * 366)
_REMEDY: Final = "narrow it with `from` and `to`"
DAY_S: Final = int(DAY.total_seconds())
_ONE_BUCKET: Final[ColumnElement[int]] = literal_column("0").label("start")


class Counted(NamedTuple):
    """Counts of fields; they are complete from `since` on."""

    fields: dict[str, FieldCounts]
    since: datetime


def max_values(by: By, n_buckets: int) -> int:
    """Return the maximum number of values that a histogram counts by name."""
    few = {"severity": len(SEVERITIES), "none": 1}
    return few.get(by, max(MIN_VALUES, min(MAX_VALUES, MAX_COUNTS // max(n_buckets, 1))))


def max_bytes(n_values: int, n_buckets: int = 1) -> int:
    """Return the maximum size of the counts of values."""
    return n_values * (VALUE_BYTES + n_buckets * COUNT_BYTES)


async def histogram(store: Store, filter: Filter, *, step_s: int, by: By, n_buckets: int) -> Counted:
    """Return the counts of the field `value` by bucket, as seconds of the Unix epoch. The filter has both ends.

    Raises:
        QueryTooBroad: the kept counts could not be read in time.
        Unavailable: the database is unavailable.
    """
    fields = ["value"]
    most = max_values(by, n_buckets)
    if step_s % HOUR.seconds == 0 and by != "source" and is_kept(filter):

        def kept(on_full_days: FullDays) -> SelectBase:
            return leading(buckets(filter, step_s, by, on_full_days), fields, most)

        needs_types = by == "event_type" or bool(filter.event_types)
        counted = await _count_kept(store, filter, kept, fields, step_s=step_s, needs_types=needs_types)
        if counted is not None:
            return counted
    return await _count_in_parts(store, filter, lambda part: buckets_of_events(part, step_s, by), fields, most)


async def kept_values(store: Store, filter: Filter) -> Counted | None:
    """Return the kept counts of the fields `severity` and `event_type`; None if there are none for the filter.

    Raises as `histogram` does.
    """
    if not is_kept(filter):
        return None
    fields = ["severity", "event_type"]

    def kept(on_full_days: FullDays) -> SelectBase:
        kinds = kinds_of(filter, on_full_days).subquery()
        return leading(select(_ONE_BUCKET, *kinds.c), fields, MAX_VALUES)

    return await _count_kept(store, filter, kept, fields, step_s=DAY_S, needs_types=True)


async def values(store: Store, filter: Filter) -> Counted:
    """Return the counts of the fields `severity`, `event_type` and `source`, counted from the events.

    Raises as `histogram` does.
    """
    events = system_events.c
    columns = events.severity, events.event_type, events.source

    def groups(part: Filter) -> Select[Any]:
        return select(_ONE_BUCKET, *columns, func.count().label("n")).where(*conditions(part)).group_by(*columns)

    return await _count_in_parts(store, filter, groups, [column.name for column in columns], MAX_VALUES)


async def _count_kept(
    store: Store,
    filter: Filter,
    query: Callable[[FullDays], SelectBase],
    fields: Sequence[str],
    *,
    step_s: int,
    needs_types: bool,
) -> Counted | None:
    """Return kept counts. If some types have no name on a day, the events of that day are counted.

    None: they are too many.
    """
    assert filter.since
    rows = query("none").subquery("counted_rows")
    state = select(has_full_days(filter, step_s).label("has_full_days")).subquery("state")
    found = await store.search(
        select(state.c.has_full_days, *rows.c).join_from(state, rows, true(), isouter=True), _REMEDY
    )
    counted_rows = [row[1:] for row in found if row.field is not None]
    if needs_types and found[0].has_full_days:
        try:
            counted_rows = await store.search(query("events"), _REMEDY)
        except QueryTooBroad:
            return None
    tally = Tally(fields, MAX_VALUES)
    tally.add(counted_rows)
    return Counted(tally.counts, filter.since)


async def _count_in_parts(
    store: Store, filter: Filter, groups: Callable[[Filter], Select[Any]], fields: Sequence[str], most: int
) -> Counted:
    """Count part by part, backwards from the newest; parts grow while they are fast.

    Words that are rare are counted with one statement, in the ranges of ids that may hold them.
    """
    assert filter.since
    assert filter.until
    tally = Tally(fields, most)
    if filter.words is not None and (ranges := await search.all_candidates(store, filter, filter.words)) is not None:
        with suppress(QueryTooBroad):  # large events; part by part, some of them are counted
            if ranges:
                tally.add(await store.search(leading(groups(filter).where(among(ranges)), fields, most), _REMEDY))
            return Counted(tally.counts, filter.since)
    end = max(min(filter.until, datetime.now(UTC) + _MAX_AHEAD), filter.since)
    span = FIRST_PART if filter.words is None else FIRST_SEARCH_PART
    last_start_s = time.monotonic() + BUDGET_S
    while end > filter.since:
        start = filter.since if end - filter.since <= span else end - span
        began_s = time.monotonic()
        part = groups(msgspec.structs.replace(filter, since=start, until=end))
        try:
            await _add_part(store, tally, part, fields, most)
        except QueryTooBroad:
            break
        end = start
        now_s = time.monotonic()
        if now_s > last_start_s:
            break
        if now_s - began_s < BUDGET_S / 10:
            span = min(span * GROWTH, _MAX_PART)
    return Counted(tally.counts, end)


async def _add_part(store: Store, tally: Tally, groups: Select[Any], fields: Sequence[str], most: int) -> None:
    rows = await store.search(leading(groups, fields, most, tally.known), _REMEDY)
    if tally.is_cut(rows):
        rows = await store.search(leading(groups, fields, most, tally.known), _REMEDY)
    tally.add(rows)
