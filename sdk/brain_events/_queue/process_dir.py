"""The directory of one process in the outbox. Its lock ends with the process; then another process may adopt it."""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH102, PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH120, PTH208

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from brain_events._queue.batch_file import fsync_directory

LOCK = "lock"
_NAME = re.compile(r"\.?[0-9a-f]{8}-[0-9]+-[0-9a-f]{8}")  # with a dot: the process died while it created it
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class ProcessDir:
    """A directory and the descriptor of its lock; flock(2) holds it until all processes have closed the descriptor."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock

    def file(self, name: str) -> str:
        """Return the path of the file `name` in this directory."""
        return f"{self.path}/{name}"

    def release(self) -> None:
        """Release the lock, as a forked child must do first; other processes may then adopt the files."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def close(self) -> None:
        """Remove the directory if it holds no more files, and release the lock."""
        with suppress(OSError):
            if self._lock >= 0 and os.listdir(self.path) == [LOCK]:
                os.unlink(self.file(LOCK))
                os.rmdir(self.path)
        self.release()


class Home:
    """The directory of this process in `root`, created when it is first needed. Any thread may call its methods.

    No lock is acquired: of several calls that create it, of several threads or of one that a signal handler interrupts,
    the first to append wins.
    """

    def __init__(self, root: str, tag: str, *, fsync: bool = False) -> None:
        self._root = root
        self._tag = tag
        self._fsync = fsync
        self._claimed: list[ProcessDir] = []  # at most one

    @property
    def path(self) -> str | None:
        """The path of the directory, if it exists."""
        return self._claimed[0].path if self._claimed else None

    def open(self) -> ProcessDir:
        """Return the directory.

        Raises:
            OSError: It cannot be created.
        """
        home = self._claimed
        if not home:
            claimed = claim(self._root, self._tag, fsync=self._fsync)
            home.append(claimed)
            if home[0] is not claimed:
                claimed.close()
        return home[0]

    def forget_if_removed(self) -> bool:
        """Create another directory at the next call if somebody has removed this one; return whether that is so."""
        home = self._claimed
        if not home or os.path.isdir(home[0].path):
            return False
        if self._claimed is home:  # no other thread has done so
            self._claimed = []
        for directory in home:
            directory.release()
        return True

    def close(self) -> None:
        """Release the directory; the next process adopts its files."""
        home, self._claimed = self._claimed, []
        for directory in home:
            directory.close()

    def release(self) -> None:
        """Release the lock in a forked child: files and lock belong to the parent."""
        for directory in self._claimed:
            directory.release()


def open_root(path: str) -> int:
    """Open the directory of the outbox, and return its descriptor. A link to it must belong to this user, or to root.

    Raises:
        OSError: See `open_private`.
    """
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode) and state.st_uid in {0, os.geteuid()}:
        path = os.path.realpath(path)
    return open_private(path)


def open_private(path: str, parent: int | None = None) -> int:
    """Open a directory, in the directory `parent` if given, and return its descriptor.

    Raises:
        OSError: It is a link, or another user owns it or may write to it, and could plant links in it.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise OSError(f"{path} is a link that is not followed, or not a directory") from error
        raise
    state = os.fstat(directory)
    if state.st_uid == os.geteuid() and not state.st_mode & 0o022:
        return directory
    os.close(directory)
    raise OSError(
        f"{path} belongs to uid {state.st_uid} and has mode {state.st_mode & 0o7777:04o}, but only this user (uid "
        f"{os.geteuid()}) may be able to write to it; use a new directory inside it, or correct owner and mode"
    )


def claim(root: str, tag: str, *, fsync: bool = False) -> ProcessDir:
    """Create and lock a directory for this process in `root`.

    It is renamed to its final name once it is locked, so that no other process takes it for a dead one before that.

    Raises:
        OSError: The directory cannot be created.
    """
    missing = _count_missing_parents(root) if fsync else 0
    os.makedirs(root, mode=0o700, exist_ok=True)
    os.close(open_root(root))
    name = f"{tag}-{os.getpid()}-{os.urandom(4).hex()}"
    hidden = f"{root}/.{name}"
    os.mkdir(hidden, 0o700)
    directory = ProcessDir(hidden, -1)
    try:
        lock = os.open(f"{hidden}/{LOCK}", _FLAGS | os.O_EXCL, 0o600)
        directory = ProcessDir(hidden, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(hidden, f"{root}/{name}")
        directory = ProcessDir(f"{root}/{name}", lock)
        if fsync:
            _fsync_path(root, missing)
    except BaseException:
        directory.close()
        raise
    return directory


def dead_dirs(root: str, tag: str, *, needs_lock: bool = False) -> Iterator[ProcessDir]:
    """Yield, locked, each directory of this user with this tag whose process has ended; the oldest first.

    Without its file `lock`, which a power loss may take, a directory counts as that of a dead process unless
    `needs_lock`.
    """
    return _unlocked(root, lambda entry: entry.name.startswith(f"{tag}-"), needs_lock=needs_lock)


def abandoned_dirs(root: str, before: float) -> Iterator[ProcessDir]:
    """Yield, locked, each directory with any tag whose process has ended and that has not changed since `before`."""
    return _unlocked(root, lambda entry: bool(_NAME.fullmatch(entry.name)) and _changed_at(entry.path) < before)


def _unlocked(
    root: str, matches: Callable[[os.DirEntry[str]], bool], *, needs_lock: bool = False
) -> Iterator[ProcessDir]:
    try:
        paths = [entry.path for entry in os.scandir(root) if matches(entry) and _is_ours(entry)]
    except OSError:
        return
    for path in sorted(paths, key=_changed_at):
        if directory := _try_lock(path, needs_lock=needs_lock):
            try:
                yield directory
            finally:
                directory.close()


def _fsync_path(directory: str, created_parents: int) -> None:
    """Make a directory survive a power loss: its parent holds its name, and so on up to the first one that existed."""
    for _ in range(created_parents + 2):
        fsync_directory(directory)
        directory = os.path.dirname(directory)


def _count_missing_parents(directory: str) -> int:
    """Return how many parents of `directory` do not exist."""
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


def _try_lock(path: str, *, needs_lock: bool) -> ProcessDir | None:
    try:
        lock = os.open(f"{path}/{LOCK}", _FLAGS & ~os.O_CREAT if needs_lock else _FLAGS, 0o600)
    except OSError:  # removed meanwhile
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its process is alive, or another one adopts it
        os.close(lock)
        return None
    return ProcessDir(path, lock)
