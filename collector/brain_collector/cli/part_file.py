"""Writes a file atomically: data goes to FILE.part, which can be resumed, and is renamed to FILE when complete.

The directory may be one that others write to, such as /tmp: no link or pipe of another user is opened there, the mode
of another user's file is not used, and nobody else reads a part.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    _refuse_planted(path)
    path = path.resolve()
    _refuse_planted(path)
    is_regular = path.is_file() or not path.exists()
    part = part_of(path) if is_regular else path
    resumed = resume and is_regular and os.path.lexists(part)
    try:
        if is_regular and not resumed:
            part.unlink(missing_ok=True)
        opener = _open_own if is_regular else _open_special
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


def _refuse_planted(path: Path) -> None:
    """Refuse a link or a pipe of another user, who may have planted it to redirect the events. A file is replaced."""
    with suppress(FileNotFoundError, NotADirectoryError):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            _refuse_special_of_others(str(path), status)


def _refuse_special_of_others(path: str, status: os.stat_result) -> None:
    if _is_ours(status) or stat.S_ISCHR(status.st_mode):  # only root makes devices, and lets a user own a terminal
        return
    kind = "symbolic link" if stat.S_ISLNK(status.st_mode) else "pipe or another special file"
    raise click.FileError(path, f"it is a {kind} of another user; name another file")


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in {os.geteuid(), 0}


def _open_special(path: str, flags: int) -> int:
    """Open a pipe or a device, unless another user has put something else in its place."""
    descriptor = os.open(path, (flags | os.O_NOFOLLOW) & ~os.O_CREAT)
    try:
        _refuse_special_of_others(path, os.fstat(descriptor))
    except click.FileError:
        os.close(descriptor)
        raise
    return descriptor


def _open_own(part: str, flags: int) -> int:
    """Open a part without following a link; only this user may read it, and must own one that exists."""
    descriptor = os.open(part, flags | os.O_NOFOLLOW, 0o600)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise click.FileError(part, "it is not a file of this user; move it away, or export to another file")


def _final_mode(path: Path) -> int:
    """Return the mode of the finished file: that of this user's file which it replaces, else as the umask says."""
    if path.exists() and _is_ours(status := path.lstat()):
        return status.st_mode & 0o777
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
