"""Requests that wait for admission, or to be asked for their bodies: a client that disconnects gives up its turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, NDJSON
from tests.conftest import Serve
from tests.integration.access.test_keys import KEY, bearer, made
from tests.integration.api.test_metrics import value
from tests.integration.http.test_limits import POST, Answer, exchange, parsed, socket_to, to_the_end
from tests.support.collector import event, ndjson
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

FAR_S = 600.0
LINE = ndjson(event())
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECTING = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n"


@asynccontextmanager
async def crowded(settings: Settings, serve: Serve, **changes: float) -> AsyncIterator[httpx.AsyncClient]:
    """A collector whose budget a client holds that does not send the end of its body."""
    bounds = {"max_pending_bytes": 1_000, "admission_wait_s": FAR_S, "body_stall_s": FAR_S, "body_deadline_s": FAR_S}
    async with serve(settings, **(bounds | changes)) as client, socket_to(client) as (_, sending):
        sending.write(POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 999)

        async def held() -> bool:
            return await value(client, "pending_bytes") > 0

        await eventually(held, "the budget is held")
        yield client


async def waiting(client: httpx.AsyncClient, n: int) -> None:
    async def so_many() -> bool:
        return await value(client, "waiting_requests") == n

    await eventually(so_many, f"{n} requests wait")


# -- who leaves


@pytest.mark.parametrize("sent", [b"", LINE], ids=["a_head", "a_whole_request"])
async def test_a_client_that_leaves_gives_its_place_up(settings: Settings, serve: Serve, sent: bytes) -> None:
    request = POST + b"Content-Length: %d\r\n\r\n" % len(LINE) + sent
    async with crowded(settings, serve, max_waiting_requests=2) as client, socket_to(client) as (_, staying):
        async with socket_to(client) as (_, leaving):
            leaving.write(request)
            await waiting(client, 1)
            staying.write(request)
            await waiting(client, 2)
        await waiting(client, 1)
        async with socket_to(client) as (_, newcomer):
            newcomer.write(request)
            await waiting(client, 2)  # it has the place


# -- who is not asked for its body


async def refused(client: httpx.AsyncClient, *more: str, length: int = len(LINE)) -> Answer:
    """Expect to be asked for a body; return the answer, which is a refusal and no such question."""
    lines = "".join(f"{line}\r\n" for line in more).encode()
    async with socket_to(client) as (reading, sending):
        sending.write(EXPECTING % length + lines + b"\r\n")
        async with asyncio.timeout(PATIENCE_S):
            received = await reading.readuntil(b"\r\n\r\n")
            assert not received.startswith(CONTINUE)
            received += await reading.readuntil(b"}")
    return parsed(received)


async def test_a_client_that_is_let_in_is_asked_for_its_body(collector: httpx.AsyncClient) -> None:
    async with socket_to(collector) as (reading, sending):
        sending.write(EXPECTING % len(LINE) + b"Connection: close\r\n\r\n")
        assert await reading.readexactly(len(CONTINUE)) == CONTINUE
        sending.write(LINE)
        assert parsed(await to_the_end(reading)).status == 200


async def test_a_client_that_is_refused_is_not_asked_for_its_body(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY, max_body_bytes=1_000) as client:
        reader = bearer((await made(client, "read"))["key"])["Authorization"]
        allowed = f"Authorization: Bearer {KEY}"
        assert (await refused(client)).outcome == (401, "unauthorized")
        assert (await refused(client, f"Authorization: {reader}")).outcome == (403, "forbidden")
        assert (await refused(client, allowed, length=1_001)).outcome == (413, "body_too_large")
        assert (await refused(client, allowed, "Content-Encoding: br")).outcome == (415, "unsupported_media_type")
        assert (await refused(client, allowed, "Idempotency-Key: x")).outcome == (400, "idempotency_key_malformed")


async def test_a_client_that_has_sent_its_share_is_not_asked_for_more(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_events_per_s=0.001, burst_s=1.0, admission_wait_s=0.1) as client:
        while (await client.post(BATCH_PATH, content=LINE, headers={"Content-Type": NDJSON})).status_code != 429:
            pass
        assert (await refused(client)).outcome == (429, "rate_limited")


@pytest.mark.parametrize("places", [0, 1])
async def test_a_client_for_which_there_is_no_room_is_not_asked_for_its_body(
    settings: Settings, serve: Serve, places: int
) -> None:
    async with crowded(settings, serve, max_waiting_requests=places, admission_wait_s=0.1) as client:
        assert (await refused(client)).outcome == (503, "unavailable")


async def test_a_client_that_did_not_wait_to_be_asked_reads_its_refusal(settings: Settings, serve: Serve) -> None:
    body = b"x" * 2**20  # more than the sockets hold
    async with crowded(settings, serve, max_waiting_requests=0, admission_wait_s=0.1) as client:
        sent = EXPECTING % len(body) + b"Connection: close\r\n\r\n" + body
        received = await exchange(client, sent)
    assert not received.startswith(CONTINUE)
    assert parsed(received).outcome == (503, "unavailable")
