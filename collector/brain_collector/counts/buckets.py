"""Counts of time buckets, by type or severity: whole hours and days from the kept counts, the rest from the events."""

from typing import Any, Final, Literal

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Select, Text, cast, func, literal_column, null, select, union_all

from brain_collector.counts.spans import DAY, spans
from brain_collector.query.filter import Filter, conditions, kinds
from brain_collector.storage.tables import event_counts, event_deltas, system_events

By = Literal["severity", "event_type", "source", "none"]

_EPOCH: Final[ColumnElement[Any]] = literal_column("timestamptz '1970-01-01 00:00:00Z'")


def is_kept(wanted: Filter) -> bool:
    """Tell whether counts are kept of what the filter asks for."""
    return msgspec.structs.replace(wanted, event_types=(), severities=(), since=None, until=None) == Filter()


def _start(moment: Any, step_s: int) -> ColumnElement[int]:
    """Return the start of the bucket in seconds: Postgres' calendar begins before Python's."""
    step = func.make_interval(0, 0, 0, 0, 0, 0, step_s)
    return cast(func.extract("epoch", func.date_bin(step, moment, _EPOCH)), BigInteger)


def buckets_of_events(wanted: Filter, step_s: int, by: By) -> Select[Any]:
    start, value = _start(system_events.c.timestamp, step_s).label("start"), _value(system_events.c, by).label("value")
    return select(start, value, func.count().label("n")).where(*conditions(wanted)).group_by("start", "value")


def buckets(wanted: Filter, step_s: int, by: By) -> Select[Any]:
    """Take whole hours (days, if the buckets are) from the counts and the journal, what sticks out from the events."""
    span = spans(wanted.since, wanted.until)
    days = (span.first_day, span.last_day) if step_s % (DAY.days * 86_400) == 0 else (span.last_hour, span.last_hour)
    parts = [
        _sums(event_counts, wanted, step_s, by, days[0], days[1], event_counts.c.grain == "day"),
        _sums(event_counts, wanted, step_s, by, span.first_hour, days[0], event_counts.c.grain == "hour"),
        _sums(event_counts, wanted, step_s, by, days[1], span.last_hour, event_counts.c.grain == "hour"),
        _sums(event_deltas, wanted, step_s, by, span.first_hour, span.last_hour),
        buckets_of_events(msgspec.structs.replace(wanted, since=span.start, until=span.first_hour), step_s, by),
        buckets_of_events(msgspec.structs.replace(wanted, since=span.last_hour, until=span.end), step_s, by),
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
