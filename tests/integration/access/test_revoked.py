"""An open response whose API key is revoked or expires ends, on every collector; the next request is refused."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from brain_collector.read import export
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.access.test_keys import BOOTSTRAP, KEY, bearer, made
from tests.integration.cli.test_tail_command import tailing
from tests.integration.tail.test_stream import STREAM, Listening, listening, numbered
from tests.integration.tail.test_websocket import close_code, opened, ready
from tests.support.collector import event, ndjson, post_batch, sql
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EXPIRE = "UPDATE api_keys SET expires_at = now() WHERE id = $1"


async def with_key(client: httpx.AsyncClient, *scopes: str) -> dict[str, Any]:
    """Let a client have a key of its own; return the key once it is known there."""
    key = await made(client, *scopes)
    client.headers.update(bearer(key["key"]))
    return key


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings, api_key=KEY) as client:
        yield client


async def ended(tail: Listening) -> None:
    """Read to the end, which is a clean one."""

    async def over() -> bool:
        return tail.reading.done()

    await eventually(over, "the stream has ended")
    await tail.reading


async def test_a_stream_ends_on_every_collector_when_its_key_is_revoked(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as client, serve(settings, api_key=KEY) as other:
        key = await with_key(client, "read")
        other.headers.update(client.headers)

        async def known_to_other() -> bool:
            return (await other.get("/openapi.json")).status_code == 200

        await eventually(known_to_other, "the other collector knows the key")
        async with (
            listening(client) as tail,
            listening(other) as far,
            opened(other, headers=bearer(key["key"])) as socket,
        ):
            await ready(socket)
            await client.delete(f"/api/keys/{key['id']}", headers=BOOTSTRAP)
            await ended(tail)
            await ended(far)
            assert await close_code(socket) == 1008
        assert (await client.get(STREAM)).status_code == 401
        assert (await other.get(STREAM)).status_code == 401


async def test_a_stream_ends_when_its_key_expires(locked: httpx.AsyncClient, settings: Settings) -> None:
    key = await with_key(locked, "read")
    async with listening(locked) as tail, opened(locked, headers=bearer(key["key"])) as socket:
        await ready(socket)
        await sql(settings.dsn, EXPIRE, key["id"])
        await ended(tail)
        assert await close_code(socket) == 1008
        assert socket.close_reason is not None
        assert f"the API key be_{key['prefix']} expired at" in socket.close_reason


async def test_a_stream_without_a_key_ends_when_the_first_key_is_made(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client, listening(client) as tail:
        answer = await client.post("/api/keys", json={"name": "n", "scopes": ["admin"]})
        assert answer.status_code == 201
        await ended(tail)


async def test_a_revoked_key_gets_no_event_that_came_after_it(locked: httpx.AsyncClient) -> None:
    key = await with_key(locked, "read")
    async with listening(locked) as tail:
        await post_batch(locked, numbered(1), authorization=BOOTSTRAP["Authorization"])
        await tail.until(1)
        await locked.delete(f"/api/keys/{key['id']}", headers=BOOTSTRAP)
        await post_batch(locked, numbered(2), authorization=BOOTSTRAP["Authorization"])
        await ended(tail)
    assert tail.numbers == [1]


async def test_an_export_breaks_when_its_key_is_revoked(
    locked: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FIRST_PAGE", 7)
    monkeypatch.setattr(export, "LARGEST_PAGE", 7)
    for _ in range(2):
        lines = ndjson(*[event(message="x" * 100_000)] * 60)  # more than the sockets hold
        await post_batch(locked, lines, authorization=BOOTSTRAP["Authorization"])
    key = await with_key(locked, "read")
    with pytest.raises(httpx.RemoteProtocolError):
        async with locked.stream("GET", "/api/events/export", headers={"Accept-Encoding": "identity"}) as answer:
            chunks = answer.aiter_raw()
            await anext(chunks)
            await locked.delete(f"/api/keys/{key['id']}", headers=BOOTSTRAP)
            async for _ in chunks:
                pass


async def test_tail_says_that_its_key_is_refused_and_ends(locked: httpx.AsyncClient) -> None:
    key = await made(locked, "read")
    async with tailing(locked, key=key["key"]) as tail:
        await post_batch(locked, ndjson(event(message="seen")), authorization=BOOTSTRAP["Authorization"])

        async def seen() -> bool:
            return any("seen" in line for line in tail.lines)

        await eventually(seen, "the event is printed")
        await locked.delete(f"/api/keys/{key['id']}", headers=BOOTSTRAP)
        assert await tail.process.wait() == 4
        await tail.until_said("returned 401: the API key is wrong or revoked")
