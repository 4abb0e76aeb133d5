"""A real HTTP server on loopback that answers as the collector does, or as it is told to."""

import gzip
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from brain_events.wire import BATCH_PATH, BatchAnswer, Event

Script = tuple[int, dict[str, str], bytes]


class Request(msgspec.Struct):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def events(self) -> list[Event]:
        plain = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return [msgspec.json.decode(line, type=Event) for line in plain.splitlines()]


class Sink(ThreadingHTTPServer):
    """Stores each key once. `answers`, then `always`, come first: what to say, or "store and hang up", or "hang"."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.connections: set[object] = set()
        self.requests: list[Request] = []
        self.stored: dict[str, Request] = {}
        self.answers: deque[Script | str] = deque()
        self.always: Script | str | None = None
        self.answer_to: Callable[[Request], Script | None] = lambda _: None
        self.max_events: int | None = None
        self.guard = threading.Lock()
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def events(self) -> list[Event]:
        with self.guard:
            return [event for request in self.stored.values() for event in request.events]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        with self.server.guard:
            self.server.connections.add(self.client_address)
            self.server.requests.append(request)
            script = self.server.answers.popleft() if self.server.answers else self.server.always
            script = self.server.answer_to(request) or script
            if script is None or script == "store and hang up":
                answer = self.take(request)
        if isinstance(script, str):
            self.close_connection = True
            if script == "hang":
                self.server.stopping.wait()
            return
        self.answer(*(script or answer))

    def do_GET(self) -> None:
        if isinstance(self.server.always, tuple):
            self.answer(*self.server.always)
        else:
            self.send_error(501)

    def take(self, request: Request) -> Script:
        if request.path != BATCH_PATH:
            return problem(404, "not_found")
        count = len(request.events)
        if self.server.max_events is not None and count > self.server.max_events:
            return problem(413, "body_too_large")
        duplicate = request.key in self.server.stored
        self.server.stored[request.key] = request
        receipt = BatchAnswer(count, count, 0, duplicate, [], errors_truncated=False)
        return 200, {"Content-Type": "application/json"}, msgspec.json.encode(receipt)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def problem(status: int, code: str, **headers: str) -> Script:
    body = msgspec.json.encode({"title": code, "status": status, "code": code, "detail": f"told to say {code}"})
    return status, {"Content-Type": "application/problem+json", **headers}, body


@contextmanager
def serve() -> Iterator[Sink]:
    sink = Sink()
    thread = threading.Thread(target=sink.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.stopping.set()
        sink.shutdown()
        sink.server_close()
        thread.join()
