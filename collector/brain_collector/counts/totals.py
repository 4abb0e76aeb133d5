"""Counts of some events: a filter of type, severity and time in, one statement out, exact at any size.

Days and hours that lie whole in the time range come from the folded counts and the journal, what sticks out at the
two ends from the events themselves. One statement is one snapshot.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, func, literal_column, select, true, union, union_all

from brain_collector.counts.spans import DAY, Spans, down, spans
from brain_collector.query.filter import Filter, kinds
from brain_collector.storage.tables import event_counts, event_deltas, system_events

_hours, _days = event_counts.c.grain == "hour", event_counts.c.grain == "day"


def totals(wanted: Filter, recent_since: datetime) -> Select[Any]:
    """Return the query for rows of `event_type`, `severity`, `n`, and on each the same `recent` and `last`."""
    since = recent_since if wanted.since is None else max(wanted.since, recent_since)
    counted, recent = _counted(wanted), _counted(msgspec.structs.replace(wanted, since=since))
    n = func.sum(counted.c.n)
    return (
        select(
            counted.c.event_type,
            counted.c.severity,
            n.label("n"),
            select(func.coalesce(func.sum(recent.c.n), 0)).scalar_subquery().label("recent"),
            _last(wanted).label("last"),
        )
        .group_by(counted.c.event_type, counted.c.severity)
        .having(n != 0)
    )


def _counted(wanted: Filter) -> Any:
    """Return rows of `event_type`, `severity`, `n` that add up to what is wanted."""
    span = spans(wanted.since, wanted.until)
    return union_all(
        _sum(event_counts, wanted, span.first_day, span.last_day, _days),
        _sum(event_counts, wanted, span.first_hour, span.first_day, _hours),
        _sum(event_counts, wanted, span.last_day, span.last_hour, _hours),
        _sum(event_deltas, wanted, span.first_hour, span.last_hour),
        _rows(wanted, span.start, span.first_hour),
        _rows(wanted, span.last_hour, span.end),
    ).subquery()


def _sum(table: Table, wanted: Filter, start: datetime, end: datetime, *grain: ColumnElement[bool]) -> Select[Any]:
    kind = table.c.event_type, table.c.severity
    within = table.c.bucket >= start, table.c.bucket < end
    where = *grain, *within, *kinds(wanted, table.c)
    return select(*kind, func.sum(table.c.n).label("n")).where(*where).group_by(*kind)


def _rows(wanted: Filter, start: datetime, end: datetime) -> Select[Any]:
    """Count the events themselves."""
    kind = system_events.c.event_type, system_events.c.severity
    return select(*kind, func.count().label("n")).where(*_between(start, end, wanted)).group_by(*kind)


def _last(wanted: Filter) -> ColumnElement[Any]:
    """Return the newest timestamp: what sticks out at the end is newer than the whole hours, they than the start."""
    span = spans(wanted.since, wanted.until)
    return func.coalesce(
        _newest(_between(span.last_hour, span.end, wanted)).scalar_subquery(),
        _newest_of_whole_hours(wanted, span),
        _newest(_between(span.start, span.first_hour, wanted)).scalar_subquery(),
    )


def _newest_of_whole_hours(wanted: Filter, span: Spans) -> Any:
    """Go down the days that have such events by the counts, then the hours, then look for one of the events.

    A count above zero may be taken back by a later delta, so the first hour need not have any event left; but every
    event stands in a count above zero.
    """
    day = _buckets(wanted, _days, down(span.first_hour, DAY), span.last_hour, "day").subquery("days")
    start = func.greatest(day.c.bucket, span.first_hour)
    end = func.least(day.c.bucket + literal_column("interval '1 day'"), span.last_hour)
    whole = _buckets(wanted, _hours, start, end, "hour").lateral("hours")
    next_hour = whole.c.bucket + literal_column("interval '1 hour'")
    event = _newest(_between(whole.c.bucket, next_hour, wanted)).lateral("event")
    found = select(event.c.timestamp).select_from(day.join(whole, true()).join(event, true()))
    return found.order_by(day.c.bucket.desc(), whole.c.bucket.desc()).limit(1).scalar_subquery()


def _buckets(wanted: Filter, grain: ColumnElement[bool], start: Any, end: Any, unit: str) -> Any:
    """Return the days or hours in which something was counted."""
    folded, journal = event_counts.c, event_deltas.c
    journaled = func.date_trunc(literal_column(f"'{unit}'"), journal.bucket, literal_column("'UTC'"))
    return union(
        select(folded.bucket).where(
            grain, folded.n > 0, folded.bucket >= start, folded.bucket < end, *kinds(wanted, folded)
        ),
        select(journaled.label("bucket")).where(
            journal.n > 0, journaled >= start, journaled < end, *kinds(wanted, journal)
        ),
    )


def _newest(where: list[ColumnElement[bool]]) -> Select[Any]:
    return select(system_events.c.timestamp).where(*where).order_by(system_events.c.timestamp.desc()).limit(1)


def _between(start: Any, end: Any, wanted: Filter) -> list[ColumnElement[bool]]:
    events = system_events.c
    return [events.timestamp >= start, events.timestamp < end, *kinds(wanted, events)]
