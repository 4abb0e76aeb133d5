"""Keyset cursors: a position in a filtered list, as an opaque token that only fits that filter."""

import base64
import zlib
from datetime import datetime, timedelta
from typing import Final

import msgspec

from brain_collector.errors import ParameterInvalid

VERSION: Final = 1


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page; the next page begins after it."""

    timestamp: datetime
    id: int


class _Token(msgspec.Struct, frozen=True, array_like=True):
    version: int
    filter_digest: int
    position: Position


_decoder: Final = msgspec.json.Decoder(_Token)


def encode(position: Position, wanted: msgspec.Struct) -> str:
    """Return the token of a position in the list that `wanted` filters."""
    token = msgspec.json.encode(_Token(VERSION, _digest(wanted), position))
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode(text: str, wanted: msgspec.Struct) -> Position:
    """Return the position.

    Raises:
        ParameterInvalid: it is no token of ours, or was made for another filter.
    """
    try:
        token = _decoder.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.MsgspecError):
        raise ParameterInvalid("cursor is malformed; take it from the Link header of the page before") from None
    if (
        token.version != VERSION
        or token.position.timestamp.utcoffset() != timedelta(0)
        or abs(token.position.id) >= 2**63
    ):
        raise ParameterInvalid("cursor is malformed; take it from the Link header of the page before")
    if token.filter_digest != _digest(wanted):
        raise ParameterInvalid("cursor belongs to another filter; keep the filter while you page")
    return token.position


def _digest(wanted: msgspec.Struct) -> int:
    return zlib.crc32(msgspec.json.encode(wanted))
