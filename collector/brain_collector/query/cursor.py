"""Keyset cursors: a position in a filtered list, as an opaque token that is valid for that filter only."""

import base64
import zlib
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from brain_collector.errors import CursorMismatch, ParameterInvalid
from brain_collector.schema import Event

VERSION: Final = b"\x02"
_CHECK_BYTES: Final = 4


class Position(msgspec.Struct, frozen=True, array_like=True, order=True):
    """The timestamp and id of the last row of a page; the next page begins after it."""

    timestamp: datetime
    id: int


class Page(NamedTuple):
    """Events, and the position from which the next page resumes; None after the last page."""

    events: list[Event]
    after: Position | None


class _Token(msgspec.Struct, frozen=True, array_like=True):
    filter_digest: int
    position: Position


_decoder: Final = msgspec.json.Decoder(_Token)


def position_of(event: Event) -> Position:
    """Return the position of an event."""
    return Position(event.timestamp, event.id)


def encode(position: Position, filter: msgspec.Struct) -> str:
    """Return the token of a position in the list of a filter.

    It holds no secret and grants nothing: `to` reaches the same events as a forged token. Because of the checksum, a
    token that was cut or mistyped is refused instead of skipping events.
    """
    token = VERSION + msgspec.json.encode(_Token(_digest(filter), position))
    return base64.urlsafe_b64encode(token + _check(token)).rstrip(b"=").decode()


def decode(text: str, filter: msgspec.Struct) -> Position:
    """Return the position.

    Raises:
        ParameterInvalid: the token is malformed, or from another version.
        CursorMismatch: the token belongs to another filter.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        token = _decoder.decode(raw[1:-_CHECK_BYTES])
    except (ValueError, msgspec.MsgspecError):
        raise _malformed() from None
    if (
        raw[:1] != VERSION
        or raw[-_CHECK_BYTES:] != _check(raw[:-_CHECK_BYTES])
        or token.position.timestamp.utcoffset() != timedelta(0)
        or abs(token.position.id) >= 2**63
    ):
        raise _malformed()
    if token.filter_digest != _digest(filter):
        raise CursorMismatch(
            "cursor belongs to another filter; use the same filter for all pages, or start without `cursor`"
        )
    return token.position


def _malformed() -> ParameterInvalid:
    return ParameterInvalid(
        "cursor is malformed, or from another version of the collector; use that of the previous page's Link header"
    )


def _check(token: bytes) -> bytes:
    return zlib.crc32(token).to_bytes(_CHECK_BYTES, "big")


def _digest(filter: msgspec.Struct) -> int:
    return zlib.crc32(msgspec.json.encode(filter))
