"""Access: API keys, host names, and the headers of every response."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from brain_collector.api.events import REVALIDATE
from brain_collector.errors import SettingsError
from brain_collector.http.security_headers import SECURITY_HEADERS
from brain_collector.metrics import Metrics
from brain_collector.server.app import OPERATIONS, create_app
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import create, event, ndjson, outcome, post_batch

pytestmark = pytest.mark.anyio

KEY = "s3cret-key"
BEARER = {"Authorization": f"Bearer {KEY}"}
PAGES = [("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/nowhere")]
GUARDED = [*PAGES, *((operation.method, operation.path) for operation in OPERATIONS if operation.scope)]
PROBES = ["/livez", "/readyz", "/health", "/health/db"]
HIDDEN: dict[str, dict[str, object]] = {
    "/livez": {"status": "alive"},
    "/readyz": {"status": "not_ready", "reasons": []},
    "/health": {"status": "degraded"},
    "/health/db": {"status": "down", "latency_ms": None},
}
"""The responses of the probes without details while the database is away."""


def basic(password: str, user: str = "any") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key of a collector with one."""
    async with serve(settings, api_key=KEY) as client:
        yield client


# -- keys


async def test_only_the_probes_are_open_without_a_key(locked: httpx.AsyncClient) -> None:
    for method, path in GUARDED:
        answer = await locked.request(method, path.replace("{id}", "1"))

        assert outcome(answer) == (401, "unauthorized"), path
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="brain-events"')
        assert (", Basic realm=" in challenge) == ((method, path) in PAGES)  # elsewhere it would interrupt the page
        assert "the request has no API key" in answer.json()["detail"]
    assert [(await locked.get(path)).status_code for path in PROBES] == [200] * 4


async def test_a_wrong_key_is_refused_in_whatever_form_it_comes(locked: httpx.AsyncClient) -> None:
    wrong: list[bytes] = [
        b"Bearer",
        b"Bearer s3cret-ke",
        b"Bearer s3cret-keyy",
        b"Bearer S3CRET-KEY",
        b"Token s3cret-key",
        b"s3cret-key",
        b"Basic",
        b"Basic s3cret-key",
        b"Basic " + base64.b64encode(KEY.encode()),
        b"Basic " + base64.b64encode(b"s3cret-key:"),
        b"Basic " + base64.b64encode(b"u:wrong"),
        b"Basic " + base64.b64encode(b"\xff:\xff"),
        b"Basic \xe9",
        b"Bearer \xe9\xff",
        b"\xff",
    ]
    for authorization in wrong:
        answer = await locked.get("/api/events", headers={b"Authorization": authorization})

        assert outcome(answer) == (401, "unauthorized"), authorization
        assert "the API key is wrong" in answer.json()["detail"]


async def test_a_bearer_key_opens_everything(locked: httpx.AsyncClient) -> None:
    locked.headers.update(BEARER)
    created = await create(locked)
    url = f"/api/events/{created['id']}"

    statuses = {
        "batch": (await post_batch(locked, ndjson(event()))).status_code,
        "list": (await locked.get("/api/events")).status_code,
        "get": (await locked.get(url)).status_code,
        "stats": (await locked.get("/api/events/stats")).status_code,
        "update": (await locked.put(url, json={})).status_code,
        "delete": (await locked.delete(url)).status_code,
        "openapi": (await locked.get("/openapi.json")).status_code,
        "lower case": (await locked.get(url, headers={"authorization": f"bearer  {KEY}"})).status_code,
    }
    assert statuses == {
        "batch": 200,
        "list": 200,
        "get": 200,
        "stats": 200,
        "update": 200,
        "delete": 204,
        "openapi": 200,
        "lower case": 404,
    }


async def test_basic_is_enough_to_read_but_never_to_write(locked: httpx.AsyncClient) -> None:
    created = (await locked.post("/api/events", json=event(), headers=BEARER)).json()
    url = f"/api/events/{created['id']}"
    locked.headers.update(basic(KEY))

    reads = [await locked.get(path) for path in (url, "/api/events", "/api/events/stats", "/openapi.json")]
    assert [answer.status_code for answer in reads] == [200] * 4
    assert (await locked.head(url)).status_code == 200
    writes = [
        await locked.post("/api/events", json=event()),
        await post_batch(locked, ndjson(event())),
        await locked.put(url, json={"message": "x"}),
        await locked.delete(url),
    ]
    assert [outcome(answer) for answer in writes] == [(401, "unauthorized")] * 4


async def test_the_key_is_checked_before_the_body_is_read(locked: httpx.AsyncClient) -> None:
    for headers in ("", "Authorization: Bearer wrong\r\n"):
        reader, writer = await asyncio.open_connection(locked.base_url.host, locked.base_url.port)
        writer.write(
            f"POST /api/events/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n{headers}"
            "Content-Length: 1000000\r\n\r\n".encode()
        )

        assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
        writer.close()
        await writer.wait_closed()


