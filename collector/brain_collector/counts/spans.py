"""A time range, taken apart into whole days, whole hours and the rest at its ends."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from brain_collector.counts.journal import hour

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_EVER: Final = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Spans(msgspec.Struct, frozen=True):
    """A time range in six moments that do not descend; the days are whole between the inner two.

    Between `start` and `first_hour`, and between `last_hour` and `end`, is what sticks out over whole hours.
    """

    start: datetime
    first_hour: datetime
    first_day: datetime
    last_day: datetime
    last_hour: datetime
    end: datetime


def spans(since: datetime | None, until: datetime | None) -> Spans:
    """Take a time range apart; an end that is None is open."""
    start, end = since or _EVER[0], until or _EVER[1]
    first_hour = min(_up(start, HOUR), end)
    last_hour = max(down(end, HOUR), first_hour)
    first_day = min(_up(first_hour, DAY), last_hour)
    last_day = max(down(last_hour, DAY), first_day)
    return Spans(start, first_hour, first_day, last_day, last_hour, end)


def down(moment: datetime, step: timedelta) -> datetime:
    """Return the start of the hour or day, in UTC."""
    return hour(moment) if step == HOUR else hour(moment).replace(hour=0)


def _up(moment: datetime, step: timedelta) -> datetime:
    """Return the first start of an hour or a day that is not before; at the end of the calendar, its end."""
    whole = down(moment, step)
    if whole == moment:
        return whole
    return _EVER[1] if _EVER[1] - whole < step else whole + step
