"""Sealing: lines go in, one `Batch` comes out, whose key and bytes stay the same on every attempt to deliver it."""

import zlib
from collections.abc import Callable, Sequence
from uuid import UUID, uuid5

import msgspec

from brain_events.wire import new_key

GZIP_OVER_BYTES = 1024
_GZIP = 31  # zlib's wbits for a gzip frame, which carries no clock time: the same lines give the same bytes

LastLook = Callable[[bytes], bytes]
"""Looks at an encoded event once more, on the worker, before it leaves the process, and returns what may leave."""


class Batch(msgspec.Struct, frozen=True):
    """Events that travel together: `body` is NDJSON as it is sent, `line_bytes` their weight in the buffer."""

    key: UUID
    body: bytes
    gzipped: bool
    count: int
    line_bytes: int


def seal(lines: Sequence[bytes], key: UUID | None = None, last_look: LastLook | None = None) -> Batch:
    """Return the batch of `lines`, under a new key where none is given."""
    plain = b"\n".join(lines if last_look is None else map(last_look, lines)) + b"\n" if lines else b""
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
    """Return the two halves of `batch`; halving it again, in any process, gives the same keys and bytes."""
    lines = unseal(batch)
    middle = len(lines) // 2
    first, second = half_keys(batch.key)
    return seal(lines[:middle], first), seal(lines[middle:], second)


def half_keys(key: UUID) -> tuple[UUID, UUID]:
    """Return the keys of the halves of a batch."""
    return _part_key(key, 0), _part_key(key, 1)


def _part_key(parent: UUID, part: int) -> UUID:
    """Keep the place of a UUIDv7 among its like; variant and 62 bits below come from a UUIDv5 (RFC 9562, 5.5)."""
    return UUID(int=parent.int >> 64 << 64 | uuid5(parent, str(part)).int & (1 << 64) - 1)
