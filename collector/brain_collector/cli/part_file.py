"""Writes a file atomically: data goes to FILE.part, which can be resumed, and is renamed to FILE when complete.

The directory may be one that others write to, such as /tmp: no link is followed there, and nobody else reads a part.
"""

import os
import stat
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
    _refuse_link_of_others(path)
    path = path.resolve()
    is_regular = path.is_file() or not path.exists()
    part = part_of(path) if is_regular else path
    resumed = resume and is_regular and os.path.lexists(part)
    try:
        if is_regular and not resumed:
            part.unlink(missing_ok=True)
        opener = _open_own if is_regular else None
        with open(part, "r+b" if resumed else "x+b" if is_regular else "wb", opener=opener) as file:
            if resumed:
                file.seek(_end_of_lines(file))
                file.truncate()
            yield file
            file.flush()
            if is_regular:
                os.fchmod(file.fileno(), _final_mode(path))
                os.fsync(file.fileno())
        if is_regular:
            part.replace(path)
    except OSError as error:
        raise click.FileError(str(part), error.strerror) from None


def _refuse_link_of_others(path: Path) -> None:
    """Refuse a link that another user may have planted to have some other file overwritten."""
    if path.is_symlink() and path.lstat().st_uid not in {os.geteuid(), 0}:
        raise click.FileError(str(path), "it is a symbolic link of another user; name another file")


def _open_own(part: str, flags: int) -> int:
    """Open a part without following a link; only this user may read it, and must own one that exists."""
    descriptor = os.open(part, flags | os.O_NOFOLLOW, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise click.FileError(part, "it is not a file of this user; move it away, or export to another file")


def _final_mode(path: Path) -> int:
    """Return the mode of the finished file: that of the file it replaces, else as the umask says."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


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
