"""Idempotency keys: a request with one is safe to retry for as long as the collector remembers it.

Here a key is read, and refused if it is too old. Whether its body is another than before is decided in
`ingest.duplicates`.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request

from brain_collector.errors import BatchTooOld, IdempotencyKeyMalformed
from brain_collector.http.body import INLINE_BYTES
from brain_collector.ingest.duplicates import Form, KeyUse, fingerprint_of
from brain_events.wire import KEY_HEADER

CLOCK_MARGIN: Final = timedelta(days=1)
"""How far a client's clock may be ahead. An idempotency key is refused this long before it is forgotten."""

_TIMED_VERSION: Final = 7


def idempotency_key(request: Request) -> UUID | None:
    """Return the Idempotency-Key header: a UUID, bare or as the structured-field string of the IETF draft.

    Raises:
        IdempotencyKeyMalformed: the header is not a UUID.
    """
    texts = request.headers.getlist(KEY_HEADER)
    if not texts:
        return None
    text = ", ".join(texts)  # several headers are not a UUID
    try:
        return UUID(text.strip().strip('"'))
    except ValueError:
        raise IdempotencyKeyMalformed(f"Idempotency-Key is {text[:80]!r}, must be a UUID") from None


def refuse_too_old(key: UUID | None, now: datetime, life_days: int) -> None:
    """Refuse an idempotency key that may have been forgotten: its events could be stored a second time.

    The age is read from the key itself, a UUIDv7 (RFC 9562, section 5.7); UUIDs of other versions contain no time and
    are never too old. A key is forgotten `life_days` after its arrival. If the client's clock was at most
    `CLOCK_MARGIN` ahead, the key is refused from then on.

    Raises:
        BatchTooOld: the key may have been forgotten.
    """
    if key is None or key.version != _TIMED_VERSION:
        return
    oldest = now - (timedelta(days=life_days) - CLOCK_MARGIN)
    created_ms = key.int >> 80
    if created_ms < oldest.timestamp() * 1000:
        created = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=created_ms)).isoformat(timespec="seconds")
        raise BatchTooOld(
            f"the Idempotency-Key was created at {created}, more than {life_days - 1} days ago: its events may have "
            "been stored, and the key forgotten. Check whether they are stored; if not, send them with a new key. If "
            "the key was created just now, the clock of the sending machine is behind"
        )


async def key_use(key: UUID | None, caller: str, body: bytes, form: Form) -> KeyUse | None:
    """Return the use of the idempotency key for this body; None without a key."""
    if key is None:
        return None
    if len(body) > INLINE_BYTES:  # in the event loop it would block other requests
        fingerprint = await asyncio.to_thread(fingerprint_of, body, form)
    else:
        fingerprint = fingerprint_of(body, form)
    return KeyUse(key, caller, fingerprint)
