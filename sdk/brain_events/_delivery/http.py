"""Delivery over HTTP: one POST per sealed batch. The only module that imports urllib3, apart from the doctor.

`Client()` imports it on the caller's thread: a child forked while another thread imports urllib3 would hang.
"""

import encodings.idna  # noqa: F401 -- or else the worker imports it to look up its first host name
import io
import logging
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

from brain_events._delivery.transport import Response
from brain_events._queue.batch import Batch
from brain_events.config import Config
from brain_events.context import SENDING
from brain_events.errors import ConfigError
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON

CONNECT_TIMEOUT_S = 3.0
MAX_RESPONSE_BYTES = 1024 * 1024
RETRY_AFTER_CAP_S = 3600.0  # a wrong clock of a server must not stop delivery for days

_request = threading.local()
"""`deadline`: the monotonic time at which the current request of this thread must be complete."""


def _is_of_the_application(record: logging.LogRecord) -> bool:
    """Return False for what urllib3 logs, below WARNING, about the requests of the SDK."""
    return record.levelno >= logging.WARNING or not SENDING.get()


for _module in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_module}").addFilter(_is_of_the_application)


class HTTPTransport:
    """Posts to `{url}/api/events/batch` over one persistent connection; never follows a redirect."""

    def __init__(self, config: Config) -> None:
        self._endpoint = Endpoint(config, BATCH_PATH)
        self._headers = {"Content-Type": NDJSON, "Accept": "application/json"}
        if config.api_key:
            self._headers["Authorization"] = f"Bearer {config.api_key}"

    def send(self, batch: Batch, timeout_s: float) -> Response:
        headers = self._headers | {KEY_HEADER: str(batch.key)}
        if batch.gzipped:
            headers["Content-Encoding"] = "gzip"
        response = self._endpoint.request("POST", headers, batch.body, timeout_s=timeout_s)
        try:
            body = response.read(MAX_RESPONSE_BYTES)
        except BaseException:
            response.close()
            raise
        if response.length_remaining:  # a large page that is not the collector's: do not read the rest
            response.close()
        response.release_conn()
        is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
        return Response(
            status=response.status,
            content_type=response.headers.get("Content-Type", ""),
            body=body if is_plain else b"",
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
        )

    def close(self) -> None:
        self._endpoint.close()


class Endpoint:
    """One path of the collector, reached by the proxy and the TLS settings of `config`, over one connection."""

    def __init__(self, config: Config, path: str) -> None:
        address = config.url.rstrip("/") + path
        tls = tls_context(config.ca_bundle) if "https:" in f"{config.url} {config.proxy}" else None
        self._pool = _pool(address, config.proxy, tls)
        by_proxy = config.proxy is not None and address.startswith("http:")  # such a proxy needs the absolute URL
        self._target = address if by_proxy else urllib3.util.parse_url(address).request_uri

    def request(
        self,
        method: str,
        headers: dict[str, str],
        body: bytes | None = None,
        *,
        timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the response, whose body this thread must read before the same deadline.

        A request is repeated, once, if a reused connection ends without a response: the server had just closed it.
        """
        _request.deadline = time.monotonic() + timeout_s
        opened = self._pool.num_connections
        try:
            return self._request_once(method, headers, body, connect_timeout_s)
        except urllib3.exceptions.ProtocolError:
            if self._pool.num_connections != opened:  # it was a new connection
                raise
            return self._request_once(method, headers, body, connect_timeout_s)

    def close(self) -> None:
        """Close the connection; a later request opens a new one."""
        self._pool.close()

    def _request_once(
        self, method: str, headers: dict[str, str], body: bytes | None, connect_timeout_s: float
    ) -> urllib3.BaseHTTPResponse:
        timeout_s = _remaining_s()
        return self._pool.urlopen(
            method,
            self._target,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(total=timeout_s, connect=min(connect_timeout_s, timeout_s)),
            preload_content=False,
            decode_content=False,  # none is asked for, and a small response could become a very large one
        )


@lru_cache
def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context that trusts `ca_bundle`, or else the system's certificates.

    It is cached, since it takes 20 ms to make; a forked child shares it.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise ConfigError(f"ca_bundle is {ca_bundle!r}; use a file of PEM certificates: {error}") from error


def retry_after_s(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); 0 if absent or invalid."""
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


def _remaining_s() -> float:
    remaining_s: float = _request.deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError("the request was not complete in time")
    return remaining_s


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until the deadline. A socket's own timeout restarts with each byte, however slowly they come."""

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
    """A response whose headers and body must be complete before the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock))


class _DeadlineConnection(HTTPConnection):
    """Connects and sends before the deadline; only the resolver's own limit applies to looking up the host name."""

    response_class = _DeadlineResponse

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_remaining_s())

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(_remaining_s())
        super().request(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        """Try the addresses of the host one after the other, all of them within one connect timeout."""
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
