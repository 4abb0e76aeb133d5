"""Search terms: parses `q` into words, and marks the matches in an event.

A word is a run of letters and digits, in any case; so `payment_failed` is a phrase of two words. Postgres decides what
matches (`event_words` in migration 0006). Of the client's text it gets words in quotes only.
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

_WORD_CHARS: Final = "0-9A-Za-z\u0080-\U0010ffff"
_WORD: Final = f"[{_WORD_CHARS}]+"
_NOT_WORD: Final = f"[^{_WORD_CHARS}]"
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|(\S+))')
_decode: Final = msgspec.json.Decoder(float_hook=str).decode
_words: Final = re.compile(_WORD).findall


class Term(msgspec.Struct, frozen=True, array_like=True):
    """A phrase of one or more words; if it is `excluded`, it must not occur in the event."""

    words: tuple[str, ...]
    excluded: bool = False


class Words(msgspec.Struct, frozen=True, array_like=True):
    """A search: at least one group must match, which requires all of its terms."""

    groups: tuple[tuple[Term, ...], ...]

    @property
    def query(self) -> str:
        """The search as text for `websearch_to_tsquery`."""
        return " or ".join(" ".join(map(_quoted, group)) for group in self.groups)

    @property
    def required(self) -> tuple[tuple[Term, ...], ...]:
        """The terms of each group that must occur."""
        return tuple(tuple(term for term in group if not term.excluded) for group in self.groups)


def parse(text: str) -> Words:
    """Parse `q`: words, "phrases", -excluded, this or that.

    Raises:
        ParameterInvalid: `q` is too long, or contains no word.
    """
    if len(text) > MAX_CHARS:
        raise _invalid(f"is {len(text)} characters long, at most {MAX_CHARS} are allowed")
    groups: list[list[Term]] = [[]]
    for minus, phrase, word in _TERM.findall(text):
        if word.lower() == "or" and not minus:
            groups.append([])
        elif words := tuple(_words(phrase or word)):
            groups[-1].append(Term(words, excluded=bool(minus)))
    non_empty = tuple(tuple(group) for group in groups if group)
    if not non_empty:
        raise _invalid(f'is {text!r}, which contains no word; for example: timeout "connection refused" -retry')
    return Words(non_empty)


def mark(event: Event, words: Words) -> Event:
    """Add the matches of the search to the event, up to `MAX_MATCHES`; return it."""
    pattern = _pattern(words)
    if pattern is not None:
        event.matches = []
        for at, text in _texts(event):
            for match in pattern.finditer(text):
                if len(event.matches) == MAX_MATCHES:
                    return event
                event.matches.append(Match(at, *match.span()))
    return event


def _texts(event: Event) -> Iterator[tuple[str, str]]:
    """Yield the texts that a search covers, each with the JSON pointer to it (RFC 6901)."""
    yield "/event_type", event.event_type
    yield "/message", event.message
    if event.source:
        yield "/source", event.source
    with suppress(msgspec.DecodeError):  # a number that Python cannot represent: then nothing is marked in the details
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
    """Return the pattern of the required terms, longer ones first, or None if there are none."""
    terms = sorted({term.words for group in words.required for term in group}, key=lambda term: -len(" ".join(term)))
    if not terms:
        return None
    either = "|".join(f"{_NOT_WORD}+".join(map(re.escape, term)) for term in terms)
    return re.compile(f"(?<![{_WORD_CHARS}])(?:{either})(?={_NOT_WORD}|$)", re.IGNORECASE)


def _quoted(term: Term) -> str:
    return f'{"-" if term.excluded else ""}"{" ".join(term.words)}"'


def _invalid(problem: str) -> ParameterInvalid:
    return ParameterInvalid(f"q {problem}", errors=[FieldError("/q", "parameter_invalid", f"q {problem}")])
