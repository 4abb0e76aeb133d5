"""The server of the SDK benchmark, in its own process: receives the batches of every subject and counts the events.

It responds as each protocol expects, or, depending on its mode, with 503, not at all, or only to the first request of a
connection. Events are distinguished by the number `n` in each of them; negative numbers are not counted. The handlers
of the standard library connect to a second port.
"""

import gzip
import json
import pickle
import socketserver
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Numbered(msgspec.Struct):
    n: int = -1


class NdjsonLine(msgspec.Struct):
    details: Numbered = msgspec.field(default_factory=Numbered)


class SentryValue(msgspec.Struct):
    value: Any


class SentryLog(msgspec.Struct):
    attributes: dict[str, SentryValue] = {}


class SentryLogs(msgspec.Struct):
    items: list[SentryLog]


NDJSON = msgspec.json.Decoder(NdjsonLine)
SENTRY = msgspec.json.Decoder(SentryLogs)


class Tally:
    """The events that have arrived since the last `reset`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.mode = "answer"
        self.keys: set[str] = set()
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self.numbers: set[int] = set()
            self.events = self.spans = 0
            self.last_s = 0.0

    def add(self, numbers: Iterable[int], spans: int = 0) -> None:
        counted = [n for n in numbers if n >= 0]
        with self.lock:
            self.events += len(counted)
            self.spans += spans
            self.numbers.update(counted)
            if counted:
                self.last_s = time.monotonic()

    def report(self) -> dict[str, Any]:
        with self.lock:
            unique = len(self.numbers)
            return {
                "delivered": unique,
                "duplicates": self.events - unique,
                "spans": self.spans,
                "last_s": self.last_s,
                "mode": self.mode,
            }

    def is_new(self, key: str) -> bool:
        """Return whether a batch is new, by its idempotency key, as the collector does."""
        with self.lock:
            new = key not in self.keys
            self.keys.add(key)
            return new

    def wait_while_hanging(self) -> bool:
        if self.mode != "hang":
            return False
        while self.mode == "hang":
            time.sleep(0.02)
        return True


TALLY = Tally()


def sentry_numbers(body: bytes) -> Iterator[int]:
    """Read an envelope: https://develop.sentry.dev/sdk/data-model/envelopes/."""
    _, _, rest = body.partition(b"\n")
    while rest.strip():
        head, _, rest = rest.partition(b"\n")
        header = json.loads(head)
        length = header.get("length", rest.find(b"\n"))
        item, rest = rest[:length], rest[length:].lstrip(b"\n")
        if header["type"] == "log":
            yield from (int(log.attributes["n"].value) for log in SENTRY.decode(item).items if "n" in log.attributes)


def otlp_number(attributes: Any) -> int:
    return next((pair.value.int_value for pair in attributes if pair.key == "n"), -1)


def otlp_log_numbers(body: bytes) -> list[int]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: PLC0415 -- the library may not be installed

    request = ExportLogsServiceRequest.FromString(body)
    scopes = [scope for resource in request.resource_logs for scope in resource.scope_logs]
    return [otlp_number(record.attributes) for scope in scopes for record in scope.log_records]


def otlp_span_numbers(body: bytes) -> list[int]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: PLC0415 -- as above

    request = ExportTraceServiceRequest.FromString(body)
    scopes = [scope for resource in request.resource_spans for scope in resource.scope_spans]
    return [otlp_number(span.attributes) for scope in scopes for span in scope.spans]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    is_used = False

    def do_GET(self) -> None:
        self.respond(200, json.dumps(TALLY.report()).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/control/reset":
            TALLY.reset()
        elif self.path.startswith("/control/mode/"):
            TALLY.mode = self.path.rpartition("/")[2]
        elif TALLY.wait_while_hanging() or (TALLY.mode == "stale" and self.is_used):
            self.close_connection = True
            return
        elif TALLY.mode == "refuse":
            self.respond(503, b"", retry_after="1")
            return
        else:
            self.is_used = True
            self.receive_batch(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            return
        self.respond(200, b"{}")

    def receive_batch(self, body: bytes) -> None:
        if self.path == "/api/events/batch":
            lines = body.splitlines()
            new = TALLY.is_new(self.headers["Idempotency-Key"])
            if new:
                TALLY.add([NDJSON.decode(line).details.n for line in lines])
            receipt = {"received": len(lines), "accepted": len(lines), "rejected": 0, "duplicate": not new}
            self.respond(200, json.dumps(receipt | {"errors": [], "errors_truncated": False}).encode())
        elif self.path.endswith("/envelope/"):
            TALLY.add(sentry_numbers(body))
            self.respond(200, b"{}")
        elif self.path == "/v1/logs":
            TALLY.add(otlp_log_numbers(body))
            self.respond(200, b"", "application/x-protobuf")
        elif self.path == "/v1/traces":
            numbers = otlp_span_numbers(body)
            TALLY.add(numbers, spans=len(numbers))
            self.respond(200, b"", "application/x-protobuf")
        else:  # metrics, which are not counted
            self.respond(200, b"", "application/x-protobuf")

    def respond(self, status: int, body: bytes, kind: str = "application/json", retry_after: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class SocketRecords(socketserver.StreamRequestHandler):
    """Receives pickled records, each preceded by its length, as `logging.handlers.SocketHandler` sends them."""

    def handle(self) -> None:
        is_used = False
        while head := self.rfile.read(4):
            if TALLY.wait_while_hanging() or TALLY.mode == "refuse":
                return
            record = pickle.loads(self.rfile.read(int.from_bytes(head)))
            if TALLY.mode == "stale" and is_used:
                return
            is_used = True
            TALLY.add([record.get("n", record.get("extra", {}).get("n", -1))])


class SocketServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: clients that are killed within a record are part of the benchmark."""


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error, as `SocketServer` does."""


def main() -> None:
    http = HttpServer(("127.0.0.1", 0), Handler)
    records = SocketServer(("127.0.0.1", 0), SocketRecords)
    threading.Thread(target=records.serve_forever, daemon=True).start()
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(json.dumps({"http": http.server_address[1], "socket": records.server_address[1]}), flush=True)
    sys.stdin.read()  # until the runner has ended, for whatever reason


if __name__ == "__main__":
    main()
