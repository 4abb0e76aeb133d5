"""What the collector's tests share: events as clients send them, SQL behind the collector's back, waiting."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec

from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON

FOREIGN = "source IS DISTINCT FROM 'collector'"
"""SQL: only the events that a test sent, none of the collector's own."""


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


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 30.0) -> None:
    """Return when the condition holds; fail when it does not within a time far beyond any expected one."""
    give_up_at = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < give_up_at, f"not so after {within_s} s: {what}"
        await asyncio.sleep(0.01)


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
