"""Cursors: what goes in comes out, for the same filter only; anything else is refused and nothing else is raised."""

import base64
import string
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.errors import CursorMismatch, ParameterInvalid
from brain_collector.query.cursor import Position, decode, encode
from brain_collector.query.filter import DetailsMatch, Filter

moments = st.datetimes(timezones=st.just(UTC))
positions = st.builds(Position, timestamp=moments, id=st.integers(1, 2**63 - 1))
name = st.text(max_size=10)
names = st.lists(name, max_size=3).map(tuple)
filters = st.builds(
    Filter,
    event_types=names,
    severities=names,
    source=st.none() | name,
    ids=st.lists(st.integers(1, 2**63 - 1), max_size=3).map(tuple),
    details=st.lists(st.builds(DetailsMatch, path=names, text=name), max_size=2).map(tuple),
    since=st.none() | moments,
    until=st.none() | moments,
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
        with pytest.raises(CursorMismatch, match="another filter"):
            decode(token, other)


@given(st.text(max_size=100) | st.text(string.ascii_letters + string.digits + "-_=", max_size=100))
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ParameterInvalid, match="malformed"):
        decode(text, Filter())


@given(positions, filters, st.integers(0), st.sampled_from(string.ascii_letters + string.digits + "-_=!é\0"))
def test_a_token_that_was_mistyped_or_cut_is_refused(
    position: Position, wanted: Filter, place: int, character: str
) -> None:
    token = encode(position, wanted)
    place %= len(token)
    for changed in (token[:place] + character + token[place + 1 :], token[:place]):
        with suppress(ParameterInvalid):  # a few bits of the last character mean nothing
            assert decode(changed, wanted) == position


def test_a_token_of_another_version_is_refused() -> None:
    position = Position(datetime(2026, 1, 1, tzinfo=UTC), 1)
    raw = base64.urlsafe_b64decode(encode(position, Filter()) + "==")
    first = msgspec.json.encode([1, zlib.crc32(msgspec.json.encode(Filter())), position])
    third = b"\x03" + raw[1:-4]
    for other in (first, third + zlib.crc32(third).to_bytes(4, "big")):
        with pytest.raises(ParameterInvalid, match="another version"):
            decode(base64.urlsafe_b64encode(other).decode().rstrip("="), Filter())


def test_a_forged_position_that_postgres_cannot_take_is_refused() -> None:
    edge = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=10)))
    for forged in (
        Position(edge, 1),
        Position(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), 1),
        Position(datetime(2026, 1, 1, tzinfo=UTC), 2**63),
    ):
        with pytest.raises(ParameterInvalid, match="malformed"):
            decode(encode(forged, Filter()), Filter())
