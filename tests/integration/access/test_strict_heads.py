"""Heads that name their host or their caller in two ways, or in a lenient one, are refused; nothing is redirected."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.http.authority import host_name
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.integration.http.test_limits import assert_refused, exchange, parsed
from tests.support.collector import create, event, outcome

pytestmark = pytest.mark.anyio

KEY = "s3cret-key"
AUTHORIZATION = f"Authorization: Bearer {KEY}\r\n"


def head(host: str, target: str = "/livez", more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize(
    "host",
    [
        "[::1].attacker.example",
        "[127.0.0.1].evil.com:80",
        "[::1",
        "::1",
        "[::1]x",
        "[localhost]",
        "[::1%25lo]",
        "127.0.0.1:evil.com",
        "localhost:80:80",
        "localhost:",
        "localhost:80a",
        "localhost:123456",
        "localhost:\xb2",
        "localhost evil.example",
        "localhost,evil.example",
        "user@localhost",
        "localhost/evil",
        "local%68ost",
        "localhost#",
    ],
)
async def test_a_host_that_is_not_a_name_and_a_port_is_malformed(collector: httpx.AsyncClient, host: str) -> None:
    assert_refused(await exchange(collector, head(host)), 400, "request_malformed")


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1:80", "[::1]", "[::1]:65535"])
async def test_a_strict_host_is_served(collector: httpx.AsyncClient, host: str) -> None:
    assert parsed(await exchange(collector, head(host))).status == 200


@given(st.text(max_size=40))
def test_a_host_name_is_taken_from_one_form_only(text: str) -> None:
    name = host_name(text)

    assert name is None or text.lower() in {name, f"[{name}]"} or text.lower().startswith((f"{name}:", f"[{name}]:"))


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/livez",
        "http://localhost.evil.example/livez",
        "http://user@localhost/livez",
        "http://localhost:80/livez",
        "https://evil.example/livez",
        "http:///livez",
        "ftp://evil.example/livez",
        "ws://localhost/livez",
        "localhost:80",
        "livez",
    ],
)
async def test_a_target_for_another_host_than_the_header_is_malformed(
    collector: httpx.AsyncClient, target: str
) -> None:
    assert_refused(await exchange(collector, head("localhost", target)), 400, "request_malformed")


async def test_a_target_in_absolute_form_for_the_same_host_is_served(collector: httpx.AsyncClient) -> None:
    for host, target in (("localhost", "http://localhost/livez"), ("LOCALHOST:1", "http://localhost:1/livez?")):
        assert parsed(await exchange(collector, head(host, target))).status == 200, target


async def test_two_authorization_headers_are_malformed_whatever_they_contain(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key=KEY) as client:
        for second in (AUTHORIZATION, "Authorization: Bearer wrong\r\n", "authorization:\r\n"):
            for more in (AUTHORIZATION + second, second + AUTHORIZATION):
                sent = head("localhost", "/api/events", more)
                assert_refused(await exchange(client, sent), 400, "request_malformed")
        assert parsed(await exchange(client, head("localhost", "/api/events", AUTHORIZATION))).status == 200


# -- no redirects


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https"}])
async def test_a_path_with_a_slash_too_many_is_not_found_and_nobody_is_sent_elsewhere(
    collector: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    stored = await create(collector)
    paths = ("/api/events/", "/api/events/batch/", "/api/keys/", "/livez/", "/docs/", "/api/events/stats/", "/metrics/")
    for path in (*paths, f"/api/events/{stored['id']}/"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = await collector.request(method, path, json=event(), headers=headers)
            assert outcome(answer) == (404, "not_found"), (method, path)
            assert "location" not in answer.headers


# -- methods


async def test_a_path_that_does_not_support_a_method_says_so_though_another_path_would_match(
    collector: httpx.AsyncClient,
) -> None:
    for name in ("stats", "export", "facets", "histogram", "stream", "ws", "batch"):
        for method in ("PUT", "DELETE", "PATCH"):
            answer = await collector.request(method, f"/api/events/{name}", json={})
            assert outcome(answer) == (405, "method_not_allowed"), (method, name)
            assert set(answer.headers["allow"].split(", ")) == ({"POST"} if name == "batch" else {"GET", "HEAD"})


async def test_a_method_that_an_open_path_does_not_support_needs_no_key_to_be_told_so(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, api_key=KEY) as client:
        for method in ("TRACE", "PUT", "PATCH", "OPTIONS"):
            for path in ("/api/session", "/livez", "/readyz", "/health", "/health/db"):
                assert outcome(await client.request(method, path)) == (405, "method_not_allowed"), (method, path)
            for path in ("/api/events", "/api/events/stats", "/api/keys", "/metrics", "/nowhere"):
                assert outcome(await client.request(method, path)) == (401, "unauthorized"), (method, path)
