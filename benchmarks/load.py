"""Generates load in its own process: connections that post without a pause, or one that copies into Postgres.

    python load.py http URL --batch 1000 --connections 16 --seconds 5
    python load.py copy DSN --rows 4000 --seconds 5

Prints one line of JSON: the rate of acknowledged events, and the percentiles of the request times.
"""

import argparse
import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec

from brain_events.wire import BATCH_PATH, KEY_HEADER, new_key

WARM_UP_S = 1.0
BODIES = 16
TYPES = ("order_paid", "login", "job_done", "deployment", "http_request")
SEVERITIES = ("info",) * 17 + ("warning", "error", "critical")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def event(n: int) -> dict[str, Any]:
    """Return an event of the last minute with five flat details."""
    return {
        "event_type": TYPES[n % len(TYPES)],
        "severity": SEVERITIES[n % len(SEVERITIES)],
        "message": f"order {n} was paid",
        "details": {"n": n, "order": f"o-{n}", "amount": 19.9, "paid": True, "country": "DE"},
        "source": "shop",
        "timestamp": datetime.now(UTC) - timedelta(seconds=random.random() * 60),
    }


class Tally:
    """The responses between the end of the warm-up and the end of the measurement."""

    def __init__(self, batch: int, seconds: float) -> None:
        self.batch = batch
        self.start_s = time.perf_counter() + WARM_UP_S
        self.end_s = self.start_s + seconds
        self.times_ms: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.requests = 0

    def add(self, status: int, sent_s: float) -> None:
        now = time.perf_counter()
        self.requests += 1
        if self.start_s <= now < self.end_s:
            self.statuses[status] += 1
            self.times_ms.append((now - sent_s) * 1000)

    def report(self) -> dict[str, Any]:
        accepted = sum(n for status, n in self.statuses.items() if status < 300) * self.batch
        ordered = sorted(self.times_ms) or [0.0]
        return {
            "events_per_s": accepted / (self.end_s - self.start_s),
            "requests": self.requests,
            "statuses": dict(self.statuses),
            "p50_ms": ordered[len(ordered) // 2],
            "p99_ms": ordered[int(len(ordered) * 0.99)],
        }


class Client(asyncio.Protocol):
    """A connection that posts, reads the response and posts again until the time is over, at most every `every_s`."""

    def __init__(self, head: bytes, bodies: list[bytes], tally: Tally, every_s: float = 0.0) -> None:
        self.head, self.bodies, self.tally, self.every_s = head, itertools.cycle(bodies), tally, every_s
        self.next_s = time.perf_counter() + random.uniform(
            0, every_s
        )  # otherwise all connections would post at the same time
        self.done = asyncio.get_running_loop().create_future()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.post_in_turn()

    def post_in_turn(self) -> None:
        asyncio.get_running_loop().call_later(max(0.0, self.next_s - time.perf_counter()), self.post)
        self.next_s += self.every_s

    def post(self) -> None:
        body = next(self.bodies)
        self.sent_s = time.perf_counter()
        key = f"{KEY_HEADER}: {new_key()}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.transport.write(self.head + key + body)

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(self.received, 0, end)
        if len(self.received) < end + 4 + (int(length[1]) if length else 0):
            return
        self.tally.add(int(self.received[9:12]), self.sent_s)
        self.received = b""
        if time.perf_counter() < self.tally.end_s:
            self.post_in_turn()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(error)


async def http(url: str, batch: int, connections: int, seconds: float, rate: float | None) -> dict[str, Any]:
    parts = urlsplit(url)
    path, kind = ("/api/events", "application/json") if batch == 1 else (BATCH_PATH, "application/x-ndjson")
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\n".encode()
    numbers = itertools.count()
    bodies = [b"\n".join(msgspec.json.encode(event(next(numbers))) for _ in range(batch)) for _ in range(BODIES)]
    tally = Tally(batch, seconds)
    every_s = batch * connections / rate if rate else 0.0
    loop = asyncio.get_running_loop()

    async def keep_posting() -> None:
        while time.perf_counter() < tally.end_s:  # a server may close the connection when it refuses a request
            client = Client(head, bodies, tally, every_s)
            await loop.create_connection(lambda: client, parts.hostname, parts.port)  # noqa: B023 - called in this iteration
            await client.done

    await asyncio.gather(*(keep_posting() for _ in range(connections)))
    return tally.report()


async def copy(dsn: str, rows: int, seconds: float) -> dict[str, Any]:
    """Copy prepared rows over one connection, `rows` per transaction; only the ids differ."""
    events = [event(n) for n in range(rows)]
    names = ("event_type", "severity", "message", "details", "source", "timestamp")
    columns = [[each[name] for each in events] for name in names]
    columns[3] = [json.dumps(details) for details in columns[3]]
    connection = await asyncpg.connect(dsn)
    tally = Tally(rows, seconds)
    for first in itertools.count(1, rows):
        started_s = time.perf_counter()
        if started_s >= tally.end_s:
            break
        async with connection.transaction():
            records = zip(range(first, first + rows), *columns, strict=True)
            await connection.copy_records_to_table("system_events", records=records, columns=("id", *names))
        tally.add(200, started_s)
    await connection.close()
    return tally.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["http", "copy"])
    parser.add_argument("address")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--rate", type=float, help="events a second of all connections together; by default as fast as possible"
    )
    args = parser.parse_args()
    if args.how == "copy":
        print(json.dumps(asyncio.run(copy(args.address, args.rows, args.seconds))))
    else:
        print(json.dumps(asyncio.run(http(args.address, args.batch, args.connections, args.seconds, args.rate))))


if __name__ == "__main__":
    main()
