"""The dashboard: which files of a build are served, with which access, and what a browser may cache."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

INDEX = (
    '<!doctype html><title>brain-events</title><link rel="stylesheet" href="./assets/index-B2.css">'
    '<script type="module" src="./assets/index-A1.js"></script>'
)
DOCS = '<!doctype html><title>the API</title><script type="module" src="./assets/docs-D4.js"></script>'
SCRIPT = "console.log('brain-events');\n" * 100
IMMUTABLE = "public, max-age=31536000, immutable"
SECRET = "only-in-the-package"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A directory as Vite leaves it, with files beside it that nobody may get."""
    (tmp_path / "secret.txt").write_text(SECRET)
    directory = tmp_path / "dashboard"
    (directory / "assets" / "deeper").mkdir(parents=True)
    (directory / "index.html").write_text(INDEX)
    (directory / "docs.html").write_text(DOCS)
    (directory / "built-from").write_text(SECRET)
    (directory / "assets" / "index-A1.js").write_text(SCRIPT)
    (directory / "assets" / "index-B2.css").write_text("body { margin: 0 }")
    (directory / "assets" / "docs-D4.js").write_text(SCRIPT)
    (directory / "assets" / "icon-C3.svg").write_text("<svg/>")
    (directory / "assets" / "deeper" / "x.js").write_text(SECRET)
    return directory


@pytest.fixture
async def locked(settings: Settings, serve: Serve, build: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key of a collector with one, and with a page."""
    async with serve(settings, api_key="s3cret-key", page_directory=build) as client:
        yield client


async def raw(client: httpx.AsyncClient, path: str) -> bytes:
    """Return the answer to a path that no client library has put in order."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_page_needs_no_key_and_everything_else_does(locked: httpx.AsyncClient) -> None:
    page = await locked.get("/")
    found = {path: await locked.get(path) for path in re.findall(r'(?:src|href)="\.(.*?)"', page.text)}

    assert (page.status_code, page.text) == (200, INDEX)
    assert {path: answer.status_code for path, answer in found.items()} == {
        "/assets/index-B2.css": 200,
        "/assets/index-A1.js": 200,
    }
    for path in ("/index.html", "/assets", "/assets/", "/docs", "/openapi.json", "/api/events", "/metrics", "/x"):
        assert (await locked.get(path)).status_code == 401, path
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await locked.request(method, "/")).status_code == 401
        assert (await locked.request(method, "/assets/index-A1.js")).status_code == 401


async def test_the_page_answers_to_the_collectors_host_names_alone(
    settings: Settings, serve: Serve, build: Path
) -> None:
    async with serve(settings, page_directory=build) as client:
        for path in ("/", "/assets/index-A1.js"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (400, "host_refused")


async def test_files_have_their_types_and_their_policy(locked: httpx.AsyncClient) -> None:
    types = {
        "/": "text/html; charset=utf-8",
        "/assets/index-A1.js": "text/javascript; charset=utf-8",
        "/assets/index-B2.css": "text/css; charset=utf-8",
        "/assets/icon-C3.svg": "image/svg+xml",
    }
    for path, media_type in types.items():
        answer = await locked.get(path)
        rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))

        assert answer.headers["content-type"] == media_type
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert rules == {
            **dict.fromkeys(("default-src", "script-src", "style-src", "connect-src", "form-action"), "'self'"),
            **dict.fromkeys(("object-src", "frame-ancestors", "base-uri"), "'none'"),
            "img-src": "'self' data:",
        }


async def test_the_docs_need_a_key_and_have_a_policy_of_their_own(locked: httpx.AsyncClient) -> None:
    answer = await locked.get("/docs", headers={"Authorization": "Bearer s3cret-key"})
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))

    assert (answer.status_code, answer.text) == (200, DOCS)
    assert (await locked.get("/assets/docs-D4.js")).status_code == 200
    assert (await locked.get("/assets/docs.html")).status_code == 404
    assert rules == {
        **dict.fromkeys(("default-src", "frame-ancestors", "base-uri", "form-action"), "'none'"),
        **dict.fromkeys(("script-src", "connect-src"), "'self'"),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
    }


