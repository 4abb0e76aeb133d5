"""Writes a file atomically: data goes to FILE.part, which can be resumed, and is renamed to FILE when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

_BLOCK_BYTES: Final = 2**16


def part_of(path: Path) -> Path:
    """Return the path of a file's part."""
    return path.with_name(path.name + ".part")


@contextmanager
def open_part(path: Path, *, resume: bool) -> Iterator[BinaryIO]:
    """Yield the part, open for writing; rename it to the file at the end of the block. After an error, it is kept.

    With `resume`, an existing part is kept up to its last complete line. A pipe or a device is written directly.

    Raises:
        click.FileError: the file cannot be written.
    """
    path = path.resolve()
    is_regular = path.is_file() or not path.exists()
    part = part_of(path) if is_regular else path
    resumed = resume and is_regular and part.exists()
    try:
        with part.open("r+b" if resumed else "w+b" if is_regular else "wb") as file:
            if resumed:
                file.seek(_end_of_lines(file))
                file.truncate()
            yield file
            file.flush()
            if is_regular:
                os.fsync(file.fileno())
        if is_regular:
            part.replace(path)
    except OSError as error:
        raise click.FileError(str(part), error.strerror) from None


def last_line(file: BinaryIO) -> bytes:
    """Return the line that ends at the current position of `file`, without its line break; empty if there is none."""
    end = file.tell() if file.readable() else 0
    if not end:
        return b""
    start = _after_newline(file, end - 1)
    file.seek(start)
    return file.read(end - start).rstrip(b"\n")


def _end_of_lines(file: BinaryIO) -> int:
    return _after_newline(file, file.seek(0, os.SEEK_END))


def _after_newline(file: BinaryIO, end: int) -> int:
    """Return the position after the last line break before `end`."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
