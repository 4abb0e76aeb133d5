"""Idempotency keys: what makes a request safe to send again, for as long as the key is remembered."""

import zlib
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request

from brain_collector.errors import BatchTooOld, IdempotencyKeyMalformed
from brain_events.wire import KEY_HEADER

CLOCK_MARGIN: Final = timedelta(days=1)
"""How far a client's clock may be ahead, and so how much sooner than it is forgotten a key is refused."""

_TIMED_VERSION: Final = 7


def idempotency_key(request: Request) -> UUID | None:
    """Return the Idempotency-Key: a UUID, bare or as the structured-field string of the IETF draft.

    Raises:
        IdempotencyKeyMalformed: it is no UUID.
    """
    given = request.headers.get(KEY_HEADER)
    if given is None:
        return None
    try:
        return UUID(given.strip().strip('"'))
    except ValueError:
        raise IdempotencyKeyMalformed(f"Idempotency-Key is {given[:80]!r}; send a UUID") from None


def refuse_too_old(key: UUID | None, now: datetime, life_days: int) -> None:
    """Refuse a key that may have been stored, and forgotten since: taken again, it would be stored twice.

    The age is read from the key itself, a UUIDv7 (RFC 9562, 5.7); keys of other versions carry no time, and are never
    too old. So a key that was taken, from a clock no more than `CLOCK_MARGIN` ahead, is refused by the time it is
    forgotten, `life_days` after its arrival.

    Raises:
        BatchTooOld: as said.
    """
    if key is None or key.version != _TIMED_VERSION:
        return
    oldest = now - (timedelta(days=life_days) - CLOCK_MARGIN)
    made_ms = key.int >> 80
    if made_ms < oldest.timestamp() * 1000:
        made = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=made_ms)).isoformat(timespec="seconds")
        raise BatchTooOld(
            f"the Idempotency-Key was made at {made}, more than {life_days - 1} days ago: it "
            "may have been stored, and forgotten since. Look whether its events are there; if not, send them under a "
            "new key. If it was made just now, the clock of the machine that sends is behind"
        )


def digest(body: bytes, *, single: bool = False) -> int:
    """Return what tells two bodies under one key apart: CRC-32 and length, both also in a gzip trailer.

    A single event has the sign for its own: as a batch of one line it may be the same bytes, and is answered otherwise.
    """
    found = len(body) << 32 | zlib.crc32(body)
    return -found if single else found
