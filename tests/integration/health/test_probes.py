"""Probes: anybody may send them, so all together cost one query a second, and no connection of a reader."""

import asyncio
from urllib.parse import urlsplit

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.api.test_metrics import value
from tests.integration.ingest.test_batch import locked_table
from tests.support.collector import sql
from tests.support.engines import SuiteEngines
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_probes_are_answered_while_every_connection_for_reads_is_in_use(settings: Settings, serve: Serve) -> None:
    async with serve(settings, read_connections=1, connect_deadline_s=3.0, lock_deadline_s=60.0) as client:
        assert (await client.get("/readyz")).status_code == 200  # its connection is open
        async with locked_table(settings.dsn):
            reading = asyncio.create_task(client.get("/api/events"))

            async def is_in_use() -> bool:
                return await value(client, "read_connections") == 1

            await eventually(is_in_use, "a reader has the only connection")
            for path in ("/readyz", "/health/db") * 5:
                assert (await client.get(path)).status_code == 200
        assert (await reading).status_code == 200


async def test_probes_that_come_together_are_one_query(settings: Settings, serve: Serve) -> None:
    async with serve(settings, stats_ttl_s=60.0) as client:

        async def latencies() -> set[float]:
            answers = await asyncio.gather(*(client.get("/health/db") for _ in range(20)))
            return {answer.json()["latency_ms"] for answer in answers}

        assert len(await latencies()) <= 2  # two, if a second ended in between

        async def is_asked_again() -> bool:
            return len({*await latencies(), *await latencies()}) > 1

        await eventually(is_asked_again, "the next second has a query of its own")


async def test_a_database_that_went_away_is_noticed_by_probes(
    settings: Settings, serve: Serve, engines: SuiteEngines
) -> None:
    async with serve(settings) as client:
        assert (await client.get("/health/db")).status_code == 200
        name, other = urlsplit(settings.dsn).path.removeprefix("/"), engines.maintenance_url
        await sql(other, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            await sql(other, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

            async def is_noticed() -> bool:
                answers: list[httpx.Response] = [await client.get(path) for path in ("/readyz", "/health/db")]
                return [answer.status_code for answer in answers] == [503, 503]

            await eventually(is_noticed, "probes say so")
        finally:
            await sql(other, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

        async def is_back() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_back, "the database is back")
