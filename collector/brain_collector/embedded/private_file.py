"""Opens files that only this user can have written: never through a link, and no file that another user put there.

Root opens the lock and the logs of a data directory, and would otherwise write wherever a link there leads.
"""

import os
import stat
from pathlib import Path

from brain_collector.embedded.errors import DataDirError


def open_private(path: str | Path, flags: int) -> int:
    """Open a file as `os.open` does, and create it for this user only; it fits the `opener` of `open`.

    Raises:
        DataDirError: it is a link, no regular file, has another owner, or has further names.
    """
    try:
        # Without O_NONBLOCK, a pipe in place of the file would block until another process reads it.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if not Path(path).is_symlink():
            raise
        raise _refusal(path, "is a symbolic link") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    what = f"belongs to uid {status.st_uid}" if status.st_uid != os.geteuid() else "is no regular file of its own"
    raise _refusal(path, what)


def _refusal(path: str | Path, what: str) -> DataDirError:
    return DataDirError(
        f"{path} {what}, so writing it could destroy another file or tell somebody its content. Move it away."
    )


def check_directory(path: Path) -> None:
    """Check that only this user, root and this user's groups can put files into a directory.

    Raises:
        DataDirError: its owner or its mode allows others to.
    """
    status = path.stat()
    if status.st_uid not in {os.geteuid(), 0}:
        raise DataDirError(
            f"The data directory {path} belongs to uid {status.st_uid}, but this process runs as uid {os.geteuid()}. "
            "Run it as the owner, change the owner with chown, or name another directory with --data-dir."
        )
    groups = {os.getegid(), *os.getgroups()}
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid not in groups):
        raise DataDirError(
            f"Other users may write to the data directory {path} ({stat.filemode(status.st_mode)}). Forbid it with "
            f"`chmod go-w {path}`, or name another directory with --data-dir."
        )
