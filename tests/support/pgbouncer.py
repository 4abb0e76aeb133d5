"""A PgBouncer in front of a Postgres, if one is installed.

The programs are those of BRAIN_TEST_PGBOUNCER (several are separated by colons) and `pgbouncer` on PATH. Each test asks
for the version that it needs, and is skipped without one.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec
import pytest

from tests.support.engines import scratch_dir
from tests.support.waiting import wait_until

POOL_SIZE = 5
TRACKS_STATEMENTS = (1, 21)
"""The first version that prepares a statement again on each server connection."""

_PORT = 6432


class Pooler(msgspec.Struct, frozen=True):
    """A running PgBouncer, by the directory of its socket, and the URL of the Postgres behind it."""

    directory: Path
    server_url: str

    @property
    def url(self) -> str:
        """The address of the same database through the pooler."""
        return self.url_of(urlsplit(self.server_url).path.lstrip("/"))

    def url_of(self, database: str) -> str:
        """The address of a database of the server through the pooler; `pgbouncer` is its console."""
        return f"postgresql://brain@/{database}?host={self.directory}&port={_PORT}"

    async def console(self, statement: str) -> None:
        """Run a statement on the console."""
        connection = await asyncpg.connect(self.url_of("pgbouncer"))
        try:
            await connection.execute(statement)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def all_connections(self) -> AsyncIterator[list[asyncpg.Connection]]:
        """Yield connections in transactions that together occupy every server connection of the pool."""
        async with AsyncExitStack() as stack:
            connections = [await asyncpg.connect(self.url, statement_cache_size=0) for _ in range(POOL_SIZE)]
            for connection in connections:
                stack.callback(connection.terminate)
                await stack.enter_async_context(connection.transaction())
            yield connections

    async def settings_left(self, *names: str) -> set[tuple[str, str]]:
        """Return the values of settings on all server connections of the pool, and the session locks they hold."""
        async with self.all_connections() as connections:
            found = set()
            for connection in connections:
                rows = await connection.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1)", names)
                found |= {(row["name"], row["setting"]) for row in rows}
                locks = "SELECT locktype || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
                found |= {("lock", row[0]) for row in await connection.fetch(locks)}
            return found


def program(*, tracks_statements: bool = True) -> str:
    """Return a program that keeps track of prepared statements, or one that is too old for it; skip without one."""
    found = {path: _version(path) for path in _programs()}
    for path, version in found.items():
        if (version >= TRACKS_STATEMENTS) == tracks_statements:
            return path
    needed = "1.21 or later" if tracks_statements else "before 1.21"
    versions = ", ".join(f"{path} is {'.'.join(map(str, version))}" for path, version in found.items())
    pytest.skip(f"needs PgBouncer {needed}, named by BRAIN_TEST_PGBOUNCER or on PATH; {versions or 'there is none'}")


def _programs() -> list[str]:
    named = [path for path in os.environ.get("BRAIN_TEST_PGBOUNCER", "").split(os.pathsep) if path]
    return [*named, *filter(None, [shutil.which("pgbouncer")])]


@cache
def _version(path: str) -> tuple[int, ...]:
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"PgBouncer (\d+)\.(\d+)", shown)
    assert match is not None, shown
    return int(match[1]), int(match[2])


@contextmanager
def pooled(server_url: str, path: str, **settings: str) -> Iterator[Pooler]:
    """Run PgBouncer in transaction mode in front of a database, as the user that runs the server; yield its address."""
    (sockets,) = parse_qs(urlsplit(server_url).query)["host"]
    owner = Path(sockets).stat()
    port = parse_qs(urlsplit(server_url).query).get("port", ["5432"])[0]
    with scratch_dir() as directory:
        os.chown(directory, owner.st_uid, owner.st_gid)
        values = {
            "pool_mode": "transaction",
            "default_pool_size": str(POOL_SIZE),
            "listen_port": str(_PORT),
            "unix_socket_dir": str(directory),
            "auth_type": "any",
            "admin_users": "brain",
            "logfile": str(directory / "log"),
            **settings,
        }
        lines = [f"{name} = {value}" for name, value in values.items()]
        config = directory / "pgbouncer.ini"
        databases = f"[databases]\n* = host={sockets} port={port} user=brain\n[pgbouncer]\n"
        config.write_text(databases + "\n".join(lines))
        unprivileged = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen([path, "-q", config], **unprivileged)  # type: ignore[call-overload]
        try:
            socket_file = directory / f".s.PGSQL.{_PORT}"
            wait_until(lambda: process.poll() is not None or _answers(socket_file), "PgBouncer accepts connections")
            assert process.poll() is None, (directory / "log").read_text()
            yield Pooler(directory, server_url)
        finally:
            process.kill()
            process.wait()


def _answers(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_file))
        except OSError:
            return False
    return True