async def test_the_page_is_asked_for_each_time_and_its_files_are_kept(locked: httpx.AsyncClient) -> None:
    page, script = await locked.get("/"), await locked.get("/assets/index-A1.js")
    assert page.headers["cache-control"] == "no-cache"
    assert script.headers["cache-control"] == IMMUTABLE

    for answer in (page, script):
        again = await locked.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]
        assert again.headers["cache-control"] == answer.headers["cache-control"]
        changed = await locked.get(answer.url, headers={"If-None-Match": '"another"'})
        assert changed.content == answer.content
    assert page.headers["etag"] != script.headers["etag"]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("br", False), ("gzip;q=0", False), ("identity", False), ("", False)],
)
async def test_files_come_packed_to_who_takes_it(locked: httpx.AsyncClient, accepted: str, packed: bool) -> None:  # noqa: FBT001
    async with locked.stream("GET", "/assets/index-A1.js", headers={"Accept-Encoding": accepted}) as answer:
        content = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(content) if packed else content) == SCRIPT.encode()
    assert int(answer.headers["content-length"]) == len(content)


async def test_head_is_get_without_the_body(locked: httpx.AsyncClient) -> None:
    for path in ("/", "/assets/index-A1.js"):
        get, head = await locked.get(path), await locked.head(path)

        assert head.content == b""
        assert {**head.headers, "x-request-id": ""} == {**get.headers, "x-request-id": ""} | {
            "date": head.headers["date"]
        }


async def test_no_path_leads_to_another_file(locked: httpx.AsyncClient) -> None:
    for path in (
        "/assets/../built-from",
        "/assets/..%2fbuilt-from",
        "/assets/%2e%2e/built-from",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/..%252f..%252fsecret.txt",
        "/assets//etc/passwd",
        "/assets/%2fetc%2fpasswd",
        "/assets/index-A1.js%00",
        "/assets/index-A1.js/",
        "/assets/index-A1.js/../../built-from",
        "/assets/deeper/x.js",
        "/assets/deeper",
        "/assets/index.html",
        "/assets/.",
        "/assets/..",
        "/../secret.txt",
        "//secret.txt",
        "/built-from",
        "/dashboard/index.html",
    ):
        answer = await raw(locked, path)
        assert answer.split(b" ", 2)[1] in {b"401", b"404"}, path
        assert b"application/problem+json" in answer, path
        assert SECRET.encode() not in answer
        assert b"root:" not in answer


async def test_a_file_that_is_not_there_is_a_problem_also_without_a_key(locked: httpx.AsyncClient) -> None:
    """A browser that still has the page of an earlier version must not be asked for a password."""
    answer = await locked.get("/assets/index-OLD.js")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "www-authenticate" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_behind_a_prefix_the_page_asks_for_neighbours_only(locked: httpx.AsyncClient) -> None:
    page = httpx.URL("https://events.example/brain/")
    asked = [page.join(path).path for path in re.findall(r'(?:src|href)="(.*?)"', (await locked.get("/")).text)]

    assert asked == ["/brain/assets/index-B2.css", "/brain/assets/index-A1.js"]


async def test_without_a_build_the_page_says_so(settings: Settings, serve: Serve, tmp_path: Path) -> None:
    directory = tmp_path / "<none>"
    async with serve(settings, api_key="s3cret-key", page_directory=directory) as client:
        answer = await client.get("/")
        assert answer.status_code == 503
        assert answer.headers["content-type"].startswith("text/html")
        assert "installed without its dashboard" in answer.text
        assert "npm run build" in answer.text
        assert '<a href="openapi.json">' in answer.text
        assert f"{tmp_path}/&lt;none&gt;" in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.get("/assets/index-A1.js")).status_code == 404
        assert (await client.get("/livez")).status_code == 200
