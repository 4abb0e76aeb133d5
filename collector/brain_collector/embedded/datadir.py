"""The data directory: where it is, who may use it, who owns what is in it.

lock            held for as long as the engines run; holds our pid
postgres/       the cluster                    owned by the user the engines run as
run/            the sockets                    owned by the user the engines run as
engine/         copies of engines (root only)
*.log           what the engines say
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
from brain_collector.embedded.supervisor import Owner

MAX_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""The size of sun_path in unix(7), less its NUL."""
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


@contextmanager
def opened(data_dir: Path) -> Iterator[Path]:
    """Create the directory and hold its lock; yields its real path. Raises DataDirError if another process has it."""
    data_dir = data_dir.expanduser().resolve()
    try:
        # Root's engines run as another user, who has to pass through but not to look around.
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise DataDirError(
            f"The data directory {data_dir} cannot be used: {error.strerror} ({error.filename}). "
            "Give another one with --data-dir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataDirError(
                f"The data directory {data_dir} is in use by another collector (pid {lock.read().strip()}). "
                "Stop that one, or give this one a directory of its own with --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield data_dir


def choose_owner(data_dir: Path, preferred: str | None) -> Owner:
    """Who the engines run as: ourselves, or for root `preferred`, the owner of the data, `brain-events`, `nobody`.

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
            f"PostgreSQL does not run as root, and {preferred or 'brain-events or nobody'} is no ordinary user here. "
            "Name one with BRAIN_COLLECTOR_PG_USER, or start the collector as an ordinary user."
        )
    owner = Owner(user.pw_name, user.pw_uid, user.pw_gid)
    if (closed := _closed_to(owner, data_dir)) is not None:
        raise DataDirError(
            f"The engines run as user {owner.name}, who cannot enter {closed} on the way to {data_dir}. "
            "Give another data directory with --data-dir (/var/lib/brain-events is the default for root)."
        )
    return owner


def private_dir(path: Path, owner: Owner) -> Path:
    """Make `path`, if need be, a directory that `owner` alone may enter. Raises DataDirError if it is anything else."""
    with contextlib.suppress(FileExistsError):  # if it is no directory, that is said below
        path.mkdir(mode=0o700)
    if path.lstat().st_uid == os.geteuid() != owner.uid:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner.uid or found.st_mode & 0o077:
        raise DataDirError(
            f"{path} has to be a directory that only user {owner.name} may enter; it has the owner uid {found.st_uid} "
            f"and the mode {stat.filemode(found.st_mode)}. Move it away."
        )
    return path


def socket_dir(data_dir: Path, owner: Owner) -> Path:
    """Make, if need be, the directory of the sockets."""
    return private_dir(socket_path(data_dir), owner)


def socket_path(data_dir: Path) -> Path:
    """Where the sockets are: in the data directory, or under /tmp where its path is too long for a socket."""
    directory = data_dir / "run"
    if len(os.fsencode(directory / LONGEST_SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        directory = Path("/tmp") / f"brain-events-{name}"  # noqa: S108 - private_dir checks owner and mode
    return directory


def wheel_dir(package: str) -> Path | None:
    """The directory of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def within_reach(package_dir: Path, distribution: str, data_dir: Path, owner: Owner) -> Path:
    """A directory with the package's files that `owner` can reach: where they are, or a copy keyed on the version."""
    if _closed_to(owner, package_dir) is None:
        return package_dir
    engines = data_dir / "engine" / package_dir.name
    copy = engines / importlib.metadata.version(distribution)
    if not copy.exists():
        shutil.rmtree(engines, ignore_errors=True)  # other versions, and what a crash left
        unfinished = engines / "unfinished"
        # The libraries are found by the path from the binary: the sibling has to come along.
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
    """The first directory on the way to `path`, itself included, that `owner` may not enter."""
    if owner.uid == os.geteuid():
        return None  # we came here ourselves, perhaps by a supplementary group
    for directory in (*reversed(path.parents), path):
        found = directory.stat()
        shift = 6 if found.st_uid == owner.uid else 3 if found.st_gid == owner.gid else 0
        if not found.st_mode >> shift & 0o1:
            return directory
    return None


def _user_of(path: Path) -> pwd.struct_passwd:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise DataDirError(
            f"{path} belongs to uid {uid}, which is no user here. Give it to one, or move it away."
        ) from None


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
