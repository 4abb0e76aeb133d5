"""Attacks on what callers share: memory, connections, the event loop. The claim: other callers keep being served."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import pytest

from brain_events.wire import BATCH_PATH, NDJSON
from tests.support.collector import event, ndjson, post_batch
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

N_PROBES = 30
BATCH = ndjson(*[event(message="x" * 900)] * 900)


@pytest.fixture(scope="module")
def keys(victim: CollectorProcess) -> dict[str, str]:
    """One API key for each caller; the first closes the collector to callers without one."""
    found: dict[str, str] = {}
    for name, scopes in {
        "admin": ["admin", "read", "ingest"],
        "attacker": ["ingest", "read"],
        "other": ["ingest"],
    }.items():
        sent = {"Authorization": f"Bearer {found['admin']}"} if found else {}
        body = {"name": name, "scopes": scopes}
        answer = httpx.post(f"{victim.url}/api/keys", json=body, headers=sent, timeout=PATIENCE_S)
        assert answer.status_code == 201, answer.text
        found[name] = answer.json()["key"]
    return found


@pytest.fixture
async def other(victim: CollectorProcess, keys: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A caller that is no attacker."""
    headers = {"Authorization": f"Bearer {keys['other']}"}
    async with httpx.AsyncClient(base_url=victim.url, headers=headers, timeout=PATIENCE_S) as client:
        yield client


class Attack:
    """Connections on which something is sent, and, if it is endless, sent again and again by `flood`."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = httpx.URL(url)
        self._key = key
        self._stack = AsyncExitStack()
        self._sockets: list[asyncio.StreamWriter] = []

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Return the head of a request, with the attacker's key if it has one."""
        access = [f"Authorization: Bearer {self._key}"] if self._key else []
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *access, *lines, "", ""]).encode()

    async def connect(self, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection and begin to send."""
        reading, sending = await asyncio.open_connection(self._url.host, self._url.port)
        self._stack.callback(sending.transport.abort)
        self._sockets.append(sending)
        sending.write(sent)
        return reading, sending

    async def flood(self, sending: asyncio.StreamWriter, endless: bytes) -> None:
        """Send without an end, as fast as it is taken."""
        with suppress(ConnectionError):
            while True:
                sending.write(endless)
                await sending.drain()

    async def close(self) -> None:
        """Close every connection."""
        await self._stack.aclose()
        await asyncio.gather(*(each.wait_closed() for each in self._sockets), return_exceptions=True)


@asynccontextmanager
async def attack(victim: CollectorProcess, key: str = "") -> AsyncIterator[Attack]:
    found = Attack(victim.url, key)
    try:
        yield found
    finally:
        await found.close()


async def taken(client: httpx.AsyncClient, n: int) -> list[int]:
    """Return the status of each of n batches, sent four at a time."""
    found: list[int] = []
    for _ in range(n // 4):
        answers = await asyncio.gather(*(post_batch(client, BATCH) for _ in range(4)))
        found += [answer.status_code for answer in answers]
    return found


async def test_bodies_that_a_caller_announces_and_does_not_send_leave_others_their_memory(
    victim: CollectorProcess, keys: dict[str, str], other: httpx.AsyncClient
) -> None:
    """They held all of it: six connections that sent 33 KB each let others in only now and then."""
    async with attack(victim, keys["attacker"]) as attacker:
        for encoding in ("identity", "gzip"):
            lines = f"Content-Type: {NDJSON}", f"Content-Encoding: {encoding}", f"Content-Length: {8 * 2**20}"
            for _ in range(40):
                await attacker.connect(attacker.head("POST", BATCH_PATH, *lines) + b"x" * 33_000)
        assert await taken(other, 20) == [200] * 20


async def test_bodies_of_requests_without_an_api_key_take_nothing_from_those_with_one(
    victim: CollectorProcess, other: httpx.AsyncClient
) -> None:
    """3,000 connections that announced a body for a session held all memory, without an API key."""
    async with attack(victim) as attacker:
        head = attacker.head("POST", "/api/session", "Content-Type: application/json", "Content-Length: 16384")
        for _ in range(1_000):
            await attacker.connect(head + b"{")
        assert await taken(other, 20) == [200] * 20


async def test_probes_are_answered_while_clients_of_websockets_flood_with_empty_frames(
    victim: CollectorProcess, keys: dict[str, str]
) -> None:
    """One connection once kept a probe waiting for eleven seconds."""
    ping = b"\x89\x80\x00\x00\x00\x00"
    async with attack(victim, keys["attacker"]) as attacker, httpx.AsyncClient(timeout=PATIENCE_S) as prober:
        upgrade = attacker.head(
            *("GET", "/api/events/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        )
        n_pongs = 0

        async def count_pongs(reading: asyncio.StreamReader) -> None:
            nonlocal n_pongs
            while received := await reading.read(2**16):
                n_pongs += received.count(b"\x8a\x00")

        async with asyncio.TaskGroup() as tasks:
            running = []
            for _ in range(4):
                reading, sending = await attacker.connect(upgrade)
                assert b"101" in await reading.readuntil(b"\r\n\r\n")
                await reading.readuntil(b'"ready"')
                running.append(tasks.create_task(count_pongs(reading)))
                running.append(tasks.create_task(attacker.flood(sending, ping * 10_000)))
            for _ in range(N_PROBES):
                assert (await prober.get(f"{victim.url}/livez")).status_code == 200
            for task in running:
                task.cancel()
        assert 0 < n_pongs < 20_000, "the collector answers a few pings a second, of the many that were sent"


async def test_probes_of_anybody_take_no_connection_from_a_reader(
    victim: CollectorProcess, keys: dict[str, str]
) -> None:
    """300 clients without an API key took all connections for reads: readers, and probes, got a 503."""
    headers = {"Authorization": f"Bearer {keys['attacker']}"}
    limits = httpx.Limits(max_connections=150)
    async with (
        httpx.AsyncClient(base_url=victim.url, limits=limits, timeout=PATIENCE_S) as anybody,
        httpx.AsyncClient(base_url=victim.url, headers=headers, timeout=PATIENCE_S) as reader,
    ):
        probing = [asyncio.create_task(anybody.get(path)) for path in ("/readyz", "/health/db") * 150]
        reads = [(await reader.get("/api/events", params={"limit": n})).status_code for n in range(1, 6)]
        probes = {answer.status_code for answer in await asyncio.gather(*probing)}
    assert (set(reads), probes) == ({200}, {200})


async def test_the_rest_of_a_refused_body_is_not_read_for_ever(victim: CollectorProcess) -> None:
    """One-byte chunks after a 401 kept the event loop busy for as long as they came."""
    async with attack(victim) as attacker:
        head = attacker.head("POST", BATCH_PATH, f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked")
        reading, sending = await attacker.connect(head)
        assert b" 401 " in await reading.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await attacker.flood(sending, b"1\r\nx\r\n" * 10_000)


async def test_a_body_in_one_byte_chunks_is_refused(victim: CollectorProcess, keys: dict[str, str]) -> None:
    async with attack(victim, keys["attacker"]) as attacker:
        head = attacker.head("POST", BATCH_PATH, f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked")
        reading, _ = await attacker.connect(head + b"1\r\nx\r\n" * 2_000)
        async with asyncio.timeout(PATIENCE_S):
            assert b" 400 " in await reading.readuntil(b"\r\n\r\n")
            assert b"send larger chunks" in await reading.read(2**16)
