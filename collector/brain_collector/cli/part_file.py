"""A file that is there only when it is whole: until then it is its part, FILE.part, which can be gone on with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click

_BLOCK_BYTES: Final = 2**16


def part_of(path: Path) -> Path:
    """Return where the part of a file is."""
    return path.with_name(path.name + ".part")


@contextmanager
def written(path: Path, *, resume: bool) -> Iterator[BinaryIO]:
    """Yield the part to write to; at the end of the block it takes the file's place, after an error it stays.

    `resume`: what is in the part already stays, up to its last whole line. A pipe or a device has no part.

    Raises:
        click.FileError: it cannot be written.
    """
    path = path.resolve()
    plain = path.is_file() or not path.exists()
    part = part_of(path) if plain else path
    kept = resume and plain and part.exists()
    try:
        with part.open("r+b" if kept else "w+b" if plain else "wb") as file:
            if kept:
                file.seek(_end_of_lines(file))
                file.truncate()
            yield file
            file.flush()
            if plain:
                os.fsync(file.fileno())
        if plain:
            part.replace(path)
    except OSError as error:
        raise click.FileError(str(part), error.strerror) from None


def last_line(file: BinaryIO) -> bytes:
    """Return the line that ends where `file` stands, without its line break; empty if there is none."""
    end = file.tell() if file.readable() else 0
    if not end:
        return b""
    start = _after_newline(file, end - 1)
    file.seek(start)
    return file.read(end - start).rstrip(b"\n")


def _end_of_lines(file: BinaryIO) -> int:
    return _after_newline(file, file.seek(0, os.SEEK_END))


def _after_newline(file: BinaryIO, end: int) -> int:
    """Return the place behind the last line break before `end`."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
