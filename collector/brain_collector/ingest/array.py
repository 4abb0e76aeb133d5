"""The elements of a JSON array, found without decoding them: one that is too large, or not JSON, affects no other.

Nothing is built but the elements: decoded, an array of 32 MiB would take up to a gigabyte.
"""

import re
from collections.abc import Iterator
from typing import Final

from brain_collector.errors import BodyUndecodable

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT: Final = rb'\[[^"\[\]{}]*+\]|\{[^"\[\]{}]*+\}'
_TOKENS: Final = re.compile(rb'(?:[^"\[\]{}]++|%b|%b)*+(?:([\[{])|([\]}])|("|\Z))' % (_STRING, _FLAT), re.DOTALL)
"""Everything up to a bracket outside a string, without flat pairs; or up to the end, or a string that does not end."""
_SCALAR: Final = re.compile(rb"%b|[^\[\]{}, \t\r\n\"]+" % _STRING, re.DOTALL)
_OPENING, _CLOSING, _UNENDED = 1, 2, 3


def is_array(body: bytes) -> bool:
    """Return whether a body begins as a JSON array."""
    return body.startswith(b"[", _after_space(body, 0))


def elements(body: bytes) -> Iterator[bytes]:
    """Yield the elements of a JSON array one by one.

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
        end = _end_of_element(body, start)
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


def _end_of_element(body: bytes, start: int) -> int:
    if body[start : start + 1] not in (b"[", b"{"):
        scalar = _SCALAR.match(body, start)
        if scalar is None:
            raise BodyUndecodable(f"the body is not a JSON array of events: expected an event at byte {start:,}")
        return scalar.end()
    depth = 1
    for token in _TOKENS.finditer(body, start + 1):
        kind = token.lastindex
        if kind == _OPENING:
            depth += 1
        elif kind == _CLOSING:
            depth -= 1
            if depth == 0:
                return token.end()
        elif kind == _UNENDED:
            break
    raise BodyUndecodable(f"the body is not a JSON array of events: the element at byte {start:,} does not end")
