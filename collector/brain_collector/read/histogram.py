"""Counts of events over time and by value: of hours and days from the kept counts, of all else from the events.

What has to be counted from the events is counted newest first, a piece of the time range a statement, for as long as
the time lasts: a range that is too large is answered in part, and says from when on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Select, Text, cast, func, literal_column, null, select, union_all

from brain_collector.counts.totals import DAY, HOUR, spans, totals
from brain_collector.errors import QueryTooBroad
from brain_collector.query.filter import Filter, conditions, kinds
from brain_collector.read import search
from brain_collector.read.store import Store
from brain_collector.storage.id_ranges import among
from brain_collector.storage.tables import event_counts, event_deltas, system_events

By = Literal["severity", "event_type", "source", "none"]

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
_EPOCH: Final[ColumnElement[Any]] = literal_column("timestamptz '1970-01-01 00:00:00Z'")


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
        rows = await store.search(_limited(_kept(wanted, step_s, by)), _REMEDY)
        return Counted(_added(Counter(), rows), wanted.since)
    return await _pieces(store, wanted, lambda piece: _buckets_of_events(piece, step_s, by))


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


def is_kept(wanted: Filter) -> bool:
    """Tell whether counts are kept of what the filter asks for."""
    return msgspec.structs.replace(wanted, event_types=(), severities=(), since=None, until=None) == Filter()


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


def _start(moment: Any, step_s: int) -> ColumnElement[int]:
    """Return the start of the bucket in seconds: Postgres' calendar begins before Python's."""
    step = func.make_interval(0, 0, 0, 0, 0, 0, step_s)
    return cast(func.extract("epoch", func.date_bin(step, moment, _EPOCH)), BigInteger)


def _buckets_of_events(wanted: Filter, step_s: int, by: By) -> Select[Any]:
    start, value = _start(system_events.c.timestamp, step_s).label("start"), _value(system_events.c, by).label("value")
    return select(start, value, func.count().label("n")).where(*conditions(wanted)).group_by("start", "value")


def _kept(wanted: Filter, step_s: int, by: By) -> Select[Any]:
    """Take whole hours (days, if the buckets are) from the counts and the journal, what sticks out from the events."""
    span = spans(wanted.since, wanted.until)
    days = (span.first_day, span.last_day) if step_s % (DAY.days * 86_400) == 0 else (span.last_hour, span.last_hour)
    parts = [
        _sums(event_counts, wanted, step_s, by, days[0], days[1], event_counts.c.grain == "day"),
        _sums(event_counts, wanted, step_s, by, span.first_hour, days[0], event_counts.c.grain == "hour"),
        _sums(event_counts, wanted, step_s, by, days[1], span.last_hour, event_counts.c.grain == "hour"),
        _sums(event_deltas, wanted, step_s, by, span.first_hour, span.last_hour),
        _buckets_of_events(msgspec.structs.replace(wanted, since=span.start, until=span.first_hour), step_s, by),
        _buckets_of_events(msgspec.structs.replace(wanted, since=span.last_hour, until=span.end), step_s, by),
    ]
    found = union_all(*parts).subquery("found")
    n = func.sum(found.c.n)
    return select(found.c.start, found.c.value, n).group_by(found.c.start, found.c.value).having(n != 0)


def _sums(table: Any, wanted: Filter, step_s: int, by: By, start: Any, end: Any, *grain: Any) -> Select[Any]:
    bucket, value = _start(table.c.bucket, step_s).label("start"), _value(table.c, by).label("value")
    within = table.c.bucket >= start, table.c.bucket < end
    where = *grain, *within, *kinds(wanted, table.c)
    return select(bucket, value, func.sum(table.c.n).label("n")).where(*where).group_by("start", "value")


def _value(columns: Any, by: By) -> ColumnElement[Any]:
    return cast(null(), Text()) if by == "none" else columns[by]
