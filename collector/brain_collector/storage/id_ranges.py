"""Events that lie close together, as ranges of ids and of times: what Postgres finds by the primary key of few days."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import and_, or_
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.storage.tables import system_events

MAX_BOXES: Final = 8
"""Most of them in one statement: each is planned for every partition."""


class Box(NamedTuple):
    """Ids from the first to the last, with times from `since` to `until`; both ends are in it."""

    first_id: int
    last_id: int
    since: datetime
    until: datetime


def joined(
    boxes: Iterable[Box], *, most_ids: int | None = None, gap: int = 0, span: timedelta = timedelta.max
) -> Iterator[Box]:
    """Join boxes with at most `gap` ids between, up to `most_ids` and `span` in one; return them ordered by ids."""
    run: Box | None = None
    for box in sorted(boxes):
        if run is None:
            run = box
            continue
        both = Box(run.first_id, max(run.last_id, box.last_id), min(run.since, box.since), max(run.until, box.until))
        is_small = most_ids is None or both.last_id - both.first_id < most_ids
        if is_small and box.first_id - run.last_id - 1 <= gap and both.until - both.since <= span:
            run = both
        else:
            yield run
            run = box
    if run is not None:
        yield run


def cut(box: Box, most_ids: int) -> Iterator[Box]:
    """Take a box apart into ones of at most so many ids."""
    for first in range(box.first_id, box.last_id + 1, most_ids):
        yield box._replace(first_id=first, last_id=min(first + most_ids - 1, box.last_id))


def among(boxes: Iterable[Box]) -> ColumnElement[bool]:
    """Return what holds for the events of these boxes."""
    events = system_events.c
    return or_(
        *(
            and_(events.id.between(box.first_id, box.last_id), events.timestamp.between(box.since, box.until))
            for box in boxes
        )
    )
