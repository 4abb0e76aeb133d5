"""Request ids: the client's if it is safe to log, else a new one; in every response, in errors, and in the log."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from brain_collector import logs
from brain_collector.http.request_log import MAX_PATH_CHARS
from brain_collector.metrics import Metrics
from brain_collector.server.app import create_app
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

SERVE = (sys.executable, "-m", "brain_collector", "serve", "--port", "0", "--redis-url", "none")
KEY = "k" * 40
NEW = re.compile(r"[0-9a-f]{32}")


async def test_an_id_that_is_fit_to_be_logged_is_kept(collector: httpx.AsyncClient) -> None:
    for given in ("a", "Ab.9_-z", "x" * 64):
        answer = await collector.get("/livez", headers={"X-Request-ID": given})

        assert answer.headers.get_list("x-request-id") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "é", 'a"b', "a,b"])
async def test_any_other_id_is_replaced(collector: httpx.AsyncClient, given: str) -> None:
    answer = await collector.get("/livez", headers=[(b"X-Request-ID", given.encode())])

    assert NEW.fullmatch(answer.headers["x-request-id"])


async def test_every_answer_has_an_id_and_every_error_repeats_it(settings: Settings, serve: Serve) -> None:
    async with serve(settings, api_key="secret") as client:
        key = {"Authorization": "Bearer secret"}
        answers = [
            await client.get("/api/events"),
            await client.get("/livez", headers={"Host": "elsewhere"}),
            await client.get("/no/such/path", headers=key),
            await client.post("/api/events", headers=key, content=b"{"),
            await client.get("/api/events/7", headers=key),
            await client.get("/api/events", headers=key),
        ]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    for answer, request_id in zip(answers, ids, strict=True):
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == request_id


async def test_a_fault_of_ours_is_answered_with_the_id_that_its_log_line_has(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def crash(_request: Request) -> Response:
        raise RuntimeError("a fault\r\nforged")

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    app = create_app(Settings(api_key=KEY), Metrics())  # a key that is known without a database
    app.add_route("/crash/{rest}", crash)
    try:
        logs.configure("json")
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            given = {"X-Request-ID": "r-1", "Authorization": f"Bearer {KEY}"}
            answer = await client.get("/crash/a%0d%0aforged", headers=given)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "r-1"
    (line,) = capfd.readouterr().err.splitlines()
    logged = json.loads(line)
    assert logged["request_id"] == "r-1"
    assert "a fault\r\nforged" in logged["exception"]


async def test_the_command_logs_a_request_as_one_line_of_json(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*SERVE, "--database-url", settings.dsn],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "BRAIN_COLLECTOR_LOG_LEVEL": "info"},
        )
        try:
            assert process.stdout is not None
            found = re.search(r"serves at (http://\S+)", process.stdout.readline())
            assert found is not None
            answer = httpx.get(
                f"{found[1]}/x%0d%0aforged{'%0a' * 10_000}", headers={"X-Request-ID": "r-9"}, timeout=PATIENCE_S
            )
            assert answer.status_code == 404
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            assert process.stdout is not None
            process.stdout.close()

    records = [msgspec.json.decode(line) for line in log.read_text().splitlines()]
    (request,) = [record for record in records if record.get("request_id") == "r-9"]
    assert (request["event"], request["status"]) == ("request", "404")
    assert request["path"] == "/x\r\nforged".ljust(MAX_PATH_CHARS, "\n")
