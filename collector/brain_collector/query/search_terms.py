"""Search terms: parses `q` into words.

A word is a run of letters and digits, in any case; so `payment_failed` is a phrase of two words. Postgres decides what
matches (`event_words` in migration 0006). Of the client's text it gets words in quotes only.
"""

import re
from typing import Final

import msgspec

from brain_collector.errors import FieldError, ParameterInvalid

MAX_CHARS: Final = 256
MAX_TERMS: Final = 16
"""Maximum number of different terms: each is compared with the text of every event that is read."""
WORD_CHARS: Final = "0-9A-Za-z\u0080-\U0010ffff"

_TERM: Final = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|(\S+))')
_words: Final = re.compile(f"[{WORD_CHARS}]+").findall


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
    """Parse `q`: words, "phrases", -excluded, this or that. Repeated terms and groups are dropped.

    Raises:
        ParameterInvalid: `q` is too long, has too many terms, or contains no word.
    """
    if len(text) > MAX_CHARS:
        raise _invalid(f"is {len(text)} characters long, at most {MAX_CHARS} are allowed")
    groups: list[dict[Term, Term]] = [{}]  # by the term in lower case
    for minus, phrase, word in _TERM.findall(text):
        if word.lower() == "or" and not minus:
            groups.append({})
        elif words := tuple(_words(phrase or word)):
            term = Term(words, excluded=bool(minus))
            groups[-1].setdefault(_folded(term), term)
    if (n := len(set().union(*groups))) > MAX_TERMS:
        raise _invalid(f"has {n} different terms, at most {MAX_TERMS} are allowed; words in quotes are one term")
    non_empty = tuple({tuple(group): tuple(group.values()) for group in groups if group}.values())
    if not non_empty:
        raise _invalid(f'is {text!r}, which contains no word; for example: timeout "connection refused" -retry')
    return Words(non_empty)


def _folded(term: Term) -> Term:
    """Return the term in lower case, as far as every locale agrees on that."""
    return Term(tuple(word.lower() if word.isascii() else word for word in term.words), term.excluded)


def _quoted(term: Term) -> str:
    return f'{"-" if term.excluded else ""}"{" ".join(term.words)}"'


def _invalid(problem: str) -> ParameterInvalid:
    return ParameterInvalid(f"q {problem}", errors=[FieldError("/q", "parameter_invalid", f"q {problem}")])
