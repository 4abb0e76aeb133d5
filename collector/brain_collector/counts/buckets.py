"""Counts of time buckets, by type or severity: whole hours and days from the kept counts, the rest from the events."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Select, Text, cast, func, literal_column, null, select

from brain_collector.counts.legs import FullDays, Grouping, full_days, legs
from brain_collector.counts.spans import DAY, Spans, spans
from brain_collector.query.filter import Filter, conditions
from brain_collector.storage.tables import system_events

By = Literal["severity", "event_type", "source", "none"]

_EPOCH: Final[ColumnElement[Any]] = literal_column("timestamptz '1970-01-01 00:00:00Z'")


def is_kept(filter: Filter) -> bool:
    """Return whether counts are kept for the filter: they know types, severities and times only."""
    return msgspec.structs.replace(filter, event_types=(), severities=(), since=None, until=None) == Filter()


def buckets(filter: Filter, step_s: int, by: By, on_full_days: FullDays = "none") -> Select[Any]:
    """Return the query for rows of `start`, `value`, `n`. Days are used if the buckets are whole days, else hours."""
    span = _span(filter, step_s)
    counted = legs(span, filter, _grouping(step_s, by), on_full_days)
    n = func.sum(counted.c.n)
    return select(counted.c.start, counted.c.value, n.label("n")).group_by("start", "value").having(n != 0)


def has_full_days(filter: Filter, step_s: int) -> ColumnElement[bool]:
    """Return whether `buckets` reads counts of days on which some types have no name."""
    return full_days(_span(filter, step_s)).exists()


def buckets_of_events(filter: Filter, step_s: int, by: By) -> Select[Any]:
    """Return the query for rows of `start`, `value`, `n`, counted from the events alone; any filter will do."""
    columns = _grouping(step_s, by)(system_events.c, system_events.c.timestamp)
    return select(*columns, func.count().label("n")).where(*conditions(filter)).group_by("start", "value")


def _span(filter: Filter, step_s: int) -> Spans:
    span = spans(filter.since, filter.until)
    return span if step_s % int(DAY.total_seconds()) == 0 else span.without_days()


def _grouping(step_s: int, by: By) -> Grouping:
    return lambda columns, time: (_start(time, step_s).label("start"), _value(columns, by).label("value"))


def _start(time: ColumnElement[datetime], step_s: int) -> ColumnElement[int]:
    """Return the start of the bucket in seconds of the Unix epoch: Postgres' calendar begins before Python's."""
    step = func.make_interval(0, 0, 0, 0, 0, 0, step_s)
    return cast(func.extract("epoch", func.date_bin(step, time, _EPOCH)), BigInteger)


def _value(columns: Any, by: By) -> ColumnElement[Any]:
    return cast(null(), Text()) if by == "none" else columns[by]
