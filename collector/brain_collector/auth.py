"""Who may ask: the Host header and the key are checked before anything of a request's body is read.

Also the one place that puts the security headers on every answer.
"""

import base64
import hashlib
import hmac
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_collector.errors import HostRefused, Problem, Unauthorized
from brain_collector.problem import SECURITY_HEADERS, response
from brain_collector.settings import Settings

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TRUSTED: Final = "brain_collector.trusted"


def is_trusted(connection: HTTPConnection) -> bool:
    """Tell whether the request carries the key, or none is needed: it may see what a probe without one may not."""
    return bool(connection.scope.get(_TRUSTED))


class Guard:
    """ASGI middleware that lets in who may ask."""

    def __init__(self, app: ASGIApp, *, settings: Settings, open_paths: frozenset[str]) -> None:
        self._app = app
        self._open_paths = open_paths
        self._key_digest = None if settings.api_key is None else _digest(settings.api_key)
        self._hosts = _hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on; or answer with the problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        problem: Problem | None = self._wrong_host(headers.get("host", ""))
        if problem is None:
            scope[_TRUSTED] = trusted = self._has_key(headers, scope["method"])
            if trusted or scope["path"] in self._open_paths:
                return None
            problem = _no_key(headers)
        return response(problem)

    def _wrong_host(self, host: str) -> HostRefused | None:
        if self._hosts is None or _host_name(host) in self._hosts:
            return None
        return HostRefused(
            f"the Host header names {host[:80]!r}; add the name to BRAIN_COLLECTOR_ALLOWED_HOSTS if it is yours"
        )

    def _has_key(self, headers: Headers, method: str) -> bool:
        if self._key_digest is None:
            return True
        given = _given_key(headers.get("authorization", ""), method)
        return given is not None and hmac.compare_digest(_digest(given), self._key_digest)


def _given_key(authorization: str, method: str) -> str | None:
    """Return the key of a Bearer token, or the password of Basic, which is how a browser can ask for it.

    Basic is for reading only: a browser sends it along by itself, also with another site's form.
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic" and method in {"GET", "HEAD"}:
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, no ASCII or no UTF-8
            return None
    return None


def _no_key(headers: Headers) -> Unauthorized:
    given = "the API key is wrong" if "authorization" in headers else "there is no API key"
    return Unauthorized(
        f"{given}; send it as `Authorization: Bearer <API key>`",
        headers={"WWW-Authenticate": 'Bearer realm="brain-events", Basic realm="brain-events", charset="UTF-8"'},
    )


def _hosts(settings: Settings) -> frozenset[str] | None:
    """Return the names to answer to; None is any. Without a key, a page in a browser must not reach loopback."""
    if "*" in settings.hosts or settings.insecure:
        return settings.hosts - {"*"} or None
    if settings.api_key is None or settings.hosts:
        return settings.hosts | LOOPBACK
    return None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
