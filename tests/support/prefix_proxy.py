"""A proxy that has the collector below a path of its own, as operators have; it passes on what comes as it comes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.support.waiting import PATIENCE_S

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@contextmanager
def below(prefix: str, upstream: str) -> Iterator[str]:
    """Serve the collector at `upstream` below the prefix; yields the new address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            try:
                with httpx.stream(
                    "GET", upstream + self.path.removeprefix(prefix), headers=headers, timeout=PATIENCE_S
                ) as got:
                    self.send_response(got.status_code)
                    for name, value in got.headers.items():
                        if name not in HOP_BY_HOP:
                            self.send_header(name, value)
                    self.end_headers()
                    for chunk in got.iter_raw():
                        self.wfile.write(chunk)
            except (httpx.HTTPError, OSError):
                self.close_connection = True  # one of the two has left

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # a stream ends with its client, or with the collector
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
