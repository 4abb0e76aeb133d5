"""Ranges of ids and times around events: Postgres finds them by the primary key, in the partitions of a few days."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import and_, or_
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.storage.tables import system_events

MAX_RANGES: Final = 8
"""Maximum number of ranges in one statement: each is planned for every partition."""


class IdRange(NamedTuple):
    """The ids from `first_id` to `last_id` with times from `since` to `until`, both ends included."""

    first_id: int
    last_id: int
    since: datetime
    until: datetime


def joined(
    ranges: Iterable[IdRange], *, max_ids: int | None = None, max_gap: int = 0, max_span: timedelta = timedelta.max
) -> Iterator[IdRange]:
    """Join ranges that have at most `max_gap` ids between them; yield them in the order of ids.

    A joined range has at most `max_ids` ids and spans at most `max_span`.
    """
    current: IdRange | None = None
    for each in sorted(ranges):
        if current is None:
            current = each
            continue
        both = IdRange(
            current.first_id,
            max(current.last_id, each.last_id),
            min(current.since, each.since),
            max(current.until, each.until),
        )
        is_small = max_ids is None or both.last_id - both.first_id < max_ids
        if is_small and each.first_id - current.last_id - 1 <= max_gap and both.until - both.since <= max_span:
            current = both
        else:
            yield current
            current = each
    if current is not None:
        yield current


def cut(whole: IdRange, max_ids: int) -> Iterator[IdRange]:
    """Cut a range into ranges of at most `max_ids` ids."""
    for first in range(whole.first_id, whole.last_id + 1, max_ids):
        yield whole._replace(first_id=first, last_id=min(first + max_ids - 1, whole.last_id))


def among(ranges: Iterable[IdRange]) -> ColumnElement[bool]:
    """Return the condition that an event lies in one of the ranges."""
    events = system_events.c
    return or_(
        *(
            and_(events.id.between(each.first_id, each.last_id), events.timestamp.between(each.since, each.until))
            for each in ranges
        )
    )
