"""Delivery over HTTP: a sealed batch goes in, one POST goes out, its `Answer` comes back. The only user of urllib3.

Imported by `Client()` on the caller's thread: a child forked while another thread imports urllib3 would hang.
"""

import io
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from socket import socket
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from brain_events._batch import Batch
from brain_events._transport import Answer
from brain_events.config import Config
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON

CONNECT_TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 1024 * 1024
RETRY_AFTER_CAP_S = 3600.0  # a slip of a server's clock must not silence us for days


class HTTPTransport:
    """Posts to `{url}/api/events/batch` over one kept-alive connection; never retries, never follows a redirect."""

    def __init__(self, config: Config) -> None:
        self._pool = urllib3.connection_from_url(config.url, maxsize=1, block=False)
        self._pool.ConnectionCls = _HTTPSConnection if config.url.startswith("https") else _HTTPConnection
        self._path = urllib3.util.parse_url(config.url.rstrip("/") + BATCH_PATH).request_uri
        self._headers = {"Content-Type": NDJSON, "Accept": "application/json"}
        if config.api_key:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    def send(self, batch: Batch, timeout_s: float) -> Answer:
        headers = self._headers | {KEY_HEADER: str(batch.key)}
        if batch.gzipped:
            headers["Content-Encoding"] = "gzip"
        response = self._pool.urlopen(
            "POST",
            self._path,
            body=batch.body,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=urllib3.Timeout(total=timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            preload_content=False,
        )
        try:
            body = response.read(MAX_ANSWER_BYTES)
        except BaseException:
            response.close()
            raise
        if response.length_remaining:  # a page of some size that is not ours: do not read it to its end
            response.close()
        response.release_conn()
        return Answer(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            body=body,
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
        )

    def close(self) -> None:
        self._pool.close()


def retry_after_s(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); 0 for none or nonsense."""
    if header is None:
        return 0.0
    try:
        moment = None if header.strip().isdecimal() else parsedate_to_datetime(header)
        seconds = float(header) if moment is None else moment.timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a wall-clock deadline; a socket's own timeout starts anew with each byte that drips in."""

    def __init__(self, sock: socket, timeout_s: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(remaining_s)
        return self._raw.readinto(into)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(HTTPResponse):
    """A response that must be complete, head and body, within the timeout its socket has when it begins."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock, sock.gettimeout() or CONNECT_TIMEOUT_S))


class _HTTPConnection(HTTPConnection):
    response_class = _DeadlineResponse


class _HTTPSConnection(HTTPSConnection):
    response_class = _DeadlineResponse
