"""A directory of the outbox that belongs to one process: held by a lock that dies with it, adopted when it is dead."""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH120, PTH208

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from brain_events._queue.batch_file import fsync_directory

LOCK = "lock"
_NAME = re.compile(r"\.?[0-9a-f]{8}-[0-9]+-[0-9a-f]{8}")  # with a dot: its process died while it made it
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


def claim(root: str, tag: str, *, fsync: bool = False) -> ProcessDir:
    """Make a directory of our own in `root` and lock it. Raises `OSError`.

    It gets its name once it is locked: an adopter never sees one that seems dead because it is not locked yet.
    """
    missing = _missing(root) if fsync else 0
    os.makedirs(root, mode=0o700, exist_ok=True)
    name = f"{tag}-{os.getpid()}-{os.urandom(4).hex()}"
    hidden = f"{root}/.{name}"
    os.mkdir(hidden, 0o700)
    found = ProcessDir(hidden, -1)
    try:
        lock = os.open(f"{hidden}/{LOCK}", _FLAGS | os.O_EXCL, 0o600)
        found = ProcessDir(hidden, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, f"{root}/{name}")
        found = ProcessDir(f"{root}/{name}", lock)
        if fsync:
            _fsync_path(root, missing)
    except BaseException:
        found.close()
        raise
    return found


def dead(root: str, tag: str) -> Iterator[ProcessDir]:
    """Yield, locked, each directory of this user under this tag that no process holds; oldest process first."""
    return _unheld(root, lambda entry: entry.name.startswith(f"{tag}-"))


def abandoned(root: str, before: float) -> Iterator[ProcessDir]:
    """Yield, locked, each one under any tag that no process holds, and that has not changed since `before`."""
    return _unheld(root, lambda entry: bool(_NAME.fullmatch(entry.name)) and _changed_at(entry.path) < before)


def _unheld(root: str, wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[ProcessDir]:
    try:
        paths = [entry.path for entry in os.scandir(root) if wanted(entry) and _is_ours(entry)]
    except OSError:
        return
    for path in sorted(paths, key=_changed_at):
        if found := _try_lock(path):
            try:
                yield found
            finally:
                found.close()


def _fsync_path(directory: str, made: int) -> None:
    """Make a directory outlive a power loss: its name stands in the one above; so do those of as many as were made."""
    for _ in range(made + 2):
        fsync_directory(directory)
        directory = os.path.dirname(directory)


def _missing(directory: str) -> int:
    """Return how many directories above the last one are to be made."""
    missing = 0
    while not os.path.isdir(directory := os.path.dirname(directory)):
        missing += 1
    return missing


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
