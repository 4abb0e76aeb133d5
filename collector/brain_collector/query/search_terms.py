"""What a search looks for: the text of `q` in, its words out; and where they stand in an event.

A word is a run of letters and digits, whatever its case; so `payment_failed` is two that follow each other. Postgres
decides what matches (`event_words` in migration 0006), and sees no text of a client but words between quotes.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from brain_collector.errors import FieldError, ParameterInvalid
from brain_collector.schema import Event, Match

MAX_CHARS: Final = 256
MAX_MATCHES: Final = 100

_OF_WORDS: Final = "0-9A-Za-z\u0080-\U0010ffff"
_WORD: Final = f"[{_OF_WORDS}]+"
_NO_WORD: Final = f"[^{_OF_WORDS}]"
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|(\S+))')
_decode: Final = msgspec.json.Decoder(float_hook=str).decode
_words: Final = re.compile(_WORD).findall


class Term(msgspec.Struct, frozen=True, array_like=True):
    """Words that follow each other; or must not, anywhere in the event."""

    words: tuple[str, ...]
    excluded: bool = False


class Words(msgspec.Struct, frozen=True, array_like=True):
    """One of the groups must match, and of that every term."""

    groups: tuple[tuple[Term, ...], ...]

    @property
    def query(self) -> str:
        """Return it for `websearch_to_tsquery`."""
        return " or ".join(" ".join(map(_quoted, group)) for group in self.groups)

    @property
    def wanted(self) -> tuple[tuple[Term, ...], ...]:
        """Return the terms of each group that must be there."""
        return tuple(tuple(term for term in group if not term.excluded) for group in self.groups)


def parse(text: str) -> Words:
    """Take `q` apart: words, "phrases", -without, this or that.

    Raises:
        ParameterInvalid: it is too long, or has no word.
    """
    if len(text) > MAX_CHARS:
        raise _invalid(f"is {len(text)} characters long, at most {MAX_CHARS}")
    groups: list[list[Term]] = [[]]
    for minus, phrase, word in _TERM.findall(text):
        if word.lower() == "or" and not minus:
            groups.append([])
        elif words := tuple(_words(phrase or word)):
            groups[-1].append(Term(words, excluded=bool(minus)))
    found = tuple(tuple(group) for group in groups if group)
    if not found:
        raise _invalid(f'is {text!r}, which has no word; write as in: timeout "connection refused" -retry')
    return Words(found)


def mark(event: Event, words: Words) -> Event:
    """Return the event with the places of what was looked for, up to `MAX_MATCHES` of them."""
    pattern = _pattern(words)
    if pattern is not None:
        event.matches = []
        for at, text in _texts(event):
            for found in pattern.finditer(text):
                if len(event.matches) == MAX_MATCHES:
                    return event
                event.matches.append(Match(at, *found.span()))
    return event


def _texts(event: Event) -> Iterator[tuple[str, str]]:
    """Yield the texts that are searched, each after a pointer to it (RFC 6901)."""
    yield "/event_type", event.event_type
    yield "/message", event.message
    if event.source:
        yield "/source", event.source
    with suppress(msgspec.DecodeError):  # a number that Python cannot hold: nothing is marked in the details then
        yield from _leaves("/details", _decode(event.details))


def _leaves(at: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(f"{at}/{key.replace('~', '~0').replace('/', '~1')}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(f"{at}/{index}", inner)


@lru_cache(maxsize=256)
def _pattern(words: Words) -> re.Pattern[str] | None:
    """Return what finds the terms that must be there, None if there are none; longer ones win."""
    terms = sorted({term.words for group in words.wanted for term in group}, key=lambda term: -len(" ".join(term)))
    if not terms:
        return None
    either = "|".join(f"{_NO_WORD}+".join(map(re.escape, term)) for term in terms)
    return re.compile(f"(?<![{_OF_WORDS}])(?:{either})(?={_NO_WORD}|$)", re.IGNORECASE)


def _quoted(term: Term) -> str:
    return f'{"-" if term.excluded else ""}"{" ".join(term.words)}"'


def _invalid(problem: str) -> ParameterInvalid:
    return ParameterInvalid(f"q {problem}", errors=[FieldError("/q", "parameter_invalid", f"q {problem}")])
