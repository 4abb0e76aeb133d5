"""What the collector's tests share: events as clients send them, SQL behind its back, waiting, processes."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec

from brain_collector.api.operation import Operation
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON
from tests.support.engines import SuiteEngines
from tests.support.waiting import ENVIRONMENT, PATIENCE_S, eventually, wait_until

FOREIGN = "source IS DISTINCT FROM 'collector'"
"""SQL: only the events that a test sent, none of the collector's own."""
BEGUN_HERE = "UPDATE epochs SET database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())"
"""SQL, in a copy of the template: it is not one that a collector should notice."""


def event(**fields: Any) -> dict[str, Any]:
    """Return a valid event, with `fields` over the minimum."""
    return {"event_type": "test", "severity": "info", "message": "m", **fields}


def ndjson(*events: dict[str, Any]) -> bytes:
    """Return one line an event."""
    return b"".join(msgspec.json.encode(each) + b"\n" for each in events)


async def post_batch(
    client: httpx.AsyncClient, body: bytes, *, key: UUID | str | None = None, **headers: str
) -> httpx.Response:
    """Post a body as NDJSON, unless `content_type` says else; `content_encoding` works alike."""
    sent = {"Content-Type": NDJSON} | {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent[KEY_HEADER] = str(key)
    return await client.post(BATCH_PATH, content=body, headers={name.title(): value for name, value in sent.items()})


def outcome(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of a problem."""
    return answer.status_code, answer.json()["code"]


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """Create an event, which must work; return it as answered."""
    answer = await client.post("/api/events", json=event(**fields))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def sql(dsn: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Run one statement; return its rows."""
    async with connected(dsn) as connection:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]


async def count_foreign(dsn: str) -> int:
    """Count the events that are not the collector's own."""
    ((n,),) = await sql(dsn, f"SELECT count(*) FROM system_events WHERE {FOREIGN}")
    return int(n)


def transport_of(sending: asyncio.StreamWriter) -> asyncio.Transport:
    """Return the transport of a connection: pausing its reading makes a client that does not read."""
    assert isinstance(sending.transport, asyncio.Transport)
    return sending.transport


async def own_events(dsn: str, event_type: str) -> list[dict[str, Any]]:
    """Return the details of the collector's own events of a type, oldest first."""
    rows = await sql(
        dsn,
        "SELECT details FROM system_events WHERE source = 'collector' AND event_type = $1 ORDER BY timestamp, id",
        event_type,
    )
    return [msgspec.json.decode(details) if details else {} for (details,) in rows]


async def started(dsn: str, collectors: int = 1) -> None:
    """Return when the collectors have stored that they started, so that no event of their own is still to come."""

    async def stored() -> bool:
        return len(await own_events(dsn, "system_startup")) == collectors

    await eventually(stored, "system_startup is stored")


@contextmanager
def new_database(engines: SuiteEngines, *, template: str | None = None, name: str | None = None) -> Iterator[str]:
    """Yield the address of a new database; without a `template` it has no schema. Works in a loop and outside."""
    name = name or f"own_{uuid4().hex}"
    _elsewhere(engines.maintenance_url, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        if template == "migrated":
            _elsewhere(engines.database_url(name), BEGUN_HERE)
        yield engines.database_url(name)
    finally:
        _elsewhere(engines.maintenance_url, f"DROP DATABASE {name} WITH (FORCE)")


def _elsewhere(dsn: str, statement: str) -> None:
    """Run a statement in a thread: this one may have a running loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(sql(dsn, statement))).result()


class Process:
    """A collector in a process of its own, serving at `url`; `lines` is what it has printed so far.

    Its log is written to the file `log`, if one is given.
    """

    def __init__(self, *flags: str, log: str = "", **environ: str) -> None:
        command = [sys.executable, "-m", "brain_collector", "serve", "--port", "0", *flags]
        with Path(log).open("w") if log else nullcontext() as stderr:
            self._popen = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **ENVIRONMENT, **environ}
            )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: self._address() or self._popen.poll() is not None, "the collector serves")
        found = self._address()
        assert found is not None, f"the collector ended: {self.lines}"
        self.url = found[1]

    def stop(self) -> int:
        """SIGTERM, once; return the exit code."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            code = self._popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # let the test fail, not the run hang
            self._popen.kill()
            raise
        self._reader.join()
        return code

    @property
    def printed_events(self) -> list[str]:
        """The types of the events it has printed as JSON."""
        return [msgspec.json.decode(line)["event_type"] for line in self.lines if line.startswith("{")]

    def _address(self) -> re.Match[str] | None:
        return re.search(r"serves at (http://\S+)", "".join(self.lines))

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            self.lines.extend(lines)


@contextmanager
def collector_process(*flags: str, log: str = "", **environ: str) -> Iterator[Process]:
    """Run `brain-events serve` for the block."""
    process = Process(*flags, log=log, **environ)
    try:
        yield process
    finally:
        process.stop()


async def answer_of(
    client: httpx.AsyncClient, operation: Operation, id: int, headers: dict[str, str]
) -> httpx.Response:
    """Call an operation; of an answer that does not end, only the head is read."""
    async with client.stream(operation.method, operation.path.replace("{id}", str(id)), headers=headers) as answer:
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            await answer.aread()
        return answer


async def on_terminal(*arguments: str, stdout: bool = False) -> tuple[int, str]:
    """Run `brain-events` with its stderr (and stdout) on a terminal; return the exit code and what stood there."""
    terminal, end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brain_collector", *arguments),
        stdout=end if stdout else None,
        stderr=end,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    os.close(end)
    shown = await asyncio.to_thread(_until_closed, terminal)
    return await process.wait(), shown


def _until_closed(terminal: int) -> str:
    """Return what is written to a terminal until nobody has it open: one read may get a part of it."""
    found = b""
    with open(terminal, "rb", buffering=0) as reader, suppress(OSError):  # its end is EIO
        while chunk := reader.read(4096):
            found += chunk
    return found.decode()


async def command(
    client: httpx.AsyncClient, *arguments: str, given: bytes | None = None, **environ: str
) -> tuple[int, str, str]:
    """Run a command, with `given` to read; return its exit code, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "brain_collector", *arguments, "--url", str(client.base_url)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environ},
    )
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
