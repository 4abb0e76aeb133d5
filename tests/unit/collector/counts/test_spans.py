"""A time range taken apart: the parts are the range, without gap or overlap, and the inner ones are whole."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import astuple

from brain_collector.counts.spans import spans

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC)) | st.builds(
    lambda minutes, us: NOON + timedelta(minutes=minutes, microseconds=us),
    st.integers(-5_000, 5_000),
    st.sampled_from([0, 0, 1]),
)


def is_hour(moment: datetime) -> bool:
    return (moment.minute, moment.second, moment.microsecond) == (0, 0, 0)


@given(st.none() | moments, st.none() | moments)
@example(None, None)
@example(LAST, None)
@example(LAST - timedelta(minutes=5), LAST)
@example(FIRST, FIRST)
def test_the_parts_are_the_range_and_the_inner_ones_are_whole(since: datetime | None, until: datetime | None) -> None:
    start, end = since or FIRST, until or LAST
    if start > end:
        start, end = end, start
    span = spans(start if since else None, end if until else None)

    assert (span.start, span.end) == (start, end)
    assert all(one <= other for one, other in pairwise(astuple(span)))
    if span.first_hour < span.last_hour:
        assert is_hour(span.first_hour)
        assert is_hour(span.last_hour)
    if span.first_day < span.last_day:
        assert is_hour(span.first_day)
        assert span.first_day.hour == span.last_day.hour == 0


@given(moments, moments)
def test_less_than_an_hour_sticks_out_at_each_end_and_less_than_a_day_of_hours(one: datetime, other: datetime) -> None:
    start, end = sorted((one, other))
    span = spans(start, end)

    assert span.first_hour - span.start < timedelta(hours=1)
    assert span.end - span.last_hour < timedelta(hours=1)
    assert span.first_day - span.first_hour < timedelta(days=1)
    assert span.last_hour - span.last_day < timedelta(days=1)
