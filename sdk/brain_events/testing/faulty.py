"""A collector that fails on request, to test how an application copes. It listens on loopback and stores in memory.

For example::

    with FaultyCollector("hang") as collector:
        brain_events.init(collector.url, spool_dir=None)
        ...
        collector.fault = None                      # it works again
    assert len(collector.events) == 3

Or as a separate process: `python -m brain_events.testing.faulty hang --port 8001`.
"""

import argparse
import gzip
import json
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from brain_events.testing import FAULTY_URLS
from brain_events.wire import BATCH_PATH, KEY_HEADER, BatchAnswer, Event

FAULTS: Final = {
    "refuse": "refuses connections",
    "hang": "accepts the request, never responds",
    "drip": "responds with one byte every 0.2 s",
    "cut": "stores the batch, then closes the connection without a response",
    "busy": "responds with 429 and Retry-After",
    "garbage": "responds with bytes that are not HTTP",
    "page": "responds with 200 and an HTML page, as a captive portal does",
    "unauthorized": "responds with 401, as for a wrong API key",
    "error": "responds with 500",
}
"""Each fault by name, and what the collector does then."""

DRIP_S = 0.2

_Script = tuple[int, dict[str, str], bytes]


class FaultyCollector:
    """Stores events as a collector does, each batch once, and fails on request. Use it as a context manager.

    Args:
        fault: One of `FAULTS`, or None to work without a fault. The attribute `fault` can be set at any time.
        port: The port to listen on, on 127.0.0.1; 0 means a free one.
        retry_after_s: The Retry-After of the fault `busy`, in seconds.
    """

    def __init__(self, fault: str | None = None, *, port: int = 0, retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        self.requests = 0
        """Number of requests, GET and failed ones included."""
        self.tell: Callable[[str], object] = lambda _line: None
        """Called with one line about each request."""
        self._stored: dict[str, list[Event]] = {}
        self._next: deque[str] = deque()
        self._guard = threading.Lock()
        self._port = port
        self._server: _Server | None = None
        self._fault = _checked(fault)

    @property
    def url(self) -> str:
        """Its address, inside the `with` block."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def events(self) -> list[Event]:
        """Every stored event, in the order of the batches."""
        with self._guard:
            return [event for events in self._stored.values() for event in events]

    @property
    def batches(self) -> int:
        """Number of stored batches."""
        return len(self._stored)

    @property
    def fault(self) -> str | None:
        """The current fault."""
        return self._fault

    @fault.setter
    def fault(self, fault: str | None) -> None:
        self._fault = _checked(fault)
        if fault == "refuse":
            self._stop()
        elif self._server is None:
            self._start()

    def once(self, *faults: str) -> None:
        """Fail the next requests, one fault for each, before `fault` applies again.

        Args:
            faults: Names of `FAULTS`, except `refuse`.
        """
        if "refuse" in faults:
            raise ValueError("refuse applies to connections, not to requests; set `fault` instead")
        self._next.extend(fault for fault in faults if _checked(fault))

    def __enter__(self) -> Self:
        self._start()
        FAULTY_URLS.add(self.url)
        self.fault = self._fault
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        FAULTY_URLS.discard(self.url)
        self._stop()

    def judge(self) -> str | None:
        """Count a request, and return its fault."""
        with self._guard:
            self.requests += 1
            return self._next.popleft() if self._next else self._fault

    def take(self, key: str, events: list[Event]) -> bool:
        """Store a batch; return whether it was stored before."""
        with self._guard:
            duplicate = key in self._stored
            self._stored.setdefault(key, events)
        return duplicate

    def _start(self) -> None:
        self._server = _Server(self._port, self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="faulty-collector", daemon=True).start()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut_connections()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, collector: FaultyCollector) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.collector = collector
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """Close every open connection."""
        self.stopping.set()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        answers = {"/livez": {"status": "alive"}, "/readyz": {"status": "ready", "reasons": []}, "/api/events": []}
        content = answers.get(self.path.partition("?")[0])
        self._respond(lambda: _problem(404, "not_found") if content is None else _json(200, content), "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._respond(lambda: self._take(body), self.headers.get(KEY_HEADER, ""))

    def log_message(self, *_: Any) -> None: ...

    def _take(self, body: bytes) -> _Script:
        if self.path != BATCH_PATH:
            return _problem(404, "not_found")
        try:
            plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            events = [msgspec.json.decode(line, type=Event) for line in plain.splitlines()]
        except (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError):
            return _problem(400, "body_undecodable")
        duplicate = self.server.collector.take(self.headers.get(KEY_HEADER, ""), events)
        receipt = BatchAnswer(len(events), len(events), 0, duplicate, [], errors_truncated=False)
        return _json(200, msgspec.to_builtins(receipt))

    def _respond(self, respond_well: Callable[[], _Script], key: str) -> None:
        """Respond to the request, or fail as the current fault says."""
        collector = self.server.collector
        fault = collector.judge()
        collector.tell(f"{self.command} {self.path} {key} {fault or 'well'}".replace("  ", " "))
        if fault in {"hang", "garbage", "cut", "refuse"}:
            self.close_connection = True
        match fault:
            case "hang":
                self.server.stopping.wait()
            case "garbage":
                self.wfile.write(bytes(range(256)) * 4)
            case "cut":
                respond_well()
            case "busy":
                self._send(*_problem(429, "too_many_requests", **{"Retry-After": str(collector.retry_after_s)}))
            case "page":
                self._send(200, {"Content-Type": "text/html"}, b"<html><body>Please log in</body></html>")
            case "unauthorized":
                self._send(*_problem(401, "unauthorized"))
            case "error":
                self._send(*_problem(500, "internal_error"))
            case "drip" | None:
                self._send(*respond_well(), drip=fault == "drip")

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, drip: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        for position in range(len(body) if drip else 0):
            self.wfile.write(body[position : position + 1])
            if self.server.stopping.wait(DRIP_S):
                return
        self.wfile.write(b"" if drip else body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a faulty collector until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m brain_events.testing.faulty", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("fault", nargs="?", choices=[*FAULTS, "none"], default="none", help="the fault (default: none)")
    parser.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--retry-after", type=int, default=1, metavar="S", help="the Retry-After of `busy` (default: 1)"
    )
    options = parser.parse_args(arguments)
    fault = None if options.fault == "none" else options.fault
    with FaultyCollector(fault, port=options.port, retry_after_s=options.retry_after) as collector:
        collector.tell = _say
        _say(f"{collector.url} {FAULTS.get(options.fault, 'accepts events')}; press Ctrl-C to stop")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
    _say(f"{collector.requests} requests, {collector.batches} batches, {len(collector.events)} events stored")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- a command


def _checked(fault: str | None) -> str | None:
    if fault is not None and fault not in FAULTS:
        raise ValueError(f"fault is {fault!r}; use one of {', '.join(FAULTS)}, or None")
    return fault


def _json(status: int, content: object) -> _Script:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _problem(status: int, code: str, **headers: str) -> _Script:
    body = {
        "type": "about:blank",
        "title": code,
        "status": status,
        "code": code,
        "detail": f"the faulty collector responds with {code}",
    }
    return status, {"Content-Type": "application/problem+json", **headers}, json.dumps(body).encode()


if __name__ == "__main__":
    raise SystemExit(main())
