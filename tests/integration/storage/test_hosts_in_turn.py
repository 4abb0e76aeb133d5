"""Connecting to a database of several hosts, some of which do not serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec
import pytest

from brain_collector.settings import Settings
from brain_collector.storage import hosts, migrate, schema_version
from tests.conftest import Serve
from tests.support.collector import event

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def silent(directory: Path) -> AsyncIterator[str]:
    """Yield the directory of a socket that accepts connections and says nothing, as a frozen server does."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(
        lambda _reading, writing: connections.append(writing), directory / ".s.PGSQL.5432"
    )
    try:
        yield str(directory)
    finally:
        server.close()
        for connection in connections:
            connection.transport.abort()


def with_hosts(dsn: str, *before: str) -> str:
    """Return the address with other hosts before its own."""
    (host,) = parse_qs(urlsplit(dsn).query)["host"]
    return dsn.replace(f"host={host}", f"host={','.join([*before, host])}")


async def test_a_host_that_is_silent_does_not_keep_the_next_one_from_being_tried(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    async with silent(tmp_path) as host:
        address = with_hosts(settings.dsn, host)
        with pytest.raises(TimeoutError):  # one time-out for all of them
            await asyncpg.connect(address, timeout=1.0)
        async with serve(msgspec.structs.replace(settings, database_url=address, connect_deadline_s=2.0)) as client:
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.post("/api/events", json=event())).status_code == 201
            assert (await client.get("/api/events")).status_code == 200
        assert await migrate.current(address) == schema_version.HEAD


async def test_the_host_that_served_last_is_tried_first(settings: Settings, tmp_path: Path) -> None:
    async with silent(tmp_path) as host:
        several = hosts.Hosts(with_hosts(settings.dsn, "/nonexistent", host))
        for timeout_s in (3.0, 3_000.0):  # so long would the silent host take, were it tried again
            connection = await several.connect({}, timeout_s)
            await connection.close()


async def test_what_is_wrong_with_each_host_is_said(settings: Settings, tmp_path: Path) -> None:
    async with silent(tmp_path) as host:
        address = f"postgresql://brain@/postgres?host=/nonexistent,{host}&port=5432"
        with pytest.raises(hosts.NoHostServes) as caught:
            await hosts.connect(address, {}, timeout_s=0.5)
    assert "/nonexistent:5432 failed" in str(caught.value)
    assert f"{host}:5432 does not respond in time" in str(caught.value)
