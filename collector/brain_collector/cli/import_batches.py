"""Cuts lines of NDJSON into batches; the same file always yields the same batches with the same idempotency keys."""

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol
from uuid import UUID, uuid5

BATCH_LINES: Final = 1_000
BATCH_BYTES: Final = 4 * 2**20
_NAMESPACE: Final = UUID("0b6f4b0e-6f0e-5c1e-9a63-2f6c6f2f3a11")


class Lines(Protocol):
    """A source of lines."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its first `size` bytes; nothing at the end."""


class Batch(NamedTuple):
    """Lines that are sent in one request: their numbers in the file, from 1, and those of lines that are too long."""

    body: bytes
    numbers: list[int]
    too_long: list[int]

    @property
    def idempotency_key(self) -> UUID:
        """The key of these lines at this position of a file."""
        return uuid5(_NAMESPACE, f"{hashlib.sha256(self.body).hexdigest()} {self.numbers[0]}")


def batches(file: Lines, max_lines: int = BATCH_LINES) -> Iterator[Batch]:
    """Yield all lines that are not blank, in batches of at most `max_lines` and 4 MiB.

    A line longer than 4 MiB is left out; its number is in `too_long`.
    """
    lines: list[bytes] = []
    numbers: list[int] = []
    too_long: list[int] = []
    size = number = 0
    while line := file.readline(BATCH_BYTES + 1):
        number += 1
        if len(line) > BATCH_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(BATCH_BYTES)
            too_long.append(number)
        elif line.strip():
            if size + len(line) > BATCH_BYTES or len(lines) == max_lines:
                yield Batch(b"".join(lines), numbers, too_long)
                lines, numbers, too_long, size = [], [], [], 0
            lines.append(line if line.endswith(b"\n") else line + b"\n")
            numbers.append(number)
            size += len(lines[-1])
    if lines or too_long:
        yield Batch(b"".join(lines), numbers, too_long)
