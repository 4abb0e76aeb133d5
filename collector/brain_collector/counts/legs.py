"""Exact counts of a time range: whole days and hours from the kept counts, the rest from the events, in one statement.

Every query for counts goes through `legs`: one statement is one snapshot, so no event is missed or counted twice while
the journal is folded or events are written.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Select,
    Text,
    column,
    func,
    literal_column,
    select,
    text,
    true,
    union_all,
)

from brain_collector.counts.journal import JOURNAL
from brain_collector.counts.spans import DAY, Spans, start_of
from brain_collector.query.filter import Filter, kinds
from brain_collector.storage.tables import event_counts, event_deltas, system_events

Grouping = Callable[[Any, ColumnElement[datetime]], tuple[ColumnElement[Any], ...]]
"""Returns the named columns to count by, from the columns of a table and its time."""

FullDays = Literal["none", "names", "events"]
"""How types are counted on full days (`fold`), if a query depends on them.

`none`: there are none, which is checked elsewhere. `names`: types without a name are counted as `journal.REST`.
`events`: the events of these days are counted, instead of the kept counts.
"""

whole_hours, whole_days = event_counts.c.grain == "hour", event_counts.c.grain == "day"

_ONE_DAY: Final[ColumnElement[Any]] = literal_column("interval '1 day'")
_journal: Final = (
    text(JOURNAL)
    .columns(
        column("bucket", DateTime(timezone=True)), column("severity", Text), column("n", BigInteger),
        column("event_type", Text),
    )
    .subquery("journal")
)  # fmt: skip
_full_days: Final = event_counts.alias("full_days")
_is_full: Final = _full_days.c.grain == "full"


def legs(span: Spans, filter: Filter, grouping: Grouping, on_full_days: FullDays = "none") -> FromClause:
    """Return rows of the columns of `grouping` and of `n`; the sums of `n` by these columns are the exact counts.

    Only the types and severities of the filter are used; the time range is that of the span.
    """
    journal = _journal if on_full_days == "names" else event_deltas
    kept = (
        _folded(span.first_day, span.last_day, whole_days, filter, grouping),
        _folded(span.first_hour, span.first_day, whole_hours, filter, grouping),
        _folded(span.last_day, span.last_hour, whole_hours, filter, grouping),
        _journaled(journal, span.first_hour, span.last_hour, filter, grouping),
    )
    if on_full_days == "events":
        outside = (leg.where(_day(time).not_in(select(_full_days.c.bucket).where(_is_full))) for leg, time in kept)
        counted = (*outside, _events_of_full_days(span, filter, grouping))
    else:
        counted = tuple(leg for leg, _ in kept)
    return union_all(
        *counted,
        _events(span.start, span.first_hour, filter, grouping),
        _events(span.last_hour, span.end, filter, grouping),
    ).subquery()


def full_days(span: Spans) -> Select[Any]:
    """Return the full days among those of the span that are read from the kept counts, as `bucket`."""
    day = _full_days.c.bucket
    return select(day).where(_is_full, day >= start_of(span.first_hour, DAY), day < span.last_hour)


def _day(time: ColumnElement[datetime]) -> ColumnElement[datetime]:
    return func.date_trunc(literal_column("'day'"), time, literal_column("'UTC'"))


def _events_of_full_days(span: Spans, filter: Filter, grouping: Grouping) -> Select[Any]:
    """Return the leg of their events. Lateral: each day is read by itself, so its partition only."""
    days = full_days(span).subquery("days")
    start = func.greatest(days.c.bucket, span.first_hour)
    end = func.least(days.c.bucket + _ONE_DAY, span.last_hour)
    counted = _events(start, end, filter, grouping).lateral("counted")
    return select(*counted.c).select_from(days.join(counted, true()))


def _folded(
    start: datetime, end: datetime, grain: ColumnElement[bool], filter: Filter, grouping: Grouping
) -> tuple[Select[Any], ColumnElement[datetime]]:
    counts = event_counts.c
    leg = _leg(event_counts, counts.bucket, start, end, func.sum(counts.n), filter, grouping).where(grain)
    return leg, counts.bucket


def _journaled(
    journal: FromClause, start: datetime, end: datetime, filter: Filter, grouping: Grouping
) -> tuple[Select[Any], ColumnElement[datetime]]:
    deltas = journal.c
    return _leg(journal, deltas.bucket, start, end, func.sum(deltas.n), filter, grouping), deltas.bucket


def _events(start: Any, end: Any, filter: Filter, grouping: Grouping) -> Select[Any]:
    return _leg(system_events, system_events.c.timestamp, start, end, func.count(), filter, grouping)


def _leg(
    table: FromClause,
    time: ColumnElement[datetime],
    start: Any,
    end: Any,
    n: ColumnElement[Any],
    filter: Filter,
    grouping: Grouping,
) -> Select[Any]:
    columns = grouping(table.c, time)
    where = time >= start, time < end, *kinds(filter, table.c)
    # By name: an expression with parameters would not be the same in SELECT and GROUP BY.
    return select(*columns, n.label("n")).where(*where).group_by(*(column.name for column in columns))
