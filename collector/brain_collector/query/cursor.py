"""Keyset cursors: a position in a filtered list, as an opaque token that only fits that filter."""

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
    """The last row of a page; the next page begins after it."""

    timestamp: datetime
    id: int


class Page(NamedTuple):
    """Events, and where the next page goes on; None after the last one."""

    events: list[Event]
    after: Position | None


class _Token(msgspec.Struct, frozen=True, array_like=True):
    filter_digest: int
    position: Position


_decoder: Final = msgspec.json.Decoder(_Token)


def position_of(event: Event) -> Position:
    """Return the position of an event."""
    return Position(event.timestamp, event.id)


def encode(position: Position, wanted: msgspec.Struct) -> str:
    """Return the token of a position in the list that `wanted` filters.

    It holds no secret and grants nothing: what a forged one asks for can be asked for by `to` as well. The checksum
    is there so that a token that was cut or mistyped is refused, and does not skip events.
    """
    token = VERSION + msgspec.json.encode(_Token(_digest(wanted), position))
    return base64.urlsafe_b64encode(token + _check(token)).rstrip(b"=").decode()


def decode(text: str, wanted: msgspec.Struct) -> Position:
    """Return the position.

    Raises:
        ParameterInvalid: it is no token of ours, or of another version.
        CursorMismatch: it was made for another filter.
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
    if token.filter_digest != _digest(wanted):
        raise CursorMismatch(
            "cursor belongs to another filter; keep the filter while you page, or begin without cursor"
        )
    return token.position


def _malformed() -> ParameterInvalid:
    return ParameterInvalid(
        "cursor is malformed, or of another version of the collector; take it from the Link header of the page before"
    )


def _check(token: bytes) -> bytes:
    return zlib.crc32(token).to_bytes(_CHECK_BYTES, "big")


def _digest(wanted: msgspec.Struct) -> int:
    return zlib.crc32(msgspec.json.encode(wanted))
