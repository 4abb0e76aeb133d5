"""Marks the words of a search in an event, within bounds on the text and on the size of the result.

Postgres has decided that the event matches; this only finds the places, for display. An event or a page that exceeds a
bound has fewer matches, and `matches_cut` says so.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from brain_collector.query.search_terms import WORD_CHARS, Words
from brain_collector.schema import Event, Match

MAX_MATCHES: Final = 100
"""Maximum number of matches of an event."""
MAX_MATCH_BYTES: Final = 16 * 2**10
"""Maximum size of the matches of an event, which repeat the pointers to their texts."""
MAX_CHARS: Final = 64 * 2**10
"""Maximum number of characters of an event in which matches are looked for."""
TEXT_CHARS: Final = 8
"""Characters that a text counts in addition to its own."""
MAX_PAGE_CHARS: Final = 2**20
"""The same for all events of a page together."""
USUAL_WORDS: Final = 16
"""Number of words of a search up to which these hold; with N times as many, an Nth of the text is searched."""
MAX_DECODED_BYTES: Final = 2**20
"""Maximum size of details that are decoded in order to look for matches in them."""
WINDOW: Final = 4_096
"""Characters that are searched in one call, during which no other thread runs."""
MAX_MATCH_CHARS: Final = 1_024
"""Maximum length of a match: the windows overlap by this."""

_NOT_WORD: Final = f"[^{WORD_CHARS}]"
_MATCH_BYTES: Final = len('{"at":"","start":12345,"end":12345},')
_decode: Final = msgspec.json.Decoder(float_hook=str).decode


async def marked(events: list[Event], words: Words) -> list[Event]:
    """Add the matches of the search to the events, in a thread; return them."""
    if events and _pattern(words) is not None:
        await asyncio.to_thread(mark, events, words)
    return events


def mark(events: list[Event], words: Words) -> None:
    """Add the matches of the search to the events."""
    pattern = _pattern(words)
    if pattern is None:
        return
    n_words = sum(len(term.words) for group in words.required for term in group)
    share = min(1.0, USUAL_WORDS / n_words)  # each place may be compared with each word
    left = int(MAX_PAGE_CHARS * share)
    for event in events:
        left -= _mark(event, pattern, min(left, int(MAX_CHARS * share)))


def _mark(event: Event, pattern: re.Pattern[str], max_chars: int) -> int:
    """Add the matches in the first `max_chars` characters of the event; return how many characters were searched."""
    event.matches = []
    left, left_bytes = max_chars, MAX_MATCH_BYTES
    for path, text in _texts(event):
        at = ""
        for start, end in _spans(pattern, text, min(len(text), left)):
            at = at or _pointer(path)
            left_bytes -= len(at.encode()) + _MATCH_BYTES
            if len(event.matches) == MAX_MATCHES or left_bytes < 0:
                event.matches_cut = True
                return max_chars - left
            event.matches.append(Match(at, start, end))
        left -= len(text) + TEXT_CHARS
        if left < 0:
            event.matches_cut = True
            return max_chars
    if not _is_decodable(event):
        event.matches_cut = True
    return max_chars - left


def _spans(pattern: re.Pattern[str], text: str, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the matches before `stop`, window by window: a call of `re` holds up all other threads."""
    start = 0
    while start < stop:
        end = min(start + WINDOW + MAX_MATCH_CHARS, stop)
        next_start = start + WINDOW if end < stop else stop
        for match in pattern.finditer(text, start, end):
            if match.start() >= next_start:
                break  # the next window has more of the text after it
            if match.end() < end or end == len(text):
                yield match.span()
                next_start = max(next_start, match.end())
        start = next_start


def _texts(event: Event) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the texts that a search covers, each with the path to it."""
    yield ("event_type",), event.event_type
    yield ("message",), event.message
    if event.source:
        yield ("source",), event.source
    if _is_decodable(event):
        with suppress(msgspec.DecodeError):  # a number that Python cannot represent: nothing is marked in the details
            yield from _leaves(("details",), _decode(event.details))


def _is_decodable(event: Event) -> bool:
    return memoryview(event.details).nbytes <= MAX_DECODED_BYTES


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves((*path, key), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves((*path, str(index)), inner)


def _pointer(path: tuple[str, ...]) -> str:
    """Return the JSON pointer to a text (RFC 6901)."""
    return "".join(f"/{key.replace('~', '~0').replace('/', '~1')}" for key in path)


@lru_cache(maxsize=256)
def _pattern(words: Words) -> re.Pattern[str] | None:
    """Return the pattern of the required terms, longer ones first, or None if there are none."""
    terms = sorted({term.words for group in words.required for term in group}, key=lambda term: -len(" ".join(term)))
    if not terms:
        return None
    either = "|".join(f"{_NOT_WORD}+".join(map(re.escape, term)) for term in terms)
    return re.compile(f"(?<![{WORD_CHARS}])(?:{either})(?={_NOT_WORD}|$)", re.IGNORECASE)
