"""Seal lines into a `Batch`, whose idempotency key and bytes stay the same on every attempt to deliver it."""

import zlib
from collections.abc import Callable, Sequence
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from brain_events.wire import new_key

GZIP_OVER_BYTES = 1024
_GZIP = 31  # zlib's wbits for a gzip frame without a time: the same lines give the same bytes

Scrub = Callable[[bytes], bytes]
"""Removes secrets from an encoded event, on the worker, before it leaves the process."""


class Batch(msgspec.Struct, frozen=True):
    """Events that are sent together: `body` is the NDJSON as sent, `line_bytes` what the buffer counts for it."""

    key: UUID
    body: bytes
    gzipped: bool
    count: int
    line_bytes: int


def seal(lines: Sequence[bytes], key: UUID | None = None, scrub: Scrub | None = None) -> Batch:
    """Return the batch of `lines`, by default under a new idempotency key."""
    plain = b"\n".join(lines if scrub is None else map(scrub, lines)) + b"\n" if lines else b""
    gzipped = len(plain) > GZIP_OVER_BYTES
    return Batch(
        key=key or new_key(),
        body=zlib.compress(plain, 1, _GZIP) if gzipped else plain,
        gzipped=gzipped,
        count=len(lines),
        line_bytes=sum(map(len, lines)),
    )


def unseal(batch: Batch) -> list[bytes]:
    """Return the lines of `batch`."""
    return (zlib.decompress(batch.body, _GZIP) if batch.gzipped else batch.body).splitlines()


def halve(batch: Batch) -> tuple[Batch, Batch]:
    """Return the two halves of `batch`. Halving it again, in any process, gives the same keys and bytes."""
    lines = unseal(batch)
    middle = len(lines) // 2
    first, second = map(seal, (lines[:middle], lines[middle:]), half_keys(batch.key))
    line_bytes = min(first.line_bytes, batch.line_bytes)  # scrubbed lines may be longer than those in the buffer
    return replace(first, line_bytes=line_bytes), replace(second, line_bytes=batch.line_bytes - line_bytes)


def half_keys(key: UUID) -> tuple[UUID, UUID]:
    """Return the idempotency keys of the halves of a batch."""
    return _part_key(key, 0), _part_key(key, 1)


def _part_key(parent: UUID, part: int) -> UUID:
    """Return a UUIDv7 that sorts as its parent; the variant and the 62 bits below are a UUIDv5's (RFC 9562, 5.5)."""
    return UUID(int=parent.int >> 64 << 64 | uuid5(parent, str(part)).int & (1 << 64) - 1)
