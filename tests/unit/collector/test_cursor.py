"""Cursors: what goes in comes out, for the same filter only; anything else is refused and nothing else is raised."""

import string
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.cursor import Position, decode, encode
from brain_collector.errors import ParameterInvalid
from brain_collector.store import Filter

moments = st.datetimes(timezones=st.just(UTC))
positions = st.builds(Position, timestamp=moments, id=st.integers(1, 2**63 - 1))
name = st.none() | st.text(max_size=10)
filters = st.builds(
    Filter, event_type=name, severity=name, source=name, since=st.none() | moments, until=st.none() | moments
)


@given(positions, filters)
def test_a_position_comes_back_out_of_its_token(position: Position, wanted: Filter) -> None:
    token = encode(position, wanted)

    assert decode(token, wanted) == position
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")


@given(positions, filters, filters)
def test_a_token_fits_no_other_filter(position: Position, wanted: Filter, other: Filter) -> None:
    token = encode(position, wanted)

    if other == wanted:
        assert decode(token, other) == position
    else:
        with pytest.raises(ParameterInvalid, match="another filter"):
            decode(token, other)


@given(st.text(max_size=100) | st.text(string.ascii_letters + string.digits + "-_=", max_size=100))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ParameterInvalid, match="malformed"):
        decode(text, Filter())


@given(positions, st.integers(0), st.sampled_from(string.ascii_letters + string.digits + "-_=!é\0"))
def test_a_token_that_was_tampered_with_is_refused_or_is_a_position_that_can_be_asked_for(
    position: Position, place: int, character: str
) -> None:
    token = encode(position, Filter())
    place %= len(token)
    with suppress(ParameterInvalid):
        found = decode(token[:place] + character + token[place + 1 :], Filter())
        assert found.timestamp.utcoffset() == timedelta(0)
        assert abs(found.id) < 2**63


def test_a_forged_position_that_postgres_cannot_take_is_refused() -> None:
    edge = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=10)))
    for forged in (
        Position(edge, 1),
        Position(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), 1),
        Position(datetime(2026, 1, 1, tzinfo=UTC), 2**63),
    ):
        with pytest.raises(ParameterInvalid, match="malformed"):
            decode(encode(forged, Filter()), Filter())
