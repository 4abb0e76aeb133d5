"""A collector as its users run it: the installed command, a process of its own, its engines inside."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import asyncpg
import httpx

from brain_collector.embedded import postgres
from tests.support.waiting import ENVIRONMENT, PATIENCE_S, wait_until


class CollectorProcess:
    """`brain-events serve` on a data directory; it can be killed and started again on the same port."""

    def __init__(self, data_dir: Path, stderr: IO[str] | None = None, **environ: str) -> None:
        self.data_dir = data_dir
        self._stderr = stderr
        self._environ = environ
        self._port = 0
        self.start()

    def start(self) -> None:
        """Start it and wait for the line that says where it serves."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "brain_collector",
                "serve",
                "--port",
                str(self._port),
                "--data-dir",
                str(self.data_dir),
            ],
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **ENVIRONMENT, **self._environ},
            text=True,
        )
        assert self._process.stdout is not None
        found = re.search(r"serves at (http://\S+:(\d+))", self._process.stdout.readline())
        assert found is not None, "the collector did not start"
        self.url, self._port = found[1], int(found[2])

    @property
    def pid(self) -> int:
        """The collector's process."""
        return self._process.pid

    def kill(self) -> None:
        """`kill -9`; nothing is said, nothing is tidied."""
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        code = self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    @property
    def database_url(self) -> str:
        """The address of the embedded Postgres."""
        return postgres.url(self.data_dir / "run")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must succeed."""
        answer = httpx.get(self.url + path, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def engine_pid(self, name: str) -> int:
        """Return the pid of an embedded engine, once it runs."""
        found: list[int] = []

        def runs() -> bool:
            engines = self.get("/health")["engines"]
            found[:] = [engine["pid"] for engine in engines if engine["name"] == name and engine["running"]]
            return bool(found)

        wait_until(runs, f"{name} runs")
        return found[0]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the embedded Postgres itself."""

        async def fetch() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(fetch())


@contextmanager
def collector_process(data_dir: Path, stderr: IO[str] | None = None, **environ: str) -> Iterator[CollectorProcess]:
    """Run a collector until the end of the block."""
    collector = CollectorProcess(data_dir, stderr, **environ)
    try:
        yield collector
    finally:
        if collector.running:
            collector.stop()


def stop_family(pid: int) -> list[int]:
    """Stop a process, then, when it makes no more of them, its children; return all of them."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it has stopped")
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    signal_all(children, signal.SIGSTOP)
    return [*children, pid]


def signal_all(pids: list[int], number: int) -> None:
    """Signal those that still live."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
