"""The doctor's look at the way to the collector: connection, TLS, probes, key, clock. It only reads."""

import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import urllib3

from brain_events._delivery import http
from brain_events.config import Config
from brain_events.doctor.finding import Finding
from brain_events.doctor.settings import without_secrets
from brain_events.errors import ConfigError

MAX_SKEW_S = 30.0
"""Events carry the clock of the machine that logs them."""
EXPIRES_SOON_S = 14 * 24 * 3600.0
MAX_BODY_BYTES = 64 * 1024


class Reply(msgspec.Struct, frozen=True):
    """What came back for a GET, and when."""

    status: int
    json: Any
    date: str
    took_s: float
    at: float


def examine(config: Config, timeout_s: float) -> Iterator[Finding]:
    """Yield what is found on the way to the collector; it ends where the way does."""
    parts = urlsplit(config.proxy or config.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    through = "the proxy " if config.proxy else ""
    try:
        began = time.monotonic()
        with socket.create_connection((host, port), timeout_s) as connection:
            took_ms = (time.monotonic() - began) * 1000
            yield Finding(
                "tcp", "ok", f"{through}{host}:{port} accepts connections ({took_ms:.1f} ms)", f"{host}:{port}"
            )
            if parts.scheme == "https":
                yield from _tls(connection, host, config)
    except (OSError, UnicodeError) as error:
        yield _no_way(error, f"{through}{host}:{port}")
        return
    except ConfigError as error:
        yield Finding("tls", "wrong", str(error), config.ca_bundle, "mend BRAIN_EVENTS_CA_BUNDLE or ca_bundle")
        return
    yield from _ask(config, timeout_s)


def _tls(connection: socket.socket, host: str, config: Config) -> Iterator[Finding]:
    trust = http._tls_context(config.ca_bundle)  # noqa: SLF001 -- trust exactly what delivery trusts
    with trust.wrap_socket(connection, server_hostname=host) as secure:
        certificate: Any = secure.getpeercert() or {}
        until = certificate.get("notAfter", "")
        soon = bool(until) and ssl.cert_time_to_seconds(until) - time.time() < EXPIRES_SOON_S
        what = f"{secure.version()}, the certificate is valid until {until or 'an unknown time'}"
        yield Finding("tls", "info" if soon else "ok", what, until, "renew it: then nothing is sent" if soon else "")


def _no_way(error: OSError | UnicodeError, where: str) -> Finding:
    """Say what an error on the way means."""
    what = f"{where}: {type(error).__name__}: {error}"
    match error:
        case ssl.SSLCertVerificationError():
            do = "give the authority's certificates as BRAIN_EVENTS_CA_BUNDLE, or correct the host name in the url"
            return Finding("tls", "wrong", what, error.verify_message, do)
        case ssl.SSLError():
            return Finding("tls", "wrong", what, do="is it http:// that this port speaks? Correct the url")
        case socket.gaierror() | UnicodeError():
            do = "the host name is not known here: correct the url, or the machine's DNS"
        case ConnectionRefusedError():
            do = "nobody listens there: start the collector (`brain-events serve`), or correct the port in the url"
        case TimeoutError():
            do = "no answer in time: look for a firewall on the way, or a wrong address"
        case _:
            do = "the machine is not reachable from here: look at network and url"
    return Finding("tcp", "wrong", what, where, do)


def _ask(config: Config, timeout_s: float) -> Iterator[Finding]:
    """Ask the probes, then with the key for one event; stop at what is no collector."""
    try:
        alive = _get(config, "/livez", timeout_s)
        yield (found := _livez(alive))
        if found.level != "ok":
            return
        yield _readyz(_get(config, "/readyz", timeout_s))
        yield _key(_get(config, "/api/events?limit=1", timeout_s, config.api_key), config)
        yield _clock(alive)
    except (OSError, urllib3.exceptions.HTTPError) as error:
        what = f"{config.url} takes connections, but gives no answer: {type(error).__name__}: {error}"
        do = (
            f"nothing that speaks HTTP answers within {timeout_s:g} s: is the collector hung, or another service there?"
        )
        yield Finding("http", "wrong", without_secrets(what), do=do)


def _get(config: Config, path: str, timeout_s: float, api_key: str | None = None) -> Reply:
    """Ask as delivery does, by the same proxy and the same deadline, but change nothing."""
    address = config.url.rstrip("/") + path
    tls = http._tls_context(config.ca_bundle) if "https:" in f"{config.url} {config.proxy}" else None  # noqa: SLF001
    pool = http._pool(address, config.proxy, tls)  # noqa: SLF001 -- see above
    whole = config.proxy is not None and address.startswith("http:")
    http._request.deadline = time.monotonic() + timeout_s  # noqa: SLF001 -- see above
    began = time.time()
    response = pool.urlopen(
        "GET",
        address if whole else urllib3.util.parse_url(address).request_uri,
        headers={"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
        retries=False,
        redirect=False,
        assert_same_host=False,
        timeout=urllib3.Timeout(total=timeout_s),
        preload_content=False,
    )
    try:
        body = response.read(MAX_BODY_BYTES)
    finally:
        response.close()
        pool.close()
    at = time.time()
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    return Reply(response.status, found, response.headers.get("Date", ""), at - began, at)


def _livez(reply: Reply) -> Finding:
    if reply.status == 200 and isinstance(reply.json, dict) and reply.json.get("status") == "alive":
        return Finding("livez", "ok", f"the collector is alive ({reply.took_s * 1000:.1f} ms)", reply.status)
    if reply.status == 400 and _member(reply, "code") == "host_refused":
        do = "add the url's host to the collector's BRAIN_COLLECTOR_ALLOWED_HOSTS"
        return Finding("livez", "wrong", f"the collector refuses the host name: {_member(reply, 'detail')}", 400, do)
    what = f"/livez answers HTTP {reply.status}, but not as a collector"
    return Finding("livez", "wrong", what, reply.status, "another service or a proxy is at this url: correct it")


def _readyz(reply: Reply) -> Finding:
    if reply.status == 200 and _member(reply, "status") == "ready":
        return Finding("readyz", "ok", "the collector takes events", 200)
    reasons = reply.json.get("reasons") if isinstance(reply.json, dict) else None
    why = "; ".join(map(str, reasons)) if reasons else "it gives no reason without the key"
    do = "look at the collector's log and its database; until then applications keep their events"
    return Finding("readyz", "wrong", f"the collector is not ready (HTTP {reply.status}): {why}", reply.status, do)


def _key(reply: Reply, config: Config) -> Finding:
    given = "the API key" if config.api_key else "no API key"
    if reply.status == 200:
        what = "the API key is accepted" if config.api_key else "no API key is given, and none is asked for"
        return Finding("key", "ok", what, 200)
    if reply.status == 401:
        what = "the collector refuses the API key (HTTP 401)" if config.api_key else "an API key is needed (HTTP 401)"
        do = "set BRAIN_EVENTS_API_KEY to the collector's key; events wait in the spool until then"
        return Finding("key", "wrong", what, 401, do)
    if reply.status == 403:
        return Finding("key", "info", "the key may not read (HTTP 403); whether it may write was not tried", 403)
    what = f"with {given}, GET /api/events answers HTTP {reply.status} {_member(reply, 'code')}".rstrip()
    return Finding("key", "wrong", what, reply.status, "look at the collector's log")


def _clock(reply: Reply) -> Finding:
    """Compare the server's Date (RFC 9110, section 6.6.1; whole seconds) with the middle of the request."""
    try:
        skew_s = reply.at - reply.took_s / 2 - (parsedate_to_datetime(reply.date).timestamp() + 0.5)
    except ValueError:
        return Finding("clock", "info", "the server sends no Date: its clock cannot be compared")
    way = "ahead of" if skew_s > 0 else "behind"
    if abs(skew_s) <= MAX_SKEW_S:
        return Finding("clock", "ok", f"the clocks agree within {abs(skew_s) + 0.5:.0f} s", round(skew_s, 1))
    what = f"this machine's clock is {abs(skew_s):.0f} s {way} the server's"
    return Finding("clock", "wrong", what, round(skew_s, 1), "set both by NTP: events carry this machine's time")


def _member(reply: Reply, name: str) -> str:
    return str(reply.json.get(name, ""))[:200] if isinstance(reply.json, dict) else ""
