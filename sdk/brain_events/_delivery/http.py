"""Delivery over HTTP: a sealed batch goes in, one POST goes out, its `Answer` comes back. The only user of urllib3.

Imported by `Client()` on the caller's thread: a child forked while another thread imports urllib3 would hang.
"""

import encodings.idna  # noqa: F401 -- else the worker imports it, to look up its first host name
import io
import socket
import ssl
import threading
import time
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.client import HTTPResponse
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from brain_events._delivery.transport import Answer
from brain_events._queue.batch import Batch
from brain_events.config import Config
from brain_events.errors import ConfigError
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON

CONNECT_TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 1024 * 1024
RETRY_AFTER_CAP_S = 3600.0  # a slip of a server's clock must not silence us for days

_request = threading.local()
"""`deadline`: the monotonic time at which the request of this thread must be over."""


class HTTPTransport:
    """Posts to `{url}/api/events/batch` over one kept-alive connection; never follows a redirect.

    It tries again, once, where a kept connection ends without an answer: its other side had just given it up.
    """

    def __init__(self, config: Config) -> None:
        address = config.url.rstrip("/") + BATCH_PATH
        tls = _tls_context(config.ca_bundle) if "https:" in f"{config.url} {config.proxy}" else None
        self._pool = _pool(address, config.proxy, tls)
        through_proxy = config.proxy is not None and address.startswith("http:")  # which needs the whole address
        self._target = address if through_proxy else urllib3.util.parse_url(address).request_uri
        self._headers = {"Content-Type": NDJSON, "Accept": "application/json"}
        if config.api_key:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    def send(self, batch: Batch, timeout_s: float) -> Answer:
        headers = self._headers | {KEY_HEADER: str(batch.key)}
        if batch.gzipped:
            headers["Content-Encoding"] = "gzip"
        _request.deadline = time.monotonic() + timeout_s
        connections = self._pool.num_connections
        try:
            response = self._post(batch.body, headers)
        except urllib3.exceptions.ProtocolError:
            if self._pool.num_connections != connections:  # a new one
                raise
            response = self._post(batch.body, headers)
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

    def _post(self, body: bytes, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        timeout_s = _remaining_s()
        return self._pool.urlopen(
            "POST",
            self._target,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(total=timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            preload_content=False,
        )


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


def _pool(address: str, proxy: str | None, tls: ssl.SSLContext | None) -> urllib3.HTTPConnectionPool:
    options: dict[str, Any] = {"maxsize": 1, "block": False}
    if tls is not None:
        options["ssl_context"] = tls
    if proxy is None:
        pool = urllib3.PoolManager(**options).connection_from_url(address)
    else:
        parts = urlsplit(proxy)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=login)
        manager = urllib3.ProxyManager(proxy, proxy_headers=headers, proxy_ssl_context=tls, **options)
        pool = manager.connection_from_url(address)
    pool.ConnectionCls = _HTTPSConnection if isinstance(pool, urllib3.HTTPSConnectionPool) else _HTTPConnection
    return pool


@lru_cache
def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return what to trust: the system, or `ca_bundle`. It takes 20 ms, and a forked child shares it."""
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise ConfigError(f"ca_bundle is {ca_bundle!r}; give a file of PEM certificates: {error}") from error


def _remaining_s() -> float:
    remaining_s: float = _request.deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError("the request was not complete in time")
    return remaining_s


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until the deadline; a socket's own timeout starts anew with each byte that drips in."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        self._sock.settimeout(_remaining_s())
        return self._raw.readinto(into)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(HTTPResponse):
    """A response whose head and body must be complete at the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock))


class _DeadlineConnection(HTTPConnection):
    """Connects and sends within the deadline; only the look-up of a name has no limit but the resolver's own."""

    response_class = _DeadlineResponse

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_remaining_s())

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_remaining_s())
        super().request(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        """Try the addresses of the host one after the other, all of them together within the connect timeout."""
        until = time.monotonic() + min(CONNECT_TIMEOUT_S, _remaining_s())
        failure: OSError = TimeoutError(f"{self.host} could not be reached in time")
        for family, kind, protocol, _, address in socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM):
            timeout_s = until - time.monotonic()
            if timeout_s <= 0:
                break
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(timeout_s)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(address)
            except OSError as error:
                failure = error
                sock.close()
            else:
                return sock
        raise failure


class _HTTPConnection(_DeadlineConnection): ...


class _HTTPSConnection(_DeadlineConnection, HTTPSConnection): ...
