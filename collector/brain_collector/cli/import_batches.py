"""Lines of NDJSON in, batches out: cut the same way and under the same key whenever the same file is read."""

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol
from uuid import UUID, uuid5

BATCH_LINES: Final = 1_000
BATCH_BYTES: Final = 4 * 2**20
_NAMESPACE: Final = UUID("0b6f4b0e-6f0e-5c1e-9a63-2f6c6f2f3a11")


class Lines(Protocol):
    """What lines are read from."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or `size` bytes of it; nothing at the end."""


class Batch(NamedTuple):
    """Lines that are sent at once. `numbers` are their places in the file, from 1; `long` of those left out."""

    body: bytes
    numbers: list[int]
    long: list[int]

    @property
    def key(self) -> UUID:
        """The idempotency key: that of the same lines at the same place of a file."""
        return uuid5(_NAMESPACE, f"{hashlib.sha256(self.body).hexdigest()} {self.numbers[0]}")


def batches(file: Lines, most: int = BATCH_LINES) -> Iterator[Batch]:
    """Yield all lines but blank ones, in batches of `most` or 4 MiB. A longer line is left out, and its number told."""
    lines: list[bytes] = []
    numbers: list[int] = []
    long: list[int] = []
    size = number = 0
    while line := file.readline(BATCH_BYTES + 1):
        number += 1
        if len(line) > BATCH_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(BATCH_BYTES)
            long.append(number)
        elif line.strip():
            if size + len(line) > BATCH_BYTES or len(lines) == most:
                yield Batch(b"".join(lines), numbers, long)
                lines, numbers, long, size = [], [], [], 0
            lines.append(line if line.endswith(b"\n") else line + b"\n")
            numbers.append(number)
            size += len(lines[-1])
    if lines or long:
        yield Batch(b"".join(lines), numbers, long)
