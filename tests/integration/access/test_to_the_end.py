"""Access holds to the end of a request: a body that was begun with access has no effect if it ends without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.api.operation import Operation
from brain_collector.server.app import OPERATIONS
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.access.test_keys import BOOTSTRAP, KEY, bearer, made
from tests.support.collector import connected, count_foreign, create, event, outcome, sql
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

TAKING_A_BODY = [operation for operation in OPERATIONS if operation.body and operation.scope]
BODIES: dict[str, Any] = {
    "POST /api/events": event(),
    "POST /api/events/batch": event(),
    "PUT /api/events/{id}": {"message": "changed"},
    "POST /api/keys": {"name": "n", "scopes": ["admin"]},
}
"""A body for every operation that takes one and needs a key."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Pending:
    """A request whose head was accepted, and whose body has not ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self._reader, self._writer, self._rest = reader, writer, rest

    async def finish(self) -> tuple[int, dict[str, Any]]:
        """Send the rest of the body; return the status and the body of the response."""
        self._writer.write(self._rest)
        head, _, body = (await self._reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), msgspec.json.decode(body)


@asynccontextmanager
async def pending(
    client: httpx.AsyncClient, operation: str, headers: dict[str, str], **path: Any
) -> AsyncIterator[Pending]:
    """Begin a request: the collector has asked for its body, and has a part of it."""
    body = msgspec.json.encode(BODIES[operation])
    described = {
        "Host": "localhost",
        "Content-Type": next(iter(next(found for found in TAKING_A_BODY if name_of(found) == operation).body)),
        "Content-Length": str(len(body)),
        "Expect": "100-continue",
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in (described | headers).items())
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(f"{operation.format(**path)} HTTP/1.1\r\n{lines}\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
            writer.write(body[:1])
            yield Pending(reader, writer, body[1:])
    finally:
        writer.close()


def name_of(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_no_operation_that_takes_a_body_is_left_out() -> None:
    assert {name_of(operation) for operation in TAKING_A_BODY} == set(BODIES)


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings, api_key=KEY) as client:
        yield client


@pytest.mark.parametrize("operation", BODIES)
async def test_a_body_that_ends_after_the_revocation_of_its_key_has_no_effect(
    locked: httpx.AsyncClient, settings: Settings, operation: str
) -> None:
    key = await made(locked, "ingest", "read", "write", "admin")
    locked.headers.update(BOOTSTRAP)
    stored = await create(locked)

    async with pending(locked, operation, bearer(key["key"]), id=stored["id"]) as request:
        assert (await locked.delete(f"/api/keys/{key['id']}")).status_code == 204
        status, problem = await request.finish()

    assert (status, problem["code"]) == (401, "unauthorized")
    assert len((await locked.get("/api/keys")).json()) == 1
    assert (await locked.get(f"/api/events/{stored['id']}")).json() == stored
    assert await count_foreign(settings.dsn) == 1


@pytest.mark.parametrize("operation", BODIES)
async def test_a_body_of_a_valid_key_that_ends_late_has_its_effect(locked: httpx.AsyncClient, operation: str) -> None:
    key = await made(locked, "ingest", "read", "write", "admin")
    locked.headers.update(bearer(key["key"]))
    stored = await create(locked)

    async with pending(locked, operation, bearer(key["key"]), id=stored["id"]) as request:
        status, _ = await request.finish()

    assert status in {200, 201}


async def test_a_body_that_ends_after_its_key_expired_is_refused(locked: httpx.AsyncClient, settings: Settings) -> None:
    key = await made(locked, "ingest")
    async with pending(locked, "POST /api/events", bearer(key["key"])) as request:
        await sql(settings.dsn, "UPDATE api_keys SET expires_at = now() WHERE id = $1", key["id"])

        async def expired() -> bool:
            return (await locked.post("/api/events", json={}, headers=bearer(key["key"]))).status_code == 401

        await eventually(expired, "the key has expired")
        status, problem = await request.finish()

    assert (status, problem["code"]) == (401, "unauthorized")
    assert "expired at" in problem["detail"]


async def test_a_body_that_ends_after_its_key_lost_the_scope_is_refused(
    locked: httpx.AsyncClient, settings: Settings
) -> None:
    key = await made(locked, "ingest", "read")
    async with pending(locked, "POST /api/events", bearer(key["key"])) as request:
        await sql(settings.dsn, "UPDATE api_keys SET scopes = '{read}' WHERE id = $1", key["id"])

        async def narrowed() -> bool:
            return (await locked.post("/api/events", json={}, headers=bearer(key["key"]))).status_code == 403

        await eventually(narrowed, "the key may not store any more")
        status, problem = await request.finish()

    assert (status, problem["code"]) == (403, "forbidden")
    assert await count_foreign(settings.dsn) == 0


@pytest.mark.parametrize("operation", BODIES)
async def test_the_first_key_closes_the_collector_to_keyless_requests_under_way(
    settings: Settings, serve: Serve, operation: str
) -> None:
    async with serve(settings) as client:
        stored = await create(client)
        async with pending(client, operation, {}, id=stored["id"]) as request:
            first = await client.post("/api/keys", json={"name": "owner", "scopes": ["admin", "read"]})
            assert first.status_code == 201
            status, problem = await request.finish()
        client.headers.update(bearer(first.json()["key"]))

        assert (status, problem["code"]) == (401, "unauthorized")
        assert [key["name"] for key in (await client.get("/api/keys")).json()] == ["owner"]
        assert (await client.get(f"/api/events/{stored['id']}")).json() == stored
        assert await count_foreign(settings.dsn) == 1


async def test_two_callers_without_a_key_at_two_collectors_do_not_both_create_the_first_one(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as one, serve(settings) as other:
        body = {"name": "n", "scopes": ["admin"]}
        answers = await asyncio.gather(*(client.post("/api/keys", json=body) for client in (one, other) * 3))
        created = [answer.json() for answer in answers if answer.status_code == 201]

        assert sorted(answer.status_code for answer in answers) == [201, *[401] * 5]
        assert len(await sql(settings.dsn, "SELECT FROM api_keys")) == 1
        for client in (one, other):
            assert outcome(await client.post("/api/events", json=event())) == (401, "unauthorized")
        assert (await one.get("/api/keys", headers=bearer(created[0]["key"]))).status_code in {200, 401}


ENDS = {
    "revoked": "UPDATE api_keys SET revoked_at = now() WHERE id = $1",
    "expired": "UPDATE api_keys SET expires_at = now() WHERE id = $1",
    "narrowed": "UPDATE api_keys SET scopes = '{read}' WHERE id = $1",
    "deleted": "DELETE FROM api_keys WHERE id = $1",
}
"""How an API key can cease to be one of an administrator, in SQL."""


@pytest.mark.parametrize("end", ENDS)
async def test_a_key_that_has_ended_elsewhere_changes_no_key_before_this_collector_knows_it(
    settings: Settings, serve: Serve, end: str
) -> None:
    async with serve(settings, api_key=KEY, api_key_refresh_s=3600) as client:
        admin, victim = await made(client, "admin"), await made(client, "admin")
        for method, path in (("POST", "/api/keys"), ("DELETE", f"/api/keys/{victim['id']}")):
            key = await made(client, "admin")
            await sql(settings.dsn, ENDS[end], key["id"])
            answer = await client.request(
                method, path, json={"name": "evil", "scopes": ["admin"]}, headers=bearer(key["key"])
            )
            assert outcome(answer) == (401, "unauthorized")
            assert key["prefix"] in answer.json()["detail"]
        assert await sql(settings.dsn, "SELECT FROM api_keys WHERE name = 'evil'") == []
        for headers in (bearer(admin["key"]), BOOTSTRAP):
            assert (await client.delete(f"/api/keys/{victim['id']}", headers=headers)).status_code == 204


async def test_a_key_whose_revocation_is_being_committed_creates_no_key(
    locked: httpx.AsyncClient, settings: Settings
) -> None:
    key = await made(locked, "admin")
    async with connected(settings.dsn) as connection:
        async with connection.transaction():
            await connection.execute(ENDS["revoked"], key["id"])
            body = {"name": "evil", "scopes": ["admin"]}
            creating = asyncio.create_task(locked.post("/api/keys", json=body, headers=bearer(key["key"])))

            async def waits() -> bool:
                waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'api_keys'::regclass"
                return creating.done() or bool(await sql(settings.dsn, waiting))

            await eventually(waits, "the request waits for the revocation")
        answer = await creating

    assert answer.status_code in {401, 503}  # 503 if this machine took longer than the collector waits for a lock
    assert await sql(settings.dsn, "SELECT FROM api_keys WHERE name = 'evil'") == []


async def test_nobody_revokes_the_first_key_at_a_collector_that_does_not_know_it(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as one, serve(settings, api_key_refresh_s=3600) as other:
        first = await one.post("/api/keys", json={"name": "owner", "scopes": ["admin"]})
        assert outcome(await other.delete(f"/api/keys/{first.json()['id']}")) == (401, "unauthorized")
        assert (await one.get("/api/keys", headers=bearer(first.json()["key"]))).status_code == 200


async def test_a_body_that_ends_after_its_browser_session_is_refused(locked: httpx.AsyncClient) -> None:
    own = {"Origin": f"http://127.0.0.1:{locked.base_url.port}"}
    await locked.post("/api/session", json={"key": KEY}, headers=own)
    cookies = "; ".join(f"{name}={value}" for name, value in locked.cookies.items())
    page = {"Cookie": cookies, "Host": f"127.0.0.1:{locked.base_url.port}", **own}

    async with pending(locked, "POST /api/keys", page) as request:
        assert (await locked.delete("/api/session", headers=own)).status_code == 204
        status, problem = await request.finish()

    assert (status, problem["code"]) == (401, "unauthorized")
    assert (await locked.get("/api/keys", headers=BOOTSTRAP)).json() == []
