"""Who may ask: the Host header, the key and its scope are checked before anything of a request's body is read.

Also the one place that puts the security headers on every answer.
"""

import base64
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_collector.access.keyring import NOBODY, SCOPES, Caller, Keyring
from brain_collector.access.session_cookie import refuse_foreign, session_key
from brain_collector.api.operation import Operation
from brain_collector.errors import Forbidden, HostRefused, Problem, Unauthorized, Unavailable
from brain_collector.http.problem import SECURITY_HEADERS, response
from brain_collector.schema import KeyScope
from brain_collector.settings import Settings

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_CALLER: Final = "brain_collector.caller"
_TRUSTED: Final = "brain_collector.trusted"
_REFUSAL: Final = "brain_collector.refusal"
_ASKED_AGAIN: Final = "brain_collector.asked_again"
_SECURITY_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_READS: Final = frozenset({"GET", "HEAD"})
SOCKET: Final = "WEBSOCKET"
"""Stands for the method of a WebSocket. It is none of those that read: no rule of browsers guards what it answers."""
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="brain-events"'}
_CHALLENGE_BROWSER: Final = {
    "WWW-Authenticate": 'Bearer realm="brain-events", Basic realm="brain-events", charset="UTF-8"'
}
"""Where a person goes, as to `/docs`. Elsewhere a browser would ask for a password in the middle of the page."""


def caller_of(scope: Scope) -> str:
    """Return who sent the request: `key:<prefix>`, `bootstrap`, or `open` where no key was needed."""
    found: Caller = scope[_CALLER]
    return found.name


def sender_of(connection: HTTPConnection) -> str:
    """Return who sent the request: the name of the key, and the address at the other end."""
    return f"{caller_of(connection.scope)} at {connection.client.host if connection.client else 'an unknown address'}"


def recognised(scope: Scope) -> Caller | None:
    """Return who sent the request, also where nobody needs to be known; None: it would need a key, and has none.

    Raises:
        Unavailable: that cannot be told.
    """
    refusal = scope.get(_REFUSAL)
    if isinstance(refusal, Unavailable):
        raise refusal
    found: Caller = scope[_CALLER]
    return found if refusal is None else None


def refuse_if_revoked(connection: HTTPConnection) -> None:
    """Refuse who was let in, and would not be any more: an answer that goes on for long asks again and again.

    Raises:
        Unauthorized: the key was revoked, has expired, or is needed by now.
        Unavailable: that cannot be told any more.
    """
    asked_again: Callable[[], Caller] = connection.scope[_ASKED_AGAIN]
    asked_again()


def is_trusted(connection: HTTPConnection) -> bool:
    """Tell whether the caller may read, or nothing is known of keys: it may see what a probe without a key may not."""
    return bool(connection.scope.get(_TRUSTED))


class Guard:
    """ASGI middleware that lets in who may ask. `operations` come in the router's order: the first that fits counts.

    Beside them anyone may get `open_paths`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keyring: Keyring,
        operations: Iterable[Operation],
        open_paths: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._needed = [(each.method, compile_path(each.path)[0], each.scope) for each in operations]
        self._open = [compile_path(path)[0] for path in open_paths]
        self._hosts = _hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on; or answer with the problem."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                own = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in _SECURITY_HEADERS if header[0] not in own]
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to who may not ask; note in the scope who does."""
        headers = Headers(scope=scope)
        scope[_CALLER] = NOBODY
        try:
            self._check_host(headers.get("host", ""))
            if scope["type"] == "websocket":  # browsers let every page open one, and send the cookie along
                refuse_foreign(headers, without_origin=True)
            self._check_caller(scope, headers)
        except Problem as problem:
            return response(problem)
        return None

    def _check_host(self, host: str) -> None:
        if self._hosts is not None and _host_name(host) not in self._hosts:
            raise HostRefused(
                f"the Host header names {host[:80]!r}; add the name to BRAIN_COLLECTOR_ALLOWED_HOSTS if it is yours"
            )

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        method = scope.get("method", SOCKET)
        operation, needed = self._scope_for(method, scope["path"])
        scope[_ASKED_AGAIN] = partial(self._caller, method, headers)
        try:
            scope[_CALLER] = caller = self._caller(method, headers)
        except Problem as problem:
            if needed is None:
                scope[_REFUSAL] = problem
                scope[_TRUSTED] = self._keyring.needs_none
                return
            if isinstance(problem, Unauthorized):
                challenge = CHALLENGE if operation else _CHALLENGE_BROWSER
                raise Unauthorized(problem.detail + _SEND, headers=challenge) from None
            raise
        scope[_TRUSTED] = "read" in caller.scopes
        if needed is not None and needed not in caller.scopes:
            has = ", ".join(each for each in SCOPES if each in caller.scopes)
            raise Forbidden(f"this needs a key with the scope {needed}; yours has {has}")

    def _caller(self, method: str, headers: Headers) -> Caller:
        """Return who asks. A session comes before Basic, which a browser may remember for longer; Bearer is alone."""
        authorization, session = headers.get("authorization"), session_key(headers)
        given = None if authorization is None else _given_key(authorization, method)
        if session is None or (authorization is not None and not _is_basic(authorization)):
            return self._keyring.caller(given)
        if method not in _READS and not self._keyring.needs_none:
            refuse_foreign(headers, without_origin=False)
        try:
            return self._keyring.caller(session)
        except Unauthorized:
            if given:
                return self._keyring.caller(given)
            raise

    def _scope_for(self, method: str, path: str) -> tuple[bool, KeyScope | None]:
        """Return whether it is an operation, and what it needs, found as the router finds its handler.

        All that is no operation needs `read`, but for the paths that are open.
        """
        method = "GET" if method in {"HEAD", SOCKET} else method
        for known, pattern, needed in self._needed:
            if known == method and pattern.match(path):
                return True, needed
        return False, None if method == "GET" and any(pattern.match(path) for pattern in self._open) else "read"


_SEND: Final = "; send it as `Authorization: Bearer <API key>`"


def _is_basic(authorization: str) -> bool:
    return authorization.partition(" ")[0].lower() == "basic"


def _given_key(authorization: str, method: str) -> str:
    """Return the key of a Bearer token, or the password of Basic, which is how a browser can ask for it; else no key.

    Basic is for reading only: a browser sends it along by itself, also with another site's form.
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if _is_basic(authorization) and method in _READS:
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, no ASCII or no UTF-8
            return ""
    return ""


def _hosts(settings: Settings) -> frozenset[str] | None:
    """Return the names to answer to; None is any. Without a key, a page in a browser must not reach loopback."""
    if "*" in settings.hosts or settings.insecure:
        return settings.hosts - {"*"} or None
    if settings.hosts or not (settings.api_key or settings.require_api_key):
        return settings.hosts | LOOPBACK
    return None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
