"""The manual: which files of a build are served, under which policy, and what happens where it was not built."""

import asyncio
import base64
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from brain_collector.api.manual import STAMP
from brain_collector.settings import Settings
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

SCRIPT = 'document.body.dataset.theme = localStorage.getItem("theme") || "auto";'
INDEX = (
    '<!doctype html><title>brain-events</title><link rel="stylesheet" href="_static/furo.css?v=1">'
    f'<body><script>{SCRIPT}</script><a href="reference/index.html">r</a><script src="_static/furo.js"></script>'
)
SETTINGS = '<!doctype html><title>Configuration</title><link rel="stylesheet" href="../_static/furo.css">' + " " * 999
SECRET = "only-in-the-package"
FILES = {
    "": INDEX,
    "index.html": INDEX,
    "reference/": "<title>Reference</title>",
    "reference/index.html": "<title>Reference</title>",
    "reference/configuration.html": SETTINGS,
    "_static/furo.css": "body { margin: 0 }",
    "_static/furo.js": "document.title",
    "_images/dashboard.png": "PNG",
    "searchindex.js": "Search.setIndex({})",
}


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A directory as Sphinx leaves it, with files beside it that nobody may get."""
    (tmp_path / "secret.txt").write_text(SECRET)
    directory = tmp_path / "manual_site"
    for name, content in FILES.items():
        if name and not name.endswith("/"):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    (directory / STAMP).write_text(SECRET)
    return directory


@pytest.fixture
async def locked(settings: Settings, serve: Serve, build: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key of a collector that requires one, and has a manual."""
    async with serve(settings, api_key="s3cret-key", manual_directory=build) as client:
        yield client


async def raw(client: httpx.AsyncClient, path: str) -> bytes:
    """Return the response to a path that no client library has normalised."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_every_file_is_served_without_a_key(locked: httpx.AsyncClient) -> None:
    found = {name: await locked.get(f"/manual/{name}") for name in FILES}

    assert {name: (answer.status_code, answer.text) for name, answer in found.items()} == {
        name: (200, content) for name, content in FILES.items()
    }
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert (await locked.request(method, "/manual/")).status_code == 401


async def test_files_have_their_types(locked: httpx.AsyncClient) -> None:
    types = {name: (await locked.get(f"/manual/{name}")).headers["content-type"] for name in FILES if "." in name}

    assert types == {
        "index.html": "text/html; charset=utf-8",
        "reference/index.html": "text/html; charset=utf-8",
        "reference/configuration.html": "text/html; charset=utf-8",
        "_static/furo.css": "text/css; charset=utf-8",
        "_static/furo.js": "text/javascript; charset=utf-8",
        "_images/dashboard.png": "image/png",
        "searchindex.js": "text/javascript; charset=utf-8",
    }


async def test_only_files_and_the_inline_script_of_the_page_itself_may_run(locked: httpx.AsyncClient) -> None:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    scripts = {"": f"'self' 'sha256-{digest}'", "reference/configuration.html": "'self'", "_static/furo.js": "'self'"}

    for name, allowed in scripts.items():
        headers = (await locked.get(f"/manual/{name}")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; ")) == {
            **dict.fromkeys(("default-src", "frame-ancestors", "base-uri"), "'none'"),
            "script-src": allowed,
            "style-src": "'self' 'unsafe-inline'",
            "img-src": "'self' data:",
            "connect-src": "'self'",
            "form-action": "'self'",
        }


async def test_a_file_is_asked_for_each_time_and_sent_when_it_changed(locked: httpx.AsyncClient) -> None:
    for name in ("", "_static/furo.css"):
        first = await locked.get(f"/manual/{name}")
        again = await locked.get(f"/manual/{name}", headers={"If-None-Match": first.headers["etag"]})
        other = await locked.get(f"/manual/{name}", headers={"If-None-Match": '"another"'})

        assert first.headers["cache-control"] == "no-cache"
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert other.content == first.content


@pytest.mark.parametrize(("accepted", "packed"), [("gzip", True), ("gzip;q=0", False), ("identity", False)])
async def test_text_is_compressed_for_a_client_that_takes_gzip(
    locked: httpx.AsyncClient,
    accepted: str,
    packed: bool,  # noqa: FBT001
) -> None:
    async with locked.stream(
        "GET", "/manual/reference/configuration.html", headers={"Accept-Encoding": accepted}
    ) as answer:
        content = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(content) if packed else content) == SETTINGS.encode()


async def test_head_is_get_without_the_body(locked: httpx.AsyncClient) -> None:
    get, head = await locked.get("/manual/"), await locked.head("/manual/")

    assert head.content == b""
    assert {**head.headers, "x-request-id": "", "date": ""} == {**get.headers, "x-request-id": "", "date": ""}


async def test_the_manual_answers_to_the_collectors_host_names_only(
    settings: Settings, serve: Serve, build: Path
) -> None:
    async with serve(settings, manual_directory=build) as client:
        answer = await client.get("/manual/", headers={"Host": "evil.example"})

    assert (answer.status_code, answer.json()["code"]) == (400, "host_refused")


async def test_the_slash_is_added_below_any_prefix_and_links_stay_below_it(locked: httpx.AsyncClient) -> None:
    opened = httpx.URL("https://events.example/brain/manual")
    answer = await locked.get("/manual", follow_redirects=False)
    page = opened.join(answer.headers["location"])
    linked = [page.join(path).path for path in re.findall(r'(?:src|href)="(.*?)"', (await locked.get("/manual/")).text)]

    assert answer.status_code == 307
    assert page.path == "/brain/manual/"
    assert linked == [
        f"/brain/manual/{name}" for name in ("_static/furo.css", "reference/index.html", "_static/furo.js")
    ]


async def test_no_path_leads_to_another_file(locked: httpx.AsyncClient) -> None:
    for path in (
        f"/manual/{STAMP}",
        f"/manual/reference/../{STAMP}",
        f"/manual/reference/..%2f{STAMP}",
        "/manual/../secret.txt",
        "/manual/..%2fsecret.txt",
        "/manual/%2e%2e/secret.txt",
        "/manual/%2e%2e%2fsecret.txt",
        "/manual/..%5csecret.txt",
        "/manual/..%252fsecret.txt",
        "/manual//etc/passwd",
        "/manual/%2fetc%2fpasswd",
        "/manual/index.html%00",
        "/manual/index.html/",
        "/manual/reference",
        "/manual/reference/nothing/",
        "/manual/_static/",
        "/manual/.",
        "/manual/..",
        "/manualx",
    ):
        answer = await raw(locked, path)
        assert answer.split(b" ", 2)[1] in {b"401", b"404"}, path
        assert b"application/problem+json" in answer, path
        assert SECRET.encode() not in answer
        assert b"root:" not in answer


async def test_a_page_of_another_release_is_not_found_and_asks_for_no_password(locked: httpx.AsyncClient) -> None:
    answer = await locked.get("/manual/reference/gone.html")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "www-authenticate" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/manual", "/manual/", "/manual/reference/configuration.html"])
async def test_without_a_build_the_manual_says_how_to_build_it(
    settings: Settings, serve: Serve, tmp_path: Path, path: str
) -> None:
    async with serve(settings, api_key="s3cret-key", manual_directory=tmp_path / "<none>") as client:
        answer = await client.get(path)
        assert (await client.get("/livez")).status_code == 200

    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("text/html")
    assert "installed without its manual" in answer.text
    assert "BRAIN_EVENTS_SKIP_MANUAL" in answer.text
    assert f"{tmp_path}/&lt;none&gt;" in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
