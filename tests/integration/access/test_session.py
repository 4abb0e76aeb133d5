"""Browser sessions: a token in a cookie, of no use to the pages of other sites, and worthless once it has ended."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from brain_collector import VERSION
from brain_collector.access import session, session_table
from brain_collector.access.session_cookie import COOKIE, FORMER_COOKIE
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.ingest.test_idempotency import have_left
from tests.support.collector import connected, create, event, outcome, sql
from tests.support.proxy import proxied
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

KEY = 's3cret;,key="%41'
SESSION = "/api/session"
NAME = COOKIE
NOBODY: dict[str, Any] = {"caller": None, "scopes": [], "needs_key": True, "version": VERSION}
FOREIGN = [
    "https://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "ftp://127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "null",
    "",
]


def own(client: httpx.AsyncClient) -> dict[str, str]:
    """Return what a browser adds to what the collector's own page sends."""
    return {"Origin": f"http://127.0.0.1:{client.base_url.port}"}


def foreign(client: httpx.AsyncClient) -> list[dict[str, str]]:
    return [{"Origin": each.format(port=client.base_url.port)} for each in FOREIGN]


async def log_in(client: httpx.AsyncClient, key: str) -> httpx.Response:
    return await client.post(SESSION, json={"key": key}, headers=own(client))


def cookie_of(client: httpx.AsyncClient) -> dict[str, str]:
    return {"Cookie": f"{NAME}={client.cookies[NAME]}"}


async def made(client: httpx.AsyncClient, *scopes: str, **fields: Any) -> dict[str, Any]:
    """Have a key made, by the session that `client` has."""
    body = {"name": "n", "scopes": scopes, **fields}
    answer = await client.post("/api/keys", json=body, headers=own(client))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
