"""A time range, taken apart into whole days, whole hours and the rest at both ends."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from brain_collector.counts.journal import hour

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)


class Spans(msgspec.Struct, frozen=True):
    """A time range as six moments in ascending order.

    From `first_day` to `last_day` there are whole days; from `first_hour` to `first_day` and from `last_day` to
    `last_hour` whole hours; from `start` to `first_hour` and from `last_hour` to `end` parts of an hour.
    """

    start: datetime
    first_hour: datetime
    first_day: datetime
    last_day: datetime
    last_hour: datetime
    end: datetime

    def without_days(self) -> "Spans":
        """Return the same range with whole hours instead of whole days."""
        return msgspec.structs.replace(self, first_day=self.last_hour, last_day=self.last_hour)


def spans(since: datetime | None, until: datetime | None) -> Spans:
    """Take a time range apart; an end that is None is open."""
    start, end = since or _BEGINNING, until or _END
    first_hour = min(_next_start(start, HOUR), end)
    last_hour = max(start_of(end, HOUR), first_hour)
    first_day = min(_next_start(first_hour, DAY), last_hour)
    last_day = max(start_of(last_hour, DAY), first_day)
    return Spans(start, first_hour, first_day, last_day, last_hour, end)


def start_of(moment: datetime, step: timedelta) -> datetime:
    """Return the start of the moment's hour or day, in UTC."""
    return hour(moment) if step == HOUR else hour(moment).replace(hour=0)


def _next_start(moment: datetime, step: timedelta) -> datetime:
    """Return the first start of an hour or a day that is not before the moment; at most the end of the calendar."""
    start = start_of(moment, step)
    if start == moment:
        return start
    return _END if _END - start < step else start + step
