"""The elements of a JSON array, found without decoding them: one that is too large, or not JSON, affects no other.

Nothing is built but the elements: decoded, an array of 32 MiB would take up to a gigabyte.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from brain_collector.errors import BodyUndecodable
from brain_collector.ingest.limits import Check, no_check

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = rb'\[[^"\[\]{}]*+\]|\{[^"\[\]{}]*+\}'
_BETWEEN: Final = rb'[^"\[\]{}]*+'
_TOKENS: Final = re.compile(
    rb"%b(?:(?:%b|%b)%b)*+(?:([\[{])(?!%b[\[\]{}])|([\]}])(?!%b[\[\]{}])|([\[\]{}][^\"]{0,255}+)|(\"|\Z))"
    % (_BETWEEN, _STRING, _FLAT, _BETWEEN, _BETWEEN, _BETWEEN),
    re.DOTALL,
)
"""Everything up to a bracket outside a string, without flat pairs; and if more brackets follow before the next string,
up to that (but not far, since the element may end before); or up to the end, or to a string that does not end."""
_SCALAR: Final = re.compile(rb"%b|[^\[\]{}, \t\r\n\"]+" % _STRING, re.DOTALL)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_CLOSING_BRACKET: Final = ord("]")
_OPENING, _CLOSING, _SEVERAL = 1, 2, 3
_TOKENS_PER_CHECK: Final = 4_096


def is_array(body: bytes) -> bool:
    """Return whether a body begins as a JSON array."""
    return body.startswith(b"[", _after_space(body, 0))


def elements(body: bytes, check: Check = no_check) -> Iterator[bytes]:
    """Yield the elements of a JSON array one by one; what `check` raises ends this.

    Raises:
        BodyUndecodable: the body is not an array whose elements can be told apart.
    """
    end = _after_space(body, 0)
    if body[end : end + 1] != b"[":
        raise BodyUndecodable("the body is not a JSON array of events; enclose the events in [ ]")
    end = _after_space(body, end + 1)
    empty = body[end : end + 1] == b"]"
    while not empty:
        start = end
        end = _end_of_element(body, start, check)
        yield body[start:end]
        end = _after_space(body, end)
        if body[end : end + 1] != b",":
            break
        end = _after_space(body, end + 1)
    if body[end : end + 1] != b"]" or _after_space(body, end + 1) != len(body):
        raise BodyUndecodable(f"the body is not a JSON array of events: expected ',' or ']' at byte {end:,}")


def _after_space(body: bytes, start: int) -> int:
    match = _SPACE.match(body, start)
    assert match is not None
    return match.end()


def _end_of_element(body: bytes, start: int, check: Check) -> int:
    if body[start : start + 1] in (b"[", b"{"):
        return _end_of_container(body, start, check)
    scalar = _SCALAR.match(body, start)
    if scalar is None:
        raise BodyUndecodable(f"the body is not a JSON array of events: expected an event at byte {start:,}")
    return scalar.end()


def _end_of_container(body: bytes, start: int, check: Check) -> int:
    depth = 1
    for number, token in enumerate(_TOKENS.finditer(body, start + 1), 1):
        if number % _TOKENS_PER_CHECK == 0:
            check()
        kind = token.lastindex
        if kind == _OPENING:
            depth += 1
        elif kind == _CLOSING:
            depth -= 1
            if depth == 0:
                return token.end()
        elif kind == _SEVERAL:
            n, depth = _closing_bracket(token[kind], depth)
            if n:
                return _after_bracket(body, n, token.start(kind))
        else:
            break
    raise BodyUndecodable(f"the body is not a JSON array of events: the element at byte {start:,} does not end")


def _closing_bracket(text: bytes, depth: int) -> tuple[int, int]:
    """Return the number of the bracket in a text with which the depth becomes 0, or 0; and the depth after the text."""
    if depth == 1 and text[0] in b"]}":
        return 1, 0
    brackets = text.translate(_AS_SQUARE, _OTHERS)
    n_closing = brackets.count(b"]")
    if n_closing < depth:
        return 0, depth + len(brackets) - 2 * n_closing
    for n, bracket in enumerate(brackets, 1):
        depth += -1 if bracket == _CLOSING_BRACKET else 1
        if depth == 0:
            return n, 0
    return 0, depth


def _after_bracket(body: bytes, number: int, start: int) -> int:
    """Return the place after the bracket of this number, counted from the one at `start`."""
    if number == 1:
        return start + 1
    return next(islice(_BRACKETS.finditer(body, start), number - 1, None)).end()
