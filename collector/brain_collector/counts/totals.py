"""The totals of a filter by type and severity: one statement, exact at any size."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal_column, select, true, union

from brain_collector.counts.journal import REST
from brain_collector.counts.legs import FullDays, full_days, legs, whole_days, whole_hours
from brain_collector.counts.spans import DAY, Spans, spans, start_of
from brain_collector.query.filter import Filter, kinds
from brain_collector.storage.tables import event_counts, event_deltas, system_events


def totals(filter: Filter, recent_since: datetime, max_types: int, on_full_days: FullDays = "none") -> Select[Any]:
    """Return the query for one row: JSON objects of `severities` and `types`, `nameless`, `recent`, `last`.

    Of the types, the `max_types` most frequent. `nameless` events are counted without their type. `recent` is the
    number of events from `recent_since` on, `last` the newest timestamp. If it `has_full_days`, the types are wrong
    unless `on_full_days` says what to do.
    """
    since = recent_since if filter.since is None else max(filter.since, recent_since)
    span, recent_span = spans(filter.since, filter.until), spans(since, filter.until)
    counted = kinds_of(filter, on_full_days).cte("counted").prefix_with("MATERIALIZED")
    recent = legs(recent_span, filter, _by_kind, on_full_days)
    kind, n = counted.c, func.sum(counted.c.n)
    severities = select(kind.severity.label("name"), n.label("n")).group_by(kind.severity).having(n != 0)
    types = select(kind.event_type.label("name"), n.label("n")).group_by(kind.event_type).having(n != 0)
    listed = types.where(kind.event_type != REST).order_by(literal_column("n").desc(), kind.event_type).limit(max_types)
    return select(
        _object(severities).label("severities"),
        _object(listed).label("types"),
        select(func.coalesce(n, 0)).where(kind.event_type == REST).scalar_subquery().label("nameless"),
        select(func.coalesce(func.sum(recent.c.n), 0)).scalar_subquery().label("recent"),
        _last(filter).label("last"),
        full_days(span).exists().label("has_full_days"),
    )


def kinds_of(filter: Filter, on_full_days: FullDays = "none") -> Select[Any]:
    """Return the query for rows of `event_type`, `severity`, `n`."""
    counted = legs(spans(filter.since, filter.until), filter, _by_kind, on_full_days)
    n = func.sum(counted.c.n)
    columns = counted.c.event_type, counted.c.severity
    return select(*columns, n.label("n")).group_by(*columns).having(n != 0)


def _object(rows: Select[Any]) -> ColumnElement[Any]:
    each = rows.subquery()
    return select(func.json_object_agg(each.c.name, each.c.n)).scalar_subquery()


def _by_kind(columns: Any, _time: ColumnElement[datetime]) -> tuple[ColumnElement[Any], ...]:
    return columns.event_type, columns.severity


def _last(filter: Filter) -> ColumnElement[Any]:
    """Return the newest timestamp: first of the rest at the end, then of the whole hours, then of the rest before."""
    span = spans(filter.since, filter.until)
    return func.coalesce(
        _newest(_between(span.last_hour, span.end, filter)).scalar_subquery(),
        _newest_of_whole_hours(filter, span),
        _newest(_between(span.start, span.first_hour, filter)).scalar_subquery(),
    )


def _newest_of_whole_hours(filter: Filter, span: Spans) -> Any:
    """Walk down the days that have such events by the counts, then their hours, then look for an event.

    A later delta may cancel a count above zero, so an hour that is found need not have an event left. But every event
    is included in a count above zero, so none is missed.
    """
    days = _buckets(filter, whole_days, start_of(span.first_hour, DAY), span.last_hour, "day").subquery("days")
    start = func.greatest(days.c.bucket, span.first_hour)
    end = func.least(days.c.bucket + literal_column("interval '1 day'"), span.last_hour)
    hours = _buckets(filter, whole_hours, start, end, "hour").lateral("hours")
    next_hour = hours.c.bucket + literal_column("interval '1 hour'")
    event = _newest(_between(hours.c.bucket, next_hour, filter)).lateral("event")
    timestamps = select(event.c.timestamp).select_from(days.join(hours, true()).join(event, true()))
    return timestamps.order_by(days.c.bucket.desc(), hours.c.bucket.desc()).limit(1).scalar_subquery()


def _buckets(filter: Filter, grain: ColumnElement[bool], start: Any, end: Any, unit: str) -> Any:
    """Return the days or hours that have a count above zero, and all those of full days."""
    folded, journal = event_counts.c, event_deltas.c
    journaled = func.date_trunc(literal_column(f"'{unit}'"), journal.bucket, literal_column("'UTC'"))
    return union(
        select(folded.bucket).where(
            grain, folded.n > 0, folded.bucket >= start, folded.bucket < end, *kinds(filter, folded)
        ),
        select(journaled.label("bucket")).where(
            journal.n > 0, journaled >= start, journaled < end, *kinds(filter, journal)
        ),
        _of_full_days(start, end, unit),
    )


def _of_full_days(start: Any, end: Any, unit: str) -> Select[Any]:
    """Return the full days, or their hours: the counts do not tell which of them have events of a type."""
    full = event_counts.alias("full")
    units = (
        func.generate_series(
            full.c.bucket, full.c.bucket + literal_column("interval '23 hours'"), literal_column(f"interval '1 {unit}'")
        )
        .table_valued("bucket", name="units")
        .render_derived()
    )
    is_within = units.c.bucket >= start, units.c.bucket < end
    overlaps = full.c.bucket + literal_column("interval '1 day'") > start, full.c.bucket < end
    is_within = units.c.bucket >= start, units.c.bucket < end
    joined = full.join(units, true())
    return select(units.c.bucket).select_from(joined).where(full.c.grain == "full", *overlaps, *is_within)


def _newest(conditions: list[ColumnElement[bool]]) -> Select[Any]:
    return select(system_events.c.timestamp).where(*conditions).order_by(system_events.c.timestamp.desc()).limit(1)


def _between(start: Any, end: Any, filter: Filter) -> list[ColumnElement[bool]]:
    events = system_events.c
    return [events.timestamp >= start, events.timestamp < end, *kinds(filter, events)]