async def test_without_the_key_the_probes_show_only_the_status(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY, database_url="postgresql://brain@/x?host=/nowhere") as client:
        shown = {path: (await client.get(path)).json() for path in PROBES}
        shown_to_owner = {path: (await client.get(path, headers=BEARER)).json() for path in PROBES}

    assert shown == HIDDEN
    (reason,) = shown_to_owner["/readyz"]["reasons"]
    assert reason.startswith("the database does not respond")
    assert set(shown_to_owner["/health"]) == {
        *("status", "version", "database", "cache", "engines"),
        *("failing_jobs", "unindexable_events"),
    }


async def test_before_it_is_known_whether_a_key_is_required_the_probes_show_only_the_status(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, database_url="postgresql://brain@/x?host=/nowhere") as client:
        shown = {path: (await client.get(path)).json() for path in PROBES}

    assert shown == HIDDEN


# -- host names


async def status_for_host(client: httpx.AsyncClient, host: str, path: str = "/livez") -> int:
    return (await client.get(path, headers={"Host": host})).status_code


async def test_without_a_key_only_loopback_names_are_answered(collector: httpx.AsyncClient) -> None:
    for host in ("localhost", "LOCALHOST:8001", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8001"):
        assert await status_for_host(collector, host) == 200, host
    for host in (
        "evil.example",
        "evil.example:8001",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::2]:1",
        "",
    ):
        for path in ("/livez", "/api/events", "/docs", "/nowhere"):
            answer = await collector.get(path, headers={"Host": host})

            assert outcome(answer) == (400, "host_refused"), (host, path)


async def test_more_host_names_can_be_allowed(settings: Settings, serve: Serve) -> None:
    async with serve(settings, allowed_hosts="events.example, Other.example") as client:
        hosts = ("events.example", "other.example:443", "localhost", "evil.example")
        assert [await status_for_host(client, host) for host in hosts] == [200, 200, 200, 400]
    async with serve(settings, allowed_hosts="*") as client:
        assert await status_for_host(client, "evil.example") == 200


async def test_with_a_key_any_host_name_is_answered_unless_some_are_listed(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as client:
        assert await status_for_host(client, "any.example") == 200
    async with serve(settings, api_key=KEY, allowed_hosts="events.example") as client:
        hosts = ("events.example", "any.example")
        assert [await status_for_host(client, host) for host in hosts] == [200, 400]


# -- being open to the network


def test_an_address_open_to_the_network_needs_a_key(settings: Settings) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "collector.example"):
        with pytest.raises(SettingsError, match="BRAIN_COLLECTOR_API_KEY") as refused:
            create_app(msgspec.structs.replace(settings, host=host), Metrics())

        assert host in str(refused.value)
        assert "--insecure" in str(refused.value)


def test_a_key_insecure_or_loopback_will_do(settings: Settings) -> None:
    for changes in ({"api_key": "k" * 16}, {"insecure": True}):
        create_app(msgspec.structs.replace(settings, host="0.0.0.0", **changes), Metrics())
    for host in ("127.0.0.1", "::1", "localhost"):
        create_app(msgspec.structs.replace(settings, host=host), Metrics())


# -- headers


def test_an_address_open_to_the_network_needs_a_bootstrap_key_that_cannot_be_guessed(settings: Settings) -> None:
    for changes in ({}, {"insecure": True}, {"require_api_key": True}):
        with pytest.raises(SettingsError, match="openssl rand -hex 32") as refused:
            create_app(msgspec.structs.replace(settings, host="0.0.0.0", api_key="k" * 15, **changes), Metrics())

        assert "k" * 15 not in str(refused.value)
    for host in ("127.0.0.1", "::1", "localhost"):
        create_app(msgspec.structs.replace(settings, host=host, api_key="k"), Metrics())


async def test_every_answer_has_the_security_headers(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    for name in ("index.html", "docs.html"):
        (tmp_path / name).write_text("<!doctype html>")
    async with serve(settings, max_body_bytes=1_000, page_directory=tmp_path) as client:
        created = await create(client)
        answers = [
            await client.get("/livez"),
            await client.get("/api/events"),
            await client.get(f"/api/events/{created['id']}"),
            await client.get("/api/events/999999"),
            await client.get("/api/events/x"),
            await client.get("/nowhere"),
            await client.get("/livez", headers={"Host": "evil.example"}),
            await client.post("/livez"),
            await client.post("/api/events", json=event()),
            await client.post("/api/events", content=b"x" * 2_000, headers={"Content-Type": "application/json"}),
            await client.post("/api/events", content=b"x"),
            await client.delete(f"/api/events/{created['id']}"),
            await client.get("/openapi.json"),
            await client.get("/docs"),
            await client.get("/"),
        ]

    assert [answer.status_code for answer in answers] == [
        *(200, 200, 200, 404, 422, 404, 400, 405, 201, 413, 415, 204),
        *(200, 200, 200),
    ]
    for answer in answers:
        assert [name for name in SECURITY_HEADERS if name not in answer.headers] == [], answer.url
        assert answer.headers["x-content-type-options"] == "nosniff"
    for answer in answers[:-3]:
        own = {"Cache-Control": REVALIDATE} if answer is answers[2] else {}
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS | own, answer.url


async def test_a_method_that_a_path_does_not_take_is_told_those_it_does(collector: httpx.AsyncClient) -> None:
    answer = await collector.patch("/api/events/1")

    assert outcome(answer) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
