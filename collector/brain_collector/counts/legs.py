"""Exact counts of a time range: whole days and hours from the kept counts, the rest from the events, in one statement.

Every query for counts goes through `legs`: one statement is one snapshot, so no event is missed or counted twice while
the journal is folded or events are written.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, func, select, union_all

from brain_collector.counts.spans import Spans
from brain_collector.query.filter import Filter, kinds
from brain_collector.storage.tables import event_counts, event_deltas, system_events

Grouping = Callable[[Any, ColumnElement[datetime]], tuple[ColumnElement[Any], ...]]
"""Returns the named columns to count by, from the columns of a table and its time."""

whole_hours, whole_days = event_counts.c.grain == "hour", event_counts.c.grain == "day"


def legs(span: Spans, filter: Filter, grouping: Grouping) -> FromClause:
    """Return rows of the columns of `grouping` and of `n`; the sums of `n` by these columns are the exact counts.

    Only the types and severities of the filter are used; the time range is that of the span.
    """
    return union_all(
        _folded(span.first_day, span.last_day, whole_days, filter, grouping),
        _folded(span.first_hour, span.first_day, whole_hours, filter, grouping),
        _folded(span.last_day, span.last_hour, whole_hours, filter, grouping),
        _journaled(span.first_hour, span.last_hour, filter, grouping),
        _events(span.start, span.first_hour, filter, grouping),
        _events(span.last_hour, span.end, filter, grouping),
    ).subquery()


def _folded(
    start: datetime, end: datetime, grain: ColumnElement[bool], filter: Filter, grouping: Grouping
) -> Select[Any]:
    counts = event_counts.c
    return _leg(event_counts, counts.bucket, start, end, func.sum(counts.n), filter, grouping).where(grain)


def _journaled(start: datetime, end: datetime, filter: Filter, grouping: Grouping) -> Select[Any]:
    deltas = event_deltas.c
    return _leg(event_deltas, deltas.bucket, start, end, func.sum(deltas.n), filter, grouping)


def _events(start: datetime, end: datetime, filter: Filter, grouping: Grouping) -> Select[Any]:
    return _leg(system_events, system_events.c.timestamp, start, end, func.count(), filter, grouping)


def _leg(
    table: Table,
    time: ColumnElement[datetime],
    start: datetime,
    end: datetime,
    n: ColumnElement[Any],
    filter: Filter,
    grouping: Grouping,
) -> Select[Any]:
    columns = grouping(table.c, time)
    where = time >= start, time < end, *kinds(filter, table.c)
    # By name: an expression with parameters would not be the same in SELECT and GROUP BY.
    return select(*columns, n.label("n")).where(*where).group_by(*(column.name for column in columns))
