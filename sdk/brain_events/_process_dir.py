"""A directory of the outbox that belongs to one process: held by a lock that dies with it, adopted when it is dead."""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108, PTH116, PTH208

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress

LOCK = "lock"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class ProcessDir:
    """A directory and the file descriptor that holds its lock (flock(2): until the descriptor is closed everywhere)."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock

    def file(self, name: str) -> str:
        """Return the path of a file in it."""
        return f"{self.path}/{name}"

    def release(self) -> None:
        """Let go of the lock, which a forked child must do first of all; what is left in it is up for adoption."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def close(self) -> None:
        """Remove the directory if it holds nothing more, and let go of the lock."""
        with suppress(OSError):
            if self._lock >= 0 and os.listdir(self.path) == [LOCK]:
                os.unlink(self.file(LOCK))
                os.rmdir(self.path)
        self.release()


def claim(root: str, tag: str) -> ProcessDir:
    """Make a directory of our own in `root` and lock it. Raises `OSError`.

    It gets its name once it is locked: an adopter never sees one that seems dead because it is not locked yet.
    """
    os.makedirs(root, mode=0o700, exist_ok=True)
    name = f"{tag}-{os.getpid()}-{os.urandom(4).hex()}"
    hidden = f"{root}/.{name}"
    os.mkdir(hidden, 0o700)
    lock = -1
    try:
        lock = os.open(f"{hidden}/{LOCK}", _FLAGS | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, f"{root}/{name}")
    except BaseException:
        found = ProcessDir(hidden, lock)
        found.close()
        raise
    return ProcessDir(f"{root}/{name}", lock)


def dead(root: str, tag: str) -> Iterator[ProcessDir]:
    """Yield, locked, each directory of this user under this tag that no process holds; oldest process first."""
    try:
        names = [entry for entry in os.scandir(root) if entry.name.startswith(f"{tag}-") and _is_ours(entry)]
    except OSError:
        return
    for path in sorted((entry.path for entry in names), key=_changed_at):
        if found := _try_lock(path):
            try:
                yield found
            finally:
                found.close()


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _try_lock(path: str) -> ProcessDir | None:
    try:
        lock = os.open(f"{path}/{LOCK}", _FLAGS, 0o600)
    except OSError:  # gone meanwhile
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its process lives, or another one adopts it
        os.close(lock)
        return None
    return ProcessDir(path, lock)
