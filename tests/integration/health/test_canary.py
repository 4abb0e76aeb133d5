"""The canary: acknowledged events are read back; a loss and a copy are reported, a deletion by a client is not."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.api.test_metrics import value
from tests.support.collector import create, outcome, own_events, sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A collector that makes an event of every health check, and reads them back every second."""
    async with serve(settings, canary_interval_s=1.0, health_interval_s=0.001) as found:
        yield found


async def result(client: httpx.AsyncClient, name: str) -> float:
    return await value(client, "canary_events_total", name)


async def test_acknowledged_events_are_found_and_nobody_is_alarmed(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    async def found() -> bool:
        await client.get("/health")
        return await result(client, "found") >= 5

    await eventually(found, "events are read back")
    assert (await result(client, "acked_not_found"), await result(client, "doubled")) == (0, 0)
    assert await own_events(settings.dsn, "canary_failed") == []


async def test_without_a_health_check_the_collector_makes_its_own(client: httpx.AsyncClient) -> None:
    async def found() -> bool:
        return await result(client, "found") >= 1

    await eventually(found, "an event of its own is read back")


async def test_an_event_deleted_behind_its_back_is_reported(client: httpx.AsyncClient, settings: Settings) -> None:
    async def reported() -> bool:
        await client.get("/health")
        await sql(settings.dsn, "DELETE FROM system_events WHERE event_type = 'health_check'")
        return bool(await own_events(settings.dsn, "canary_failed"))

    await eventually(reported, "the loss is an own event")
    assert await result(client, "acked_not_found") >= 1
    (severity,) = await sql(
        settings.dsn, "SELECT DISTINCT severity FROM system_events WHERE event_type = 'canary_failed'"
    )
    assert severity == ("critical",)


async def test_a_copy_of_an_event_is_reported(client: httpx.AsyncClient, settings: Settings) -> None:
    copy = """
        INSERT INTO system_events (event_type, severity, message, details, source, timestamp)
        SELECT DISTINCT event_type, severity, message, details, source, timestamp
        FROM system_events WHERE event_type = 'health_check'
    """

    async def reported() -> bool:
        await client.get("/health")
        await sql(settings.dsn, copy)
        return bool(await own_events(settings.dsn, "canary_failed"))

    await eventually(reported, "the copy is an own event")
    assert await result(client, "doubled") >= 1
    assert await result(client, "acked_not_found") == 0


async def test_a_copy_that_a_client_sends_raises_no_alarm(client: httpx.AsyncClient) -> None:
    async def found() -> bool:
        await client.get("/health")
        for own in (await client.get("/api/events?source=collector&event_type=health_check")).json():
            copy = {name: value for name, value in own.items() if name not in {"id", "created_at"}}
            assert (await client.post("/api/events", json=copy)).status_code == 201
        return await result(client, "found") >= 5

    await eventually(found, "events are read back")
    assert await result(client, "doubled") == 0
    assert (await client.get("/api/events?source=collector&event_type=canary_failed")).json() == []


async def test_no_event_of_a_client_becomes_one_of_the_collector(client: httpx.AsyncClient) -> None:
    sent = await create(client, source="collector", event_type="canary_failed")
    assert (sent["source"], sent["details"]) == ("client:collector", {"_adjusted_source": "collector"})
    refused = await client.put(f"/api/events/{sent['id']}", json={"source": "collector"})
    assert outcome(refused) == (422, "event_invalid")
    assert refused.json()["errors"][0]["code"] == "source_reserved"
    await client.get("/health")

    async def own() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get("/api/events?source=collector&event_type=health_check")).json()
        return found

    async def is_there() -> bool:
        return bool(await own())

    await eventually(is_there, "an own event is there")
    (event, *_) = await own()
    assert (await client.put(f"/api/events/{event['id']}", json=event)).json() == event  # as it was got


async def test_an_event_that_a_client_of_another_collector_deletes_raises_no_alarm(
    client: httpx.AsyncClient, settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as other:

        async def deleted() -> bool:
            await client.get("/health")
            for (found,) in await sql(settings.dsn, "SELECT id FROM system_events WHERE event_type = 'health_check'"):
                assert (await other.delete(f"/api/events/{found}")).status_code == 204
            return await result(client, "deleted") >= 1

        await eventually(deleted, "the deletion is counted")

    assert await result(client, "acked_not_found") == 0
    assert await own_events(settings.dsn, "canary_failed") == []
