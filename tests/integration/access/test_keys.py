"""API keys: their scopes, when one is required, how soon a change takes effect, where traces of a key remain."""

import asyncio
import hashlib
import hmac
import os
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from brain_collector.access import keyring
from brain_collector.access.guard import Guard, caller_of
from brain_collector.access.keyring import SCOPES, Key, Keyring
from brain_collector.api.operation import Operation
from brain_collector.errors import SettingsError, Unauthorized
from brain_collector.metrics import Metrics
from brain_collector.server.app import OPERATIONS, RULES, create_app
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import answer_of, collector_process, event, new_database, outcome, own_events, sql
from tests.support.engines import SuiteEngines
from tests.support.proxy import proxied
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

KEY = "b00tstrap-key"
BOOTSTRAP = {"Authorization": f"Bearer {KEY}"}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def made(client: httpx.AsyncClient, *scopes: str, **fields: Any) -> dict[str, Any]:
    """Make a key, which must work, with the bootstrap key; return it as answered."""
    body = {"name": "n", "scopes": scopes, **fields}
    answer = await client.post("/api/keys", json=body, headers=BOOTSTRAP)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key of a collector with a bootstrap key."""
    async with serve(settings, api_key=KEY) as client:
        yield client


# -- scopes


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
async def test_a_key_opens_what_its_scope_says_and_nothing_else(
    locked: httpx.AsyncClient, operation: Operation
) -> None:
    answers = {}
    for scope in SCOPES:
        key = await made(locked, scope)
        answers[scope] = await answer_of(locked, operation, 77, bearer(key["key"]))

    assert {scope for scope, answer in answers.items() if answer.status_code not in {401, 403}} == (
        {operation.scope} if operation.scope else set(SCOPES)
    )
    for scope, answer in answers.items():
        if operation.scope and scope != operation.scope:
            assert outcome(answer) == (403, "forbidden")
            assert (
                answer.json()["detail"]
                == f"this request requires an API key with the scope {operation.scope}; this one has {scope}"
            )


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/nowhere"])
async def test_all_that_is_no_operation_needs_the_scope_read(locked: httpx.AsyncClient, path: str) -> None:
    statuses = {
        scope: (await locked.get(path, headers=bearer((await made(locked, scope))["key"]))).status_code
        for scope in SCOPES
    }

    assert statuses.pop("read") not in {401, 403}
    assert set(statuses.values()) == {403}


def test_an_operation_that_declares_no_scope_cannot_be_written() -> None:
    (first, *_) = OPERATIONS
    fields = {name: getattr(first, name) for name in Operation.__struct_fields__ if name != "scope"}

    with pytest.raises(TypeError, match="scope"):
        Operation(**fields)


def test_only_get_is_routed_to_what_is_no_operation() -> None:
    known = {operation.path for operation in OPERATIONS}
    others = [
        route
        for route in create_app(Settings(), Metrics()).routes
        if isinstance(route, Route) and route.path not in known
    ]

    assert {method for route in others for method in route.methods or ()} == {"GET", "HEAD"}


async def test_a_path_that_the_router_takes_for_an_operation_needs_its_scope(locked: httpx.AsyncClient) -> None:
    reader = bearer((await made(locked, "read"))["key"])
    for method, path in (
        ("POST", "/api/events%0A"),
        ("POST", "/api/keys%0A"),
        ("DELETE", "/api/events/1%0A"),
        ("DELETE", "/api/events/1"),
        ("PUT", "/api/events/%31"),
        ("POST", "/%61pi/events/batch"),
    ):
        answer = await locked.request(method, path, headers=reader)

        assert answer.status_code == 403, (path, answer.text)


async def test_scopes_add_up_and_are_listed_once(locked: httpx.AsyncClient) -> None:
    key = await made(locked, "write", "ingest", "ingest")
    locked.headers.update(bearer(key["key"]))

    assert key["scopes"] == ["ingest", "write"]
    created = await locked.post("/api/events", json=event())
    assert created.status_code == 201
    url = created.headers["location"]
    assert (await locked.put(url, json={"message": "x"})).status_code == 200
    refused = await locked.get(url)
    assert (
        refused.json()["detail"] == "this request requires an API key with the scope read; this one has ingest, write"
    )


async def test_a_probe_shows_its_details_to_a_key_that_may_read(locked: httpx.AsyncClient) -> None:
    shown = {
        scope: "version" in (await locked.get("/health", headers=bearer((await made(locked, scope))["key"]))).json()
        for scope in SCOPES
    }

    assert shown == {"ingest": False, "read": True, "write": False, "admin": False}


@pytest.mark.parametrize(("scope", "status"), [(None, 401), ("read", 403)])
async def test_the_answer_comes_before_a_byte_of_the_body(
    locked: httpx.AsyncClient, scope: str | None, status: int
) -> None:
    key = (await made(locked, scope))["key"] if scope else keyring.generate().text
    for path in ("/api/events", "/api/events/batch", "/api/keys"):
        reader, writer = await asyncio.open_connection(locked.base_url.host, locked.base_url.port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode()
        )

        assert (await reader.readline()).split()[1] == str(status).encode()
        writer.close()
        await writer.wait_closed()


async def test_basic_never_writes_whatever_the_key(locked: httpx.AsyncClient) -> None:
    key = (await made(locked, *SCOPES))["key"]

    assert (await locked.get("/api/keys", auth=("any", key))).status_code == 200
    writes = [
        await locked.post("/api/keys", json={"name": "n", "scopes": ["read"]}, auth=("any", key)),
        await locked.delete("/api/keys/1", auth=("any", key)),
        await locked.post("/api/events", json=event(), auth=("any", key)),
    ]
    assert [outcome(answer) for answer in writes] == [(401, "unauthorized")] * 3


async def test_no_answer_lets_another_origin_in(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        for operation in OPERATIONS:
            path = operation.path.replace("{id}", "1")
            asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": operation.method}
            answers = [
                await client.options(path, headers=asked | {"Access-Control-Request-Headers": "content-type"}),
                await answer_of(client, operation, 1, asked),
            ]

            assert answers[0].status_code == 405
            for answer in answers:
                assert [name for name in answer.headers if name.startswith("access-control")] == []


# -- who asks


async def test_the_caller_is_named(settings: Settings) -> None:
    locked_settings = msgspec.structs.replace(settings, api_key=KEY)
    ring, secret = Keyring(locked_settings), keyring.generate()
    ring.load([Key(1, secret.prefix, secret.sha256, frozenset({"read"}), None)], ever_created=True)
    keyless = Keyring(settings)
    keyless.load([], ever_created=False)

    async def tell(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(caller_of(scope))(scope, receive, send)

    async def caller(ring: Keyring, path: str, given: str) -> str:
        guard = Guard(tell, settings=locked_settings, keyring=ring, rules=RULES)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://x") as client:
            return (await client.get(path, headers=bearer(given))).text

    assert await caller(ring, "/openapi.json", KEY) == "bootstrap"
    assert await caller(ring, "/openapi.json", secret.text) == f"key:{secret.prefix}"
    assert await caller(ring, "/livez", "wrong") == "open"
    assert await caller(keyless, "/openapi.json", "any") == "open"


# -- life of a key


async def test_a_key_is_good_until_it_expires(locked: httpx.AsyncClient) -> None:
    key = await made(locked, "read", expires_in_s=3600)
    expires = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
    assert expires == timedelta(hours=1)
    assert (await locked.get("/openapi.json", headers=bearer(key["key"]))).status_code == 200

    brief = await made(locked, "read", expires_in_s=1)

    async def expired() -> bool:
        return (await locked.get("/openapi.json", headers=bearer(brief["key"]))).status_code == 401

    await eventually(expired, "the key has expired")
    answer = await locked.get("/openapi.json", headers=bearer(brief["key"]))
    assert f"the API key be_{brief['prefix']} expired at" in answer.json()["detail"]
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_change_holds_at_once_here_and_soon_at_another_collector(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as a, serve(settings, api_key=KEY) as b:
        key = await made(a, "read")
        a.headers.update(bearer(key["key"]))
        b.headers.update(bearer(key["key"]))

        async def known_to_b() -> bool:
            return (await b.get("/openapi.json")).status_code == 200

        assert (await a.get("/openapi.json")).status_code == 200
        await eventually(known_to_b, "B knows the new key")
        assert (await a.delete(f"/api/keys/{key['id']}", headers=BOOTSTRAP)).status_code == 204
        assert outcome(await a.get("/openapi.json")) == (401, "unauthorized")

        async def refused_by_b() -> bool:
            return (await b.get("/openapi.json")).status_code == 401

        await eventually(refused_by_b, "B refuses the revoked key")


async def test_revoking_again_changes_nothing_and_is_no_second_event(
    locked: httpx.AsyncClient, settings: Settings
) -> None:
    key = await made(locked, "read", name="shop")
    url = f"/api/keys/{key['id']}"
    statuses = [(await locked.delete(url, headers=BOOTSTRAP)).status_code]
    (first,) = (await locked.get("/api/keys", headers=BOOTSTRAP)).json()
    statuses.append((await locked.delete(url, headers=BOOTSTRAP)).status_code)
    (again,) = (await locked.get("/api/keys", headers=BOOTSTRAP)).json()
    await made(locked, "read", name="later")

    async def logged() -> bool:
        return len(await own_events(settings.dsn, "api_key_created")) == 2

    await eventually(logged, "the events are stored")
    assert statuses == [204, 204]
    assert again == first
    assert first["revoked_at"]
    assert await own_events(settings.dsn, "api_key_revoked") == [
        {"prefix": key["prefix"], "name": "shop", "by": "bootstrap"}
    ]
    assert (await own_events(settings.dsn, "api_key_created"))[0] == {
        "prefix": key["prefix"],
        "name": "shop",
        "scopes": ["read"],
        "by": "bootstrap",
    }


async def test_a_key_that_is_not_there_cannot_be_revoked(locked: httpx.AsyncClient) -> None:
    for given, expected in {
        "7": (404, "api_key_not_found"),
        "0": (404, "api_key_not_found"),
        "9" * 30: (404, "api_key_not_found"),
        "x": (422, "parameter_invalid"),
    }.items():
        assert outcome(await locked.delete(f"/api/keys/{given}", headers=BOOTSTRAP)) == expected


async def test_the_last_use_is_written_once_a_minute(locked: httpx.AsyncClient, settings: Settings) -> None:
    used, idle = await made(locked, "read"), await made(locked, "read")

    async def last_uses() -> list[datetime | None]:
        rows = await sql(settings.dsn, "SELECT last_used_at FROM api_keys ORDER BY id")
        return [moment for (moment,) in rows]

    async def written() -> bool:
        await locked.get("/openapi.json", headers=bearer(used["key"]))
        return (await last_uses())[0] is not None

    await eventually(written, "the use is written")
    first, none = await last_uses()
    assert first is not None
    assert none is None, idle
    await locked.get("/openapi.json", headers=bearer(used["key"]))
    ring = Keyring(settings)
    ring.load([key := Key(1, "kaaaaaaa", keyring.generate().sha256, frozenset(), None)], ever_created=True)
    ring._used[key.id] = now = datetime.now(UTC)
    assert ring.unwritten_uses() == {1: now}
    ring.mark_written(ring.unwritten_uses())
    ring._used[key.id] = now + timedelta(seconds=59)
    assert ring.unwritten_uses() == {}
    ring._used[key.id] = later = now + timedelta(seconds=60)
    assert ring.unwritten_uses() == {1: later}
    await made(locked, "read")  # another refresh has passed
    assert (await last_uses())[0] == first


# -- what is asked for


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "n", "scopes": ["read"], "sha256": "00"}, "/sha256"),
        ({"name": "n", "scopes": ["read"], "id": 1}, "/id"),
        ({"name": "n", "scopes": ["read"], "prefix": "kaaaaaaa"}, "/prefix"),
        ({"name": "n", "scopes": ["read"], "revoked_at": None}, "/revoked_at"),
        ({"name": "n", "scopes": ["read"], "last_used_at": None}, "/last_used_at"),
        ({"name": "n", "scopes": []}, "/scopes"),
        ({"name": "n", "scopes": ["root"]}, "/scopes"),
        ({"name": "n", "scopes": "read"}, "/scopes"),
        ({"name": "", "scopes": ["read"]}, "/name"),
        ({"name": "a\nb", "scopes": ["read"]}, "/name"),
        ({"name": "a\n", "scopes": ["read"]}, "/name"),
        ({"name": "a\0", "scopes": ["read"]}, "/name"),
        ({"name": "\x1b[31m", "scopes": ["read"]}, "/name"),
        ({"name": "a\u202eb", "scopes": ["read"]}, "/name"),
        ({"name": "n" * 101, "scopes": ["read"]}, "/name"),
        ({"scopes": ["read"]}, "/name"),
        ({"name": "n"}, "/scopes"),
        ({"name": "n", "scopes": ["read"], "expires_in_s": 0}, "/expires_in_s"),
        ({"name": "n", "scopes": ["read"], "expires_in_s": 1e300}, "/expires_in_s"),
        ([], ""),
    ],
    ids=str,
)
async def test_what_is_no_key_or_more_than_one_is_refused(
    locked: httpx.AsyncClient, settings: Settings, body: Any, pointer: str
) -> None:
    answer = await locked.post("/api/keys", json=body, headers=BOOTSTRAP)

    assert outcome(answer) == (422, "api_key_invalid")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await sql(settings.dsn, "SELECT * FROM api_keys") == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"name": "\\ud800", "scopes": ["read"]}', b"[" * 100_000])
async def test_what_is_no_json_is_refused(locked: httpx.AsyncClient, body: bytes) -> None:
    answer = await locked.post("/api/keys", content=body, headers=BOOTSTRAP | {"Content-Type": "application/json"})

    assert answer.status_code in {400, 422}


async def test_there_are_no_more_live_keys_than_may_be(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY, max_api_keys=2) as client:
        first = await made(client, "read")
        await made(client, "read")
        refused = await client.post("/api/keys", json={"name": "n", "scopes": ["read"]}, headers=BOOTSTRAP)
        assert outcome(refused) == (409, "too_many_api_keys")
        assert "BRAIN_COLLECTOR_MAX_API_KEYS" in refused.json()["detail"]
        await client.delete(f"/api/keys/{first['id']}", headers=BOOTSTRAP)
        await made(client, "read")


# -- what is left of a key


async def test_the_text_of_a_key_is_in_one_answer_and_nowhere_else(
    locked: httpx.AsyncClient, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await locked.post("/api/keys", json={"name": "n", "scopes": ["read", "admin"]}, headers=BOOTSTRAP)
    text = answer.json()["key"]
    secret = text.rpartition("_")[2]
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"be_[a-z0-9]{8}_[0-9a-f]{64}", text)
    listed = await locked.get("/api/keys", headers=bearer(text))
    wrong = await locked.get("/openapi.json", headers=bearer(text[:-1]))
    await locked.delete(f"/api/keys/{answer.json()['id']}", headers=bearer(text))
    revoked = await locked.get("/openapi.json", headers=bearer(text))

    async def logged() -> bool:
        return bool(await own_events(settings.dsn, "api_key_revoked"))

    await eventually(logged, "the events are stored")
    tables = await sql(settings.dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    dump = [str(await sql(settings.dsn, f"SELECT t::text FROM {name} t")) for (name,) in tables]
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert sum(digest in rows for rows in dump) == 1
    said = [*dump, listed.text, wrong.text, revoked.text, *capfd.readouterr()]
    for shown in (secret[:16], secret[-16:]):
        assert [each for each in said if shown in each or shown.encode().hex() in each] == []  # as text, as bytea
    assert [each for each in said[len(dump) :] if digest in each or "sha256" in each] == []
    assert (wrong.status_code, revoked.status_code) == (401, 401)


# -- wrong keys


def test_a_key_is_compared_in_constant_time_also_with_none(settings: Settings) -> None:
    ring = Keyring(msgspec.structs.replace(settings, api_key=KEY))
    secret, stranger = keyring.generate(), keyring.generate()
    ring.load([Key(1, secret.prefix, secret.sha256, frozenset({"read"}), None)], ever_created=True)
    compared = 0

    def count(_frame: Any, what: str, function: Any) -> None:
        nonlocal compared
        compared += what == "c_call" and function is hmac.compare_digest

    for text in (secret.text, secret.text[:-1] + "z", stranger.text, "x"):
        before = compared
        sys.setprofile(count)
        try:
            ring.caller(text)
        except Unauthorized:
            pass
        finally:
            sys.setprofile(None)
        assert compared - before == 2, text  # with the bootstrap key, and with one of the ring


async def test_a_flood_of_wrong_keys_is_no_flood_of_queries(settings: Settings, serve: Serve) -> None:
    async def scans() -> int:
        ((n,),) = await sql(
            settings.dsn, "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'api_keys'"
        )
        return int(n)

    async with serve(settings, api_key=KEY, api_key_refresh_s=3600) as client:
        known = await made(client, "read")
        texts = [keyring.generate().text for _ in range(300)] + [f"be_{known['prefix']}_{n:064x}" for n in range(300)]
        for text in texts:
            assert (await client.get("/openapi.json", headers=bearer(text))).status_code == 401
        await made(client, "read")  # its scans, and those before it, show a moment later

        async def counted() -> bool:
            return await scans() >= 3

        await eventually(counted, "the statistics are there")
    assert await scans() < 30


# -- when keys are needed


async def test_without_any_key_everything_is_open_until_the_first_is_made(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as a, serve(settings) as b:
        assert (await a.get("/api/keys")).json() == []
        useless = await a.post("/api/keys", json={"name": "n", "scopes": ["ingest"]})
        assert outcome(useless) == (422, "api_key_invalid")
        assert "`admin`" in useless.json()["detail"]
        first = (await a.post("/api/keys", json={"name": "me", "scopes": ["admin"], "expires_in_s": 600})).json()
        assert outcome(await a.get("/api/events")) == (401, "unauthorized")

        async def closed() -> bool:
            return (await b.get("/api/events")).status_code == 401

        await eventually(closed, "the other collector needs a key")
        second = await a.post("/api/keys", json={"name": "n", "scopes": ["ingest"]}, headers=bearer(first["key"]))
        assert second.status_code == 201
        assert (await own_events(settings.dsn, "api_key_created"))[:1] in ([], [{**_event_of(first), "by": "open"}])
        await sql(settings.dsn, "UPDATE api_keys SET expires_at = now() WHERE scopes = '{admin}'")

        async def expired() -> bool:
            answer = await a.get("/api/keys", headers=bearer(first["key"]))
            return answer.status_code == 401

        await eventually(expired, "the first key has expired")
        assert outcome(await a.get("/api/events")) == (401, "unauthorized")
    async with serve(settings) as again:
        assert outcome(await again.get("/api/events")) == (401, "unauthorized")
        await sql(settings.dsn, "UPDATE api_keys SET revoked_at = now()")

        async def refused() -> bool:
            return (await again.get("/api/keys", headers=bearer(second.json()["key"]))).status_code == 401

        await eventually(refused, "the second key is refused")
        assert outcome(await again.get("/api/events")) == (401, "unauthorized")
    async with serve(settings, api_key=KEY) as rescued:
        assert (await rescued.get("/api/keys", headers=BOOTSTRAP)).status_code == 200


def _event_of(key: dict[str, Any]) -> dict[str, Any]:
    return {"prefix": key["prefix"], "name": key["name"], "scopes": key["scopes"]}


async def test_insecure_does_not_outweigh_a_key(settings: Settings, serve: Serve) -> None:
    async with serve(settings, insecure=True) as client:
        assert (await client.get("/openapi.json")).status_code == 200
        await client.post("/api/keys", json={"name": "me", "scopes": ["admin"]})
        assert (await client.get("/openapi.json")).status_code == 401


async def test_require_key_closes_a_collector_that_has_none_and_says_so(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(settings, require_api_key=True) as client:
        assert outcome(await client.get("/openapi.json")) == (401, "unauthorized")
        assert "version" not in (await client.get("/health")).json()
        assert (await client.get("/livez", headers={"Host": "any.example"})).status_code == 200

    assert [record.message for record in caplog.records if record.name == "brain_collector.access.key_table"] == [
        "API keys are required, and none exists: set BRAIN_COLLECTOR_API_KEY, and create the first one with it"
    ]


def test_a_public_address_needs_a_bootstrap_key_or_require_key(settings: Settings) -> None:
    public = msgspec.structs.replace(settings, host="0.0.0.0")
    create_app(msgspec.structs.replace(public, require_api_key=True), Metrics())

    with pytest.raises(SettingsError, match="--require-api-key"):
        create_app(public, Metrics())


# -- without the database


async def test_a_lost_database_closes_nothing_that_is_known_and_opens_nothing(settings: Settings, serve: Serve) -> None:
    with proxied(settings.dsn) as proxy:
        async with serve(settings, database_url=proxy.url, api_key=KEY, api_key_grace_s=6) as client:
            known = await made(client, "read")
            proxy.refuse()
            unknown = bearer(keyring.generate().text)

            async def lost() -> bool:
                return (await client.get("/openapi.json", headers=unknown)).status_code == 503

            await eventually(lost, "the table is found away")
            assert (await client.get("/openapi.json", headers=bearer(known["key"]))).status_code == 200
            assert (await client.get("/openapi.json", headers=BOOTSTRAP)).status_code == 200
            answer = await client.get("/openapi.json", headers=unknown)
            assert outcome(answer) == (503, "unavailable")
            assert answer.headers["retry-after"] == "1"
            for never in ({}, bearer("wrong"), bearer(f"be_{known['prefix']}_{'0' * 64}")):
                assert outcome(await client.get("/openapi.json", headers=never)) == (401, "unauthorized")
            making = await client.post("/api/keys", json={"name": "n", "scopes": ["read"]}, headers=BOOTSTRAP)
            assert outcome(making) == (503, "unavailable")

            async def too_old() -> bool:
                return (await client.get("/openapi.json", headers=bearer(known["key"]))).status_code == 503

            await eventually(too_old, "what was read is too old")
            assert (await client.get("/openapi.json", headers=BOOTSTRAP)).status_code == 200
            assert outcome(await client.get("/openapi.json")) == (401, "unauthorized")
            proxy.restore()

            async def back() -> bool:
                return (await client.get("/openapi.json", headers=bearer(known["key"]))).status_code == 200

            await eventually(back, "the key is good again")
            assert outcome(await client.get("/openapi.json", headers=unknown)) == (401, "unauthorized")


async def test_a_collector_that_starts_without_its_database_is_closed_until_it_has_read_the_keys(
    settings: Settings, serve: Serve
) -> None:
    with proxied(settings.dsn) as proxy:
        proxy.refuse()
        async with serve(settings, database_url=proxy.url) as client:
            for headers in ({}, bearer("any"), bearer(keyring.generate().text)):
                answer = await client.get("/openapi.json", headers=headers)

                assert outcome(answer) == (503, "unavailable")
                assert answer.headers["retry-after"] == "1"
            assert (await client.get("/livez")).status_code == 200
            proxy.restore()

            async def open_again() -> bool:
                return (await client.get("/openapi.json")).status_code == 200

            await eventually(open_again, "it has read that there are no keys")


async def test_a_collector_without_keys_is_closed_when_they_were_last_read_too_long_ago(
    settings: Settings, serve: Serve
) -> None:
    with proxied(settings.dsn) as proxy:
        async with serve(settings, database_url=proxy.url, api_key_grace_s=3) as client:
            assert (await client.get("/openapi.json")).status_code == 200
            proxy.refuse()

            async def closed() -> bool:
                return (await client.get("/openapi.json")).status_code == 503

            await eventually(closed, "it is closed")


async def test_it_is_not_ready_before_it_has_read_the_keys(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as client:
        await sql(settings.dsn, "ALTER TABLE api_keys RENAME TO elsewhere")

        async def not_ready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await eventually(not_ready, "it is not ready")
        assert (await client.get("/readyz", headers=BOOTSTRAP)).json()["reasons"] == [
            "the API keys have not been read yet"
        ]
        await sql(settings.dsn, "ALTER TABLE elsewhere RENAME TO api_keys")

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(ready, "it is ready again")


# -- the command


async def run(url: str, *arguments: str, key: str | None = None) -> tuple[int, str, str]:
    """Run `brain-events keys`; return its exit code and what it printed."""
    environ = {"BRAIN_EVENTS_URL": url} | ({"BRAIN_EVENTS_API_KEY": key} if key else {})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brain_collector", "keys", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_makes_lists_and_revokes_keys_from_the_first_on(engines: SuiteEngines) -> None:
    with (
        new_database(engines, template="migrated") as dsn,
        collector_process("--database-url", dsn, "--redis-url", "none") as process,
    ):
        url = process.url
        code, _, said = await run(url, "create", "shop", "--scope", "ingest")
        assert (code, said.count("\n")) == (1, 1)
        assert said.startswith("Error: ")
        assert "admin" in said
        code, admin, said = await run(url, "create", "me", "--scope", "admin")
        assert code == 0
        assert re.fullmatch(r"be_[a-z0-9]{8}_[0-9a-f]{64}\n", admin)
        assert admin.strip() not in said
        admin = admin.strip()
        code, out, said = await run(url, "list")
        assert (code, out) == (4, "")
        assert "the request has no API key" in said
        code, out, _ = await run(
            url, "create", "Büro", "--scope", "ingest", "--scope", "read", "--expires-in", "90d", "--json", key=admin
        )
        shop = msgspec.json.decode(out)
        assert (code, shop["scopes"], shop["name"]) == (0, ["ingest", "read"], "Büro")
        lasts = datetime.fromisoformat(shop["expires_at"]) - datetime.fromisoformat(shop["created_at"])
        assert lasts == timedelta(days=90)
        assert (await client_status(url, shop["key"]), await client_status(url, admin)) == (200, 403)
        code, out, said = await run(url, "list", key=admin)
        assert (code, said) == (0, "")
        header, *rows = out.splitlines()
        assert header.split() == ["ID", "PREFIX", "SCOPES", "STATE", "LAST", "USED", "NAME"]
        assert [row.split()[:3] for row in rows][1] == ["2", shop["prefix"], "ingest,read"]
        assert shop["key"] not in out

        for which in (shop["prefix"], "1"):
            code, out, said = await run(url, "revoke", which, key=admin)
            assert (code, out, said) == (0, "", "")
        assert (await client_status(url, shop["key"]), await client_status(url, admin)) == (401, 401)


async def client_status(url: str, key: str) -> int:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        return (await client.get(f"{url}/openapi.json", headers=bearer(key))).status_code


async def test_what_the_command_cannot_do_is_one_line(locked: httpx.AsyncClient) -> None:
    url = str(locked.base_url)
    whole = keyring.generate().text
    failures = {
        ("revoke", "nothing"): "there is no API key 'nothing'",
        ("revoke", whole): "there is no API key",
        ("create", "a\nb", "--scope", "read"): "returned 422: name cannot be used",
    }
    for arguments, expected in failures.items():
        code, out, said = await run(url, *arguments, key=KEY)
        assert (code, out, said.count("\n")) == (1, "", 1), said
        assert expected in said
        assert whole not in said
    for arguments in (
        ("create", "n", "--scope", "root"),
        ("create", "n"),
        ("create", "n", "--scope", "read", "--expires-in", "soon"),
    ):
        code, out, said = await run(url, *arguments, key=KEY)
        assert (code, out) == (2, "")
    code, out, said = await run("http://127.0.0.1:9", "list")
    assert (code, out, said.count("\n")) == (5, "", 1), said
    assert "no connection" in said
    code, _, said = await run("nowhere", "list")
    assert (code, said.count("\n")) == (1, 1)


async def test_revoking_by_the_whole_text_works_and_repeats_none_of_it(locked: httpx.AsyncClient) -> None:
    key = await made(locked, "read")

    code, out, said = await run(str(locked.base_url), "revoke", key["key"], key=KEY)

    assert (code, out, said) == (0, "", "")
    assert (await locked.get("/openapi.json", headers=bearer(key["key"]))).status_code == 401
