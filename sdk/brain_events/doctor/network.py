"""The doctor's check of the connection to the collector: TCP, TLS, health, API key, clock. It only reads."""

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from urllib3.exceptions import HTTPError

from brain_events._delivery.http import Endpoint, tls_context
from brain_events.config import Config
from brain_events.doctor.finding import Finding
from brain_events.doctor.settings import without_secrets
from brain_events.errors import ConfigError

MAX_SKEW_S = 30.0
"""Maximum difference of the clocks, in seconds: events carry the time of the machine that logs them."""
EXPIRES_SOON_S = 14 * 24 * 3600.0
MAX_BODY_BYTES = 64 * 1024


class Reply(msgspec.Struct, frozen=True):
    """The response to a GET request; `received_at` is in seconds since 1970."""

    status: int
    json: Any
    date: str
    took_s: float
    received_at: float


def examine(config: Config, timeout_s: float) -> Iterator[Finding]:
    """Yield the findings about the connection; stop at the first failure that makes further checks useless."""
    parts = urlsplit(config.proxy or config.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    kind = "the proxy " if config.proxy else ""
    try:
        began = time.monotonic()
        with socket.create_connection((host, port), timeout_s) as connection:
            took_ms = (time.monotonic() - began) * 1000
            yield Finding("tcp", "ok", f"{kind}{host}:{port} accepts connections ({took_ms:.1f} ms)", f"{host}:{port}")
            if parts.scheme == "https":
                yield from _tls(connection, host, config)
    except (OSError, UnicodeError) as error:
        yield _connection_error(error, f"{kind}{host}:{port}")
        return
    except ConfigError as error:
        yield Finding("tls", "wrong", str(error), config.ca_bundle, "correct BRAIN_EVENTS_CA_BUNDLE or ca_bundle")
        return
    yield from _requests(config, timeout_s)


def _tls(connection: socket.socket, host: str, config: Config) -> Iterator[Finding]:
    context = tls_context(config.ca_bundle)  # the certificates that delivery trusts
    with context.wrap_socket(connection, server_hostname=host) as secure:
        certificate: Any = secure.getpeercert() or {}
        expires = certificate.get("notAfter", "")
        soon = bool(expires) and ssl.cert_time_to_seconds(expires) - time.time() < EXPIRES_SOON_S
        what = f"{secure.version()}, the certificate expires {expires or 'at an unknown time'}"
        do = "renew it: once it has expired, nothing is sent" if soon else ""
        yield Finding("tls", "info" if soon else "ok", what, expires, do)


def _connection_error(error: OSError | UnicodeError, address: str) -> Finding:
    """Explain why a connection failed."""
    what = f"{address}: {type(error).__name__}: {error}"
    match error:
        case ssl.SSLCertVerificationError():
            do = "set BRAIN_EVENTS_CA_BUNDLE to the certificates of the authority, or correct the host name in the url"
            return Finding("tls", "wrong", what, error.verify_message, do)
        case ssl.SSLError():
            return Finding("tls", "wrong", what, do="the port may speak http:// only: correct the url")
        case socket.gaierror() | UnicodeError():
            do = "the host name cannot be resolved: correct the url, or the DNS of this machine"
        case ConnectionRefusedError():
            do = "no process listens there: start the collector (`brain-events serve`), or correct the port in the url"
        case TimeoutError():
            do = "no response in time: check firewalls and the address"
        case _:
            do = "the host cannot be reached from here: check the network and the url"
    return Finding("tcp", "wrong", what, address, do)


def _requests(config: Config, timeout_s: float) -> Iterator[Finding]:
    """Request liveness, readiness, and one event with the API key; stop if the server is not a collector."""
    try:
        alive = _get(config, "/livez", timeout_s)
        yield (liveness := _livez(alive))
        if liveness.level != "ok":
            return
        yield _readyz(_get(config, "/readyz", timeout_s))
        yield _api_key(_get(config, "/api/events?limit=1", timeout_s, config.api_key), config)
        yield _clock(alive)
    except (OSError, HTTPError) as error:
        what = f"{config.url} accepts connections, but does not respond: {type(error).__name__}: {error}"
        do = f"no HTTP response within {timeout_s:g} s: the collector may hang, or another service may use this address"
        yield Finding("http", "wrong", without_secrets(what), do=do)


def _get(config: Config, path: str, timeout_s: float, api_key: str | None = None) -> Reply:
    """Send a GET request the way delivery sends its own: by the same proxy, with the same deadline."""
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    endpoint = Endpoint(config, path)
    sent_at = time.time()
    try:
        response = endpoint.request("GET", headers, timeout_s=timeout_s, connect_timeout_s=timeout_s)
        try:
            body = response.read(MAX_BODY_BYTES)
        finally:
            response.close()
    finally:
        endpoint.close()
    received_at = time.time()
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        content = None
    return Reply(response.status, content, response.headers.get("Date", ""), received_at - sent_at, received_at)


def _livez(reply: Reply) -> Finding:
    if reply.status == 200 and isinstance(reply.json, dict) and reply.json.get("status") == "alive":
        return Finding("livez", "ok", f"the collector is alive ({reply.took_s * 1000:.1f} ms)", reply.status)
    if reply.status == 400 and _member(reply, "code") == "host_refused":
        do = "add the url's host to the collector's BRAIN_COLLECTOR_ALLOWED_HOSTS"
        return Finding("livez", "wrong", f"the collector refuses the host name: {_member(reply, 'detail')}", 400, do)
    what = f"/livez responds with HTTP {reply.status}, but not as a collector does"
    return Finding("livez", "wrong", what, reply.status, "another service or a proxy uses this url: correct it")


def _readyz(reply: Reply) -> Finding:
    if reply.status == 200 and _member(reply, "status") == "ready":
        return Finding("readyz", "ok", "the collector accepts events", 200)
    reasons = reply.json.get("reasons") if isinstance(reply.json, dict) else None
    why = "; ".join(map(str, reasons)) if reasons else "it shows the reason only with an API key"
    do = "check the collector's log and its database; until it is ready, applications keep their events"
    return Finding("readyz", "wrong", f"the collector is not ready (HTTP {reply.status}): {why}", reply.status, do)


def _api_key(reply: Reply, config: Config) -> Finding:
    if reply.status == 200:
        what = "the API key is accepted" if config.api_key else "no API key is set, and none is required"
        return Finding("key", "ok", what, 200)
    if reply.status == 401:
        what = "the collector refuses the API key (HTTP 401)" if config.api_key else "an API key is required (HTTP 401)"
        do = "set BRAIN_EVENTS_API_KEY to a valid API key; until then events wait in the outbox"
        return Finding("key", "wrong", what, 401, do)
    if reply.status == 403:
        return Finding("key", "info", "the API key may not read (HTTP 403); whether it may write is not checked", 403)
    with_key = "the API key" if config.api_key else "no API key"
    what = f"with {with_key}, GET /api/events responds with HTTP {reply.status} {_member(reply, 'code')}".rstrip()
    return Finding("key", "wrong", what, reply.status, "check the collector's log")


def _clock(reply: Reply) -> Finding:
    """Compare the server's Date (RFC 9110, section 6.6.1; full seconds) with the middle of the request."""
    try:
        skew_s = reply.received_at - reply.took_s / 2 - (parsedate_to_datetime(reply.date).timestamp() + 0.5)
    except ValueError:
        return Finding("clock", "info", "the server sends no Date, so its clock cannot be compared")
    direction = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) <= MAX_SKEW_S:
        return Finding("clock", "ok", f"the clocks agree within {abs(skew_s) + 0.5:.0f} s", round(skew_s, 1))
    what = f"this machine's clock is {abs(skew_s):.0f} s {direction} the server's"
    return Finding(
        "clock", "wrong", what, round(skew_s, 1), "synchronise both by NTP: events carry this machine's time"
    )


def _member(reply: Reply, name: str) -> str:
    return str(reply.json.get(name, ""))[:200] if isinstance(reply.json, dict) else ""
