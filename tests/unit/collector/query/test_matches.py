"""The matches of a search: where they are, and that looking for them is bounded."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.query import matches
from brain_collector.query.search_terms import parse
from brain_collector.schema import Event, Match

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def stored(message: str = "m", details: Any = None) -> Event:
    return Event(1, "test", "info", message, msgspec.Raw(msgspec.json.encode(details)), None, NOW, NOW)


def marks(event: Event, query: str) -> list[tuple[str, int, int]]:
    matches.mark([event], parse(query))
    assert isinstance(event.matches, list)
    return [(match.at, match.start, match.end) for match in event.matches]


def test_each_text_is_marked_with_a_pointer_to_it() -> None:
    event = stored("a Word, words and WORD", {"a/b": ["no", {"~": "the word"}], "word": 1})
    assert marks(event, "word") == [
        ("/message", 2, 6),
        ("/message", 18, 22),
        ("/details/a~1b/1/~0", 4, 8),
    ]
    assert event.matches_cut is msgspec.UNSET


def test_the_longer_of_two_terms_is_marked() -> None:
    assert marks(stored("payment failed"), 'payment "payment failed"') == [("/message", 0, 14)]


@given(st.integers(0, 3 * matches.WINDOW), st.integers(1, 40), st.sampled_from([" ", "x ", "a ", "ab "]))
def test_a_match_is_found_wherever_it_lies_in_a_long_text(before: int, gap: int, filler: str) -> None:
    text = (filler * before)[:before] + " needle" + " " * gap + "found " + filler * 5000
    start = text.index("needle")
    assert marks(stored(text), '"needle found"') == [("/message", start, start + len("needle found") + gap - 1)]


@pytest.mark.parametrize(
    ("message", "details"),
    [
        ("x " * matches.MAX_CHARS, None),
        ("m", {"a": ["needle " * 30] * 30}),
        ("m", {"k" * 9_000: {"a": "needle", "b": "needle"}}),
        ("m", ["x"] * matches.MAX_CHARS),
        ("m", {"a": "x" * matches.MAX_DECODED_BYTES}),
    ],
    ids=["much text", "many matches", "long pointers", "many texts", "large details"],
)
def test_matches_beyond_a_bound_are_cut_and_the_event_says_so(message: str, details: Any) -> None:
    event = stored(message, details)
    assert len(marks(event, "needle")) <= matches.MAX_MATCHES
    assert event.matches_cut is True
    assert len(msgspec.json.encode(event.matches)) < 2 * matches.MAX_MATCH_BYTES


def test_the_text_of_a_whole_page_is_bounded() -> None:
    events = [stored("needle " + "x " * 25_000) for _ in range(100)]
    matches.mark(events, parse("needle"))
    assert [event.matches for event in events[:20]] == [[Match("/message", 0, 6)]] * 20
    assert all(event.matches == [] and event.matches_cut is True for event in events[30:])


def test_a_search_of_many_words_searches_less_text() -> None:
    events = [stored("x " * 20_000 + "needle"), stored("x " * 20_000 + "needle")]
    matches.mark(events[:1], parse("needle"))
    matches.mark(events[1:], parse(f'needle or "{" ".join("x" * 100)} y"'))
    assert [event.matches_cut for event in events] == [msgspec.UNSET, True]


async def test_events_are_marked_in_a_thread() -> None:
    event = stored("a needle")
    assert await matches.marked([event], parse("needle")) == [event]
    assert event.matches == [Match("/message", 2, 8)]
    assert (await matches.marked([stored()], parse("-needle")))[0].matches is msgspec.UNSET