async def locked(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without a key at a collector with one."""
    async with serve(settings, api_key=KEY) as client:
        yield client


@pytest.fixture
async def logged_in(locked: httpx.AsyncClient) -> httpx.AsyncClient:
    """A browser with a session that may do anything."""
    assert (await log_in(locked, KEY)).status_code == 200
    return locked


# -- begin and end


async def test_a_session_begins_with_a_key_and_ends(locked: httpx.AsyncClient) -> None:
    assert (await locked.get(SESSION)).json() == NOBODY
    assert outcome(await locked.get("/api/events")) == (401, "unauthorized")

    begun = await log_in(locked, KEY)
    whole = {"caller": "bootstrap", "scopes": ["ingest", "read", "write", "admin"], "needs_key": False}
    assert (begun.status_code, begun.json()) == (200, whole | {"version": VERSION})
    assert begun.headers["cache-control"] == "no-store"
    assert (await locked.get(SESSION)).json() == begun.json()
    assert (await locked.get("/api/events")).status_code == 200
    assert (await locked.head("/api/events")).status_code == 200
    assert (await locked.get("/openapi.json")).status_code == 200

    assert (await locked.delete(SESSION, headers=own(locked))).status_code == 204
    assert not locked.cookies
    assert (await locked.get(SESSION)).json() == NOBODY
    assert outcome(await locked.get("/api/events")) == (401, "unauthorized")


async def test_a_session_has_the_scopes_of_its_key(logged_in: httpx.AsyncClient) -> None:
    key = await made(logged_in, "read", "ingest")
    begun = await log_in(logged_in, key["key"])

    assert begun.json()["caller"] == f"key:{key['prefix']}"
    assert begun.json()["scopes"] == ["ingest", "read"]
    assert (await logged_in.get("/api/events")).status_code == 200
    assert (await logged_in.post("/api/events", json=event(), headers=own(logged_in))).status_code == 201
    assert outcome(await logged_in.get("/api/keys")) == (403, "forbidden")


async def test_the_cookie_is_the_browsers_secret(locked: httpx.AsyncClient) -> None:
    begun = (await log_in(locked, KEY)).headers.get_list("set-cookie")
    ended = (await locked.delete(SESSION)).headers.get_list("set-cookie")

    assert len(begun) == len(ended) == 1
    attributes = {part.strip().lower() for part in begun[0].split(";")[1:]}
    assert attributes == {"path=/", "httponly", "samesite=strict"}
    assert SimpleCookie(ended[0])[NAME]["max-age"] == "0"
    assert SimpleCookie(ended[0])[NAME].value == ""


async def test_a_page_that_came_by_tls_gets_a_cookie_for_tls_alone(locked: httpx.AsyncClient) -> None:
    for host, origin in [
        ("events.example", "https://events.example"),
        ("events.example:443", "https://events.example"),
        ("Events.example:8443", "https://events.example:8443"),
    ]:
        begun = await locked.post(SESSION, json={"key": KEY}, headers={"Host": host, "Origin": origin})
        assert begun.status_code == 200, origin
        assert begun.headers["set-cookie"].endswith("; Secure")
    believed = {"X-Forwarded-Proto": "https", "Forwarded": "proto=https"}
    begun = await locked.post(SESSION, json={"key": KEY}, headers=own(locked) | believed)
    assert "Secure" not in begun.headers["set-cookie"]


async def test_the_cookie_does_not_contain_the_key_and_is_no_bearer_token(logged_in: httpx.AsyncClient) -> None:
    key = await made(logged_in, "read")
    for text in (KEY, key["key"]):
        await log_in(logged_in, text)
        token = logged_in.cookies[NAME]
        logged_in.cookies.clear()

        assert text not in token
        assert quote(text, safe="") not in token
        for headers in ({"Authorization": f"Bearer {token}"}, basic(token), {"Cookie": f"{NAME}={text}"}):
            assert outcome(await logged_in.get("/api/events", headers=headers)) == (401, "unauthorized")
        assert (await logged_in.get("/api/events", headers={"Cookie": f"{NAME}={token}"})).status_code == 200
        await log_in(logged_in, KEY)


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"u:{password}".encode()).decode()}


async def test_a_session_that_was_ended_is_refused_on_every_collector_and_no_other_is(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, api_key=KEY) as client, serve(settings, api_key=KEY) as other:
        tokens = []
        for _ in range(2):
            await log_in(client, KEY)
            tokens.append(cookie_of(client))
            client.cookies.clear()
        for at in (client, other):
            assert [(await at.get("/api/events", headers=token)).status_code for token in tokens] == [200, 200]

        assert (await client.delete(SESSION, headers=tokens[0])).status_code == 204
        assert [(await client.get("/api/events", headers=token)).status_code for token in tokens] == [401, 200]

        async def refused() -> bool:
            return (await other.get("/api/events", headers=tokens[0])).status_code == 401

        await eventually(refused, "the other collector knows that the session has ended")
        assert (await other.get("/api/events", headers=tokens[1])).status_code == 200
    async with serve(settings, api_key=KEY) as again:
        assert [(await again.get("/api/events", headers=token)).status_code for token in tokens] == [401, 200]
    async with serve(settings, api_key="another") as changed:
        assert [(await changed.get("/api/events", headers=token)).status_code for token in tokens] == [401, 401]


async def test_a_session_ends_after_its_life(settings: Settings, serve: Serve) -> None:
    began_at = "UPDATE sessions SET began_at = now() - make_interval(hours => $1)"
    async with serve(settings, api_key=KEY, session_life_days=1) as client:
        await log_in(client, KEY)
        headers = cookie_of(client)
    for hours, status in ((23, 200), (25, 401)):
        await sql(settings.dsn, began_at, hours)
        async with serve(settings, api_key=KEY, session_life_days=1) as again:
            assert (await again.get("/api/events", headers=headers)).status_code == status


async def test_a_session_begun_at_another_collector_is_known_at_once(settings: Settings, serve: Serve) -> None:
    async with (
        serve(settings, api_key=KEY) as client,
        serve(settings, api_key=KEY, api_key_refresh_s=3600) as other,
    ):
        for _ in range(3):
            await log_in(client, KEY)
            assert (await other.get("/api/events", headers=cookie_of(client))).status_code == 200


async def test_a_session_ends_at_a_collector_that_does_not_know_it_yet(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as client, serve(settings, api_key=KEY, api_key_refresh_s=3600) as other:
        await log_in(client, KEY)
        reader = await made(client, "read")
        for key in (KEY, reader["key"]):
            await log_in(client, key)
            token = cookie_of(client)
            remaining = len(await sql(settings.dsn, "SELECT FROM sessions")) - 1

            assert (await other.delete(SESSION, headers=token)).status_code == 204
            assert len(await sql(settings.dsn, "SELECT FROM sessions")) == remaining
            assert (await other.get("/api/events", headers=token)).status_code == 401

            async def refused(token: dict[str, str] = token) -> bool:
                return (await client.get("/api/events", headers=token)).status_code == 401

            await eventually(refused, "the collector at which the session began refuses it")


async def test_sessions_begin_and_end_at_once_while_the_table_is_being_read(settings: Settings, serve: Serve) -> None:
    """A read that began before a change must not undo it in memory; that of many sessions takes long."""
    many = "INSERT INTO sessions SELECT sha256(n::text::bytea), 7, '', now() FROM generate_series(1, 4000) AS n"
    await sql(settings.dsn, many)
    async with serve(settings, api_key=KEY, api_key_refresh_s=0.0001) as client:
        for _ in range(10):
            await available(lambda: log_in(client, KEY))
            token = cookie_of(client)
            assert (await available(lambda: client.get(SESSION))).json()["caller"] == "bootstrap"
            await available(lambda: client.delete(SESSION, headers=own(client)))
            response = await available(partial(client.get, SESSION, headers=token))
            assert response.json() == NOBODY


async def available(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask again for as long as the database does not respond in time, as clients do."""
    while (response := await ask()).status_code == 503:
        await asyncio.sleep(0.05)
    return response


async def test_logins_that_wait_delay_no_administrator_and_only_so_many_wait(settings: Settings, serve: Serve) -> None:
    refused: list[httpx.Response] = []
    async with serve(settings, api_key=KEY, admission_wait_s=0.001) as client, connected(settings.dsn) as connection:
        await log_in(client, KEY)

        async def revoked_before_they_were_answered() -> bool:
            key = await made(client, "ingest")
            async with connection.transaction():
                await connection.execute("LOCK TABLE sessions IN SHARE MODE")
                logins = [
                    asyncio.create_task(client.post(SESSION, json={"key": key["key"]}))
                    for _ in range(session_table.MAX_CHANGES)
                ]
                await asyncio.wait(logins, return_when=asyncio.FIRST_COMPLETED)
                revoked = await client.delete(f"/api/keys/{key['id']}", headers={"Authorization": f"Bearer {KEY}"})
                is_one_waiting = not all(login.done() for login in logins)
            await asyncio.wait(logins)
            refused[:] = [answer for answer in (login.result() for login in logins) if "too many users" in answer.text]
            return revoked.status_code == 204 and is_one_waiting and len(refused) > 0

        await eventually(revoked_before_they_were_answered, "a key is revoked while its holder's logins wait")
    assert {(*outcome(answer), answer.headers["retry-after"]) for answer in refused} == {(503, "unavailable", "1")}


async def test_a_flood_of_wrong_tokens_is_no_flood_of_queries(settings: Settings, serve: Serve) -> None:
    async def scans() -> int:
        statement = "SELECT seq_scan + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'sessions'"
        return int((await sql(settings.dsn, statement))[0][0])

    async with serve(settings, api_key=KEY, api_key_refresh_s=3600) as client:
        tokens = [session.new_token() for _ in range(150)]
        answers = await asyncio.gather(
            *(client.get("/openapi.json", headers={"Cookie": f"{NAME}={token}"}) for token in tokens)
        )
        for text in ("x", "x" * 43 + "=", "x" * 42 + "%"):
            assert (await client.get("/openapi.json", headers={"Cookie": f"{NAME}={text}"})).status_code == 401
    assert {answer.status_code for answer in answers} == {401}
    await eventually(lambda: have_left(settings.dsn), "what the server counted is written down")
    assert await scans() < 15


async def test_of_one_key_only_so_many_sessions_are_kept_and_none_for_longer_than_they_live(
    locked: httpx.AsyncClient, settings: Settings
) -> None:
    began = (
        "INSERT INTO sessions (sha256, api_key_id, scheme, began_at) SELECT sha256(n::text::bytea), $1, '', "
        "now() - make_interval(days => $2, secs => n) FROM generate_series($3::int, $4::int) AS n"
    )
    await sql(settings.dsn, began, 0, 1, 1, session_table.MAX_SESSIONS)
    await sql(settings.dsn, began, 7, 31, 1_001, 1_005)
    await sql(settings.dsn, began, 8, 1, 2_001, 2_005)

    assert (await log_in(locked, KEY)).status_code == 200
    kept = await sql(settings.dsn, "SELECT api_key_id, count(*) FROM sessions GROUP BY 1 ORDER BY 1")
    assert kept == [(0, session_table.MAX_SESSIONS), (8, 5)]
    oldest = "SELECT FROM sessions WHERE sha256 = sha256($1::text::bytea)"
    assert await sql(settings.dsn, oldest, str(session_table.MAX_SESSIONS)) == []


async def test_the_database_has_no_token(logged_in: httpx.AsyncClient, settings: Settings) -> None:
    """Nor anything from which one can be made, as from a signing key."""
    token = logged_in.cookies[NAME]
    rows = await sql(settings.dsn, "SELECT sessions::text FROM sessions")

    assert len(rows) == 1
    assert token not in rows[0][0]
    assert token.encode().hex() not in rows[0][0]
    names = await sql(settings.dsn, "SELECT name FROM hash_keys WHERE name NOT IN ('requests', 'cache')")
    assert names == []


async def test_the_cookie_of_the_release_before_is_not_accepted_and_is_deleted(locked: httpx.AsyncClient) -> None:
    former = {"Cookie": f"{FORMER_COOKIE}={quote(KEY, safe='')}"}

    assert outcome(await locked.get("/api/events", headers=former)) == (401, "unauthorized")
    for answer in (
        await locked.post(SESSION, json={"key": KEY}, headers=former),
        await locked.delete(SESSION, headers=former),
    ):
        deleted = [each for each in answer.headers.get_list("set-cookie") if each.startswith(f"{FORMER_COOKIE}=;")]
        assert [each.rpartition("; ")[2] for each in deleted] == ["Max-Age=0"]


async def test_while_the_database_is_away_a_browser_still_forgets_its_session(
    settings: Settings, serve: Serve, database_url: str
) -> None:
    with proxied(database_url) as proxy:
        async with serve(settings, database_url=proxy.url, api_key=KEY) as client:
            assert (await log_in(client, KEY)).status_code == 200
            proxy.freeze()
            proxy.cut()
            answer = await client.delete(SESSION, headers=own(client))

            assert outcome(answer) == (503, "unavailable")
            assert not client.cookies
            proxy.restore()


async def test_where_no_key_is_needed_no_session_is(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        shown = (await client.get(SESSION)).json()
        begun = await log_in(client, "any")
        client.cookies.set(NAME, "any")

        assert shown["caller"] == "open"
        assert shown["needs_key"] is False
        assert begun.json() == shown
        assert "set-cookie" not in begun.headers
        assert (await client.post("/api/events", json=event())).status_code == 201


# -- keys that are not good


async def test_a_wrong_key_begins_nothing(locked: httpx.AsyncClient) -> None:
    for wrong in ("wr0ng", KEY + "x", KEY[:-1], "be_aaaaaaaa_" + "0" * 64, "\u20ac"):
        answer = await log_in(locked, wrong)

        assert outcome(answer) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="brain-events"'  # no browser asks for a password
        assert "set-cookie" not in answer.headers
        assert wrong not in answer.text
    assert (await locked.get(SESSION)).json() == NOBODY


async def test_what_is_no_key_is_refused_without_being_repeated(locked: httpx.AsyncClient) -> None:
    for body in (b'{"key": 5}', b'{"key": ""}', b"{}", b"[]", b'{"key": "be_x", "more": 1}'):
        answer = await locked.post(SESSION, content=body, headers={"Content-Type": "application/json"})
        assert outcome(answer) == (422, "api_key_invalid"), body
    answer = await locked.post(SESSION, content=b'{"key": "be_x', headers={"Content-Type": "application/json"})
    assert outcome(answer) == (400, "body_undecodable")
    assert "be_x" not in answer.text
    assert outcome(await locked.post(SESSION, data={"key": KEY})) == (415, "unsupported_media_type")
    assert outcome(await locked.post(SESSION, json={"key": "x" * 20_000})) == (413, "body_too_large")


async def test_a_revoked_key_ends_its_sessions_at_once(logged_in: httpx.AsyncClient) -> None:
    key = await made(logged_in, "read")
    bootstrap = {"Authorization": f"Bearer {KEY}"}
    await log_in(logged_in, key["key"])
    assert (await logged_in.get("/api/events")).status_code == 200

    assert (await logged_in.delete(f"/api/keys/{key['id']}", headers=bootstrap)).status_code == 204
    assert outcome(await logged_in.get("/api/events")) == (401, "unauthorized")
    assert (await logged_in.get(SESSION)).json() == NOBODY


async def test_an_expired_key_ends_its_sessions(logged_in: httpx.AsyncClient) -> None:
    key = await made(logged_in, "read", expires_in_s=1)
    await log_in(logged_in, key["key"])

    async def expired() -> bool:
        return (await logged_in.get("/api/events")).status_code == 401

    await eventually(expired, "the key has expired")
    assert (await logged_in.get(SESSION)).json() == NOBODY


async def test_a_cookie_that_is_not_good_locks_nobody_out(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    async with serve(settings, api_key=KEY, page_directory=tmp_path) as client:
        for bad in ("wrong", "", "%", "%ff", "\xe9"):
            headers = {b"Cookie": f"a=b; {NAME}={bad}".encode("latin-1")}

            assert (await client.get("/", headers=headers)).status_code == 200
            assert (await client.get("/livez", headers=headers)).status_code == 200
            assert (await client.get(SESSION, headers=headers)).json() == NOBODY
            assert outcome(await client.get("/api/events", headers=headers)) == (401, "unauthorized")
            basic = {b"Authorization": b"Basic " + base64.b64encode(f"u:{KEY}".encode())}
            assert (await client.get("/openapi.json", headers=headers | basic)).status_code == 200
            begun = await client.post(SESSION, json={"key": KEY}, headers=headers)
            assert begun.status_code == 200
            client.cookies.clear()
            assert (await client.delete(SESSION, headers=headers)).status_code == 204


async def test_while_it_cannot_be_told_nobody_is_sent_to_log_in(settings: Settings, serve: Serve) -> None:
    async with serve(settings, database_url="postgresql://brain@/x?host=/nowhere") as client:
        answer = await client.get(SESSION)

        assert outcome(answer) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"


# -- pages of others


async def test_a_session_changes_things_for_the_collectors_own_page_alone(logged_in: httpx.AsyncClient) -> None:
    created = (await logged_in.post("/api/events", json=event(), headers=own(logged_in))).json()
    url = f"/api/events/{created['id']}"
    changes: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/api/events", event()),
        ("PUT", url, {"message": "changed"}),
        ("POST", "/api/keys", {"name": "n", "scopes": ["admin"]}),
        ("DELETE", "/api/rejections", None),
        ("DELETE", url, None),
    ]
    for origin in [*foreign(logged_in), {}]:
        for method, path, body in changes:
            answer = await logged_in.request(method, path, json=body, headers=origin)
            assert outcome(answer) == (403, "origin_refused"), (origin, method, path)
            assert "access-control-allow-origin" not in answer.headers
    assert (await logged_in.get(url)).json()["message"] == "m"
    assert len((await logged_in.get("/api/keys")).json()) == 0

    done = [await logged_in.request(method, path, json=body, headers=own(logged_in)) for method, path, body in changes]
    assert [answer.status_code for answer in done] == [201, 200, 201, 200, 204]


async def test_no_page_of_others_begins_or_ends_a_session(locked: httpx.AsyncClient) -> None:
    for origin in foreign(locked):
        answer = await locked.post(SESSION, json={"key": KEY}, headers=origin)
        assert outcome(answer) == (403, "origin_refused"), origin
        assert "set-cookie" not in answer.headers
        answer = await locked.delete(SESSION, headers=origin)
        assert outcome(answer) == (403, "origin_refused"), origin
        assert "set-cookie" not in answer.headers


async def test_what_the_browser_says_is_of_another_site_is_refused(logged_in: httpx.AsyncClient) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("", 403), ("same-origin", 201), ("none", 201)):
        headers = own(logged_in) | {"Sec-Fetch-Site": site}
        answers = [
            await logged_in.post("/api/events", json=event(), headers=headers),
            await logged_in.post(SESSION, json={"key": KEY}, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [status, 200 if status == 201 else 403], site
        bearer = headers | {"Authorization": f"Bearer {KEY}"}
        assert (await logged_in.post("/api/events", json=event(), headers=bearer)).status_code == 201
        assert (await logged_in.get("/api/events", headers=headers)).status_code == 200
    assert outcome(await logged_in.delete(SESSION, headers={"Sec-Fetch-Site": "cross-site"})) == (403, "origin_refused")


@pytest.mark.parametrize(("began", "other"), [("http", "https"), ("https", "http")])
async def test_a_page_of_another_scheme_does_not_use_a_session(
    locked: httpx.AsyncClient, began: str, other: str
) -> None:
    headers = {"Host": "events.example", "Origin": f"{began}://events.example"}
    begun = await locked.post(SESSION, json={"key": KEY}, headers=headers)
    headers["Cookie"] = begun.headers["set-cookie"].partition(";")[0]

    assert (await locked.post("/api/events", json=event(), headers=headers)).status_code == 201
    answer = await locked.post("/api/events", json=event(), headers=headers | {"Origin": f"{other}://events.example"})
    assert outcome(answer) == (403, "origin_refused")
    assert f"the session began on a page of {began}" in answer.json()["detail"]


async def test_reading_by_a_session_needs_no_origin(logged_in: httpx.AsyncClient) -> None:
    """SameSite keeps the cookie from other sites' requests, and no answer lets another origin read it."""
    for origin in [{}, own(logged_in), {"Origin": "https://evil.example"}]:
        answer = await logged_in.get("/api/events", headers=origin)
        assert answer.status_code == 200
        assert [name for name in answer.headers if name.startswith("access-control")] == []


async def test_a_bearer_key_is_good_from_everywhere(logged_in: httpx.AsyncClient) -> None:
    key = await made(logged_in, "ingest")
    for cookies in ({}, {NAME: "wrong"}):
        logged_in.cookies = httpx.Cookies(cookies)
        logged_in.headers["Authorization"] = f"Bearer {key['key']}"
        for origin in [*foreign(logged_in), {}]:
            assert (await logged_in.post("/api/events", json=event(), headers=origin)).status_code == 201


async def test_a_wrong_bearer_key_is_not_made_good_by_a_session(logged_in: httpx.AsyncClient) -> None:
    for authorization in ("Bearer wrong", "Bearer", "Token x", ""):
        answer = await logged_in.get("/api/events", headers={"Authorization": authorization})
        assert outcome(answer) == (401, "unauthorized"), authorization


async def test_a_session_writes_beside_a_remembered_password(logged_in: httpx.AsyncClient) -> None:
    """A browser that has read `/docs` with Basic credentials sends them along from then on."""
    for password in (KEY, "wrong"):
        logged_in.headers["Authorization"] = "Basic " + base64.b64encode(f"u:{password}".encode()).decode()
        logged_in.headers.update(own(logged_in))
        await create(logged_in)
        assert (await logged_in.get("/api/events")).status_code == 200


async def test_no_key_is_in_the_log(
    settings: Settings, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    plain = "a-bootstrap-key"
    async with serve(settings, api_key=plain) as client:
        assert (await log_in(client, "a-wrong-key")).status_code == 401
        assert (await log_in(client, plain)).status_code == 200
        assert (await client.get("/api/events")).status_code == 200

    own_records = [record for record in caplog.records if not record.name.startswith("http")]  # not the client's
    said = "\n".join(f"{record.getMessage()} {vars(record)}" for record in own_records) + "".join(capfd.readouterr())
    assert "request" in said
    assert "a-wrong-key" not in said
    assert plain not in said
