"""A server that is hostile, or no collector: no command lets its words control the terminal or begin a line."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from brain_collector.cli.main import COMMANDS, cli
from tests.support.collector import on_terminal
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio

ATTACK = "d\x1b]0;PWN\x07\x1b[31m\x9b31m\u202e\u2028\r\nError: forged"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]")
MOMENT = "2026-01-02T03:04:05Z"
EVENT = {
    "id": 1, "event_type": ATTACK, "severity": ATTACK, "message": ATTACK, "details": {ATTACK: ATTACK, "n": [ATTACK]},
    "source": ATTACK, "timestamp": MOMENT, "created_at": MOMENT,
}  # fmt: skip
KEY = {
    "id": 1, "prefix": ATTACK, "scopes": [ATTACK], "name": ATTACK, "created_at": MOMENT, "expires_at": None,
    "last_used_at": None, "revoked_at": None, "key": ATTACK,
}  # fmt: skip
STATS = {
    "total_events": 1, "recent_events": 1, "last_event_timestamp": ATTACK,
    "events_by_severity": {ATTACK: 1}, "events_by_type": {ATTACK: 1},
}  # fmt: skip
HISTOGRAM = {
    "from": MOMENT, "to": MOMENT, "step_s": 60, "starts": [MOMENT], "by": ATTACK, "total": 1, "partial": True,
    "counted_from": MOMENT, "series": [{"value": ATTACK, "counts": [1], "total": 1}],
    "other": {"counts": [0], "total": 0, "values": 0},
}  # fmt: skip
BATCH = {
    "received": 1, "accepted": 0, "rejected": 1, "duplicate": False, "errors_truncated": False,
    "errors": [{"index": 0, "code": ATTACK, "detail": ATTACK}],
}  # fmt: skip
PROBLEM: dict[str, Any] = {"title": ATTACK, "status": 422, "code": ATTACK, "detail": ATTACK, "request_id": ATTACK}
PROBLEM["errors"] = [{"pointer": ATTACK, "code": ATTACK, "detail": ATTACK}]

COMMAND_LINES = {
    "send": [["t", "info", "m"]],
    "query": [[], ["--json"], ["--output", "csv"]],
    "tail": [[], ["--json"], ["--template", "{severity} {details.n}"], ["--fields", "severity,source"]],
    "get": [["1"], ["1", "--json"]],
    "stats": [[], ["--json"]],
    "histogram": [[], ["--json"]],
    "export": [[], ["--format", "csv"]],
    "import": [["-"]],
    "keys": [["list"], ["list", "--json"], ["create", "n", "--scope", "read"], ["revoke", "1"]],
    "sample": [["1"]],
    "bench": [["--seconds", "0.1", "--clients", "1", "--batch", "1"]],
}
NO_CLIENTS = {"serve", "doctor", "migrate", "with-postgres", "config", "demo", "completion"}
CASES = [(name, line) for name, lines in COMMAND_LINES.items() for line in lines]


def document(method: str, path: str) -> Any:
    """Return the answer of a collector to a request, with the attack in every text."""
    path = path.partition("?")[0]
    fixed = {"/api/events/stats": STATS, "/api/events/histogram": HISTOGRAM, "/api/events/batch": BATCH}
    if path in fixed:
        return fixed[path]
    if path == "/api/keys":
        return KEY if method == "POST" else [KEY]
    return [EVENT] if (method, path) == ("GET", "/api/events") else EVENT


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.server.answer_to(self.command, self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/api/events/export") and status == 200:
            body = b"" if "after=" in self.path else body + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names of the base class

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(answer_to: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer_to = answer_to  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def of_a_collector(method: str, path: str) -> tuple[int, bytes]:
    return 200, json.dumps(document(method, path), ensure_ascii=False).encode()


def refusing(_method: str, _path: str) -> tuple[int, bytes]:
    return 422, json.dumps(PROBLEM, ensure_ascii=False).encode()


def of_no_collector(_method: str, _path: str) -> tuple[int, bytes]:
    return 200, ATTACK.encode()


def refusing_in_plain_text(_method: str, _path: str) -> tuple[int, bytes]:
    return 400, ATTACK.encode()


SERVERS = [of_a_collector, refusing, of_no_collector, refusing_in_plain_text]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda answer_to: answer_to.__name__)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with serving(request.param) as found:
        yield found


def test_every_command_that_talks_to_a_server_is_tried() -> None:
    assert set(COMMAND_LINES) == set(COMMANDS) - NO_CLIENTS


@pytest.mark.parametrize(("name", "line"), CASES, ids=[" ".join([name, *line]) for name, line in CASES])
def test_no_command_prints_a_control_character_of_a_server_or_crashes(url: str, name: str, line: list[str]) -> None:
    done = CliRunner().invoke(
        cli, [name, *line, "--url", url, "--timeout-s", str(PATIENCE_S)], input='{"event_type": "t"}\n'
    )
    shown = done.output.replace("\t", "") if "--fields" in line else done.output

    assert isinstance(done.exception, SystemExit | None), done.exception
    if "csv" not in line and name != "export":  # files for other programs are as they are, unless a terminal reads them
        assert CONTROL.findall(shown) == []
        assert not [text for text in shown.splitlines() if text.startswith("Error: forged")]


@pytest.mark.parametrize(
    "line", [["send", "t", "info", "m"], ["keys", "list"], ["query", "--color", "never"], ["export", "--format", "csv"]]
)
async def test_a_terminal_gets_no_sequence_of_a_server(url: str, line: list[str]) -> None:
    _, shown = await on_terminal(*line, "--url", url, stdout=True)

    assert CONTROL.findall(shown.replace("\r\n", "\n")) == []
