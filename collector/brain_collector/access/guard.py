"""The guard: check the Host header, the API key and its scope before anything of a request's body is read."""

import base64
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from brain_collector.access.keyring import SCOPES, Keyring
from brain_collector.access.session_cookie import refuse_foreign, session_key
from brain_collector.errors import Forbidden, HostRefused, Problem, Unauthorized, Unavailable
from brain_collector.http.problem import response
from brain_collector.http.scope import Caller, RequestContext, context_of
from brain_collector.schema import KeyScope
from brain_collector.settings import Settings

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_READS: Final = frozenset({"GET", "HEAD"})
SOCKET: Final = "WEBSOCKET"
"""The method of a WebSocket, for want of another. It is none that reads: a browser's rules guard no response to it."""
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="brain-events"'}
_CHALLENGE_BROWSER: Final = {
    "WWW-Authenticate": 'Bearer realm="brain-events", Basic realm="brain-events", charset="UTF-8"'
}
"""Sent where a person navigates, as to `/docs`. Elsewhere a browser would prompt in the middle of the dashboard."""


class Rule(NamedTuple):
    """What one operation requires: the scope that the caller's API key must have; None: no API key at all."""

    method: str
    path: str
    scope: KeyScope | None


def caller_of(scope: Scope) -> str:
    """Return the name of the caller: `key:<prefix>`, `bootstrap`, or `open` where no API key was needed."""
    return context_of(scope).caller.name


def sender_of(connection: HTTPConnection) -> str:
    """Return who sent the request: the name of the caller, and the address at the other end."""
    address = connection.client.host if connection.client else "an unknown address"
    return f"{caller_of(connection.scope)} at {address}"


def recognised(scope: Scope) -> Caller | None:
    """Return the caller (`open` where no API key is required), or None if a required API key is missing or wrong.

    Raises:
        Unavailable: API keys cannot be checked now.
    """
    context = context_of(scope)
    if isinstance(context.refusal, Unavailable):
        raise context.refusal
    return context.caller if context.refusal is None else None


def refuse_if_revoked(connection: HTTPConnection) -> None:
    """Raise if access was revoked since the request began; a long response calls this again and again.

    Raises:
        Unauthorized: The API key was revoked or has expired, or one is required by now.
        Unavailable: API keys cannot be checked any more.
    """
    context_of(connection.scope).check_again()


def is_trusted(connection: HTTPConnection) -> bool:
    """Return whether the caller may see more than a probe without an API key: it may read, or no key is known of."""
    return context_of(connection.scope).is_trusted


class Guard:
    """ASGI middleware that refuses requests without access.

    `rules` come in the router's order: the first that matches applies. `open_paths` can be read by anyone.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keyring: Keyring,
        rules: Iterable[Rule],
        open_paths: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._rules = [(rule.method, compile_path(rule.path)[0], rule.scope) for rule in rules]
        self._open = [compile_path(path)[0] for path in open_paths]
        self._hosts = _hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass the request on or refuse it."""
        app = self._app if scope["type"] == "lifespan" else self._refusal(scope) or self._app
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the response to a caller without access; note everyone else in the context of the request."""
        headers = Headers(scope=scope)
        try:
            self._check_host(headers.get("host", ""))
            if scope["type"] == "websocket":  # browsers let every page open one, and send the cookie along
                refuse_foreign(headers, without_origin=True)
            self._check_caller(context_of(scope), scope.get("method", SOCKET), scope["path"], headers)
        except Problem as problem:
            return response(problem)
        return None

    def _check_host(self, host: str) -> None:
        if self._hosts is not None and _host_name(host) not in self._hosts:
            raise HostRefused(
                f"the Host header names {host[:80]!r}; add the name to BRAIN_COLLECTOR_ALLOWED_HOSTS if it is yours"
            )

    def _check_caller(self, context: RequestContext, method: str, path: str, headers: Headers) -> None:
        is_operation, needed = self._scope_for(method, path)
        context.check_again = partial(self._caller, method, headers)
        try:
            context.caller = caller = self._caller(method, headers)
        except Problem as problem:
            if needed is None:
                context.refusal = problem
                context.is_trusted = self._keyring.needs_none
                return
            if isinstance(problem, Unauthorized):
                challenge = CHALLENGE if is_operation else _CHALLENGE_BROWSER
                raise Unauthorized(problem.detail + _SEND, headers=challenge) from None
            raise
        context.is_trusted = "read" in caller.scopes
        if needed is not None and needed not in caller.scopes:
            scopes = ", ".join(scope for scope in SCOPES if scope in caller.scopes)
            raise Forbidden(f"this needs an API key with the scope {needed}; yours has {scopes}")

    def _caller(self, method: str, headers: Headers) -> Caller:
        """Return the caller. A session precedes Basic, which a browser may remember for longer; Bearer counts alone."""
        authorization, session = headers.get("authorization"), session_key(headers)
        api_key = None if authorization is None else _api_key(authorization, method)
        if session is None or (authorization is not None and not _is_basic(authorization)):
            return self._keyring.caller(api_key)
        if method not in _READS and not self._keyring.needs_none:
            refuse_foreign(headers, without_origin=False)
        try:
            return self._keyring.caller(session)
        except Unauthorized:
            if api_key:
                return self._keyring.caller(api_key)
            raise

    def _scope_for(self, method: str, path: str) -> tuple[bool, KeyScope | None]:
        """Return whether a rule matches, as the router finds its handler, and the scope that is needed.

        Everything else needs `read`, except the open paths.
        """
        method = "GET" if method in {"HEAD", SOCKET} else method
        for rule_method, pattern, needed in self._rules:
            if rule_method == method and pattern.match(path):
                return True, needed
        return False, None if method == "GET" and any(pattern.match(path) for pattern in self._open) else "read"


_SEND: Final = "; send it as `Authorization: Bearer <API key>`"


def _is_basic(authorization: str) -> bool:
    return authorization.partition(" ")[0].lower() == "basic"


def _api_key(authorization: str, method: str) -> str:
    """Return the Bearer token, or the password of Basic, for which a browser can prompt; else an empty key.

    Basic grants read access only: a browser sends it by itself, also with another site's form.
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if _is_basic(authorization) and method in _READS:
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except ValueError:  # not base64, not ASCII or not UTF-8
            return ""
    return ""


def _hosts(settings: Settings) -> frozenset[str] | None:
    """Return the host names to serve; None is any. Without API keys, a page in a browser must not reach loopback."""
    if "*" in settings.hosts or settings.insecure:
        return settings.hosts - {"*"} or None
    if settings.hosts or not (settings.api_key or settings.require_api_key):
        return settings.hosts | LOOPBACK
    return None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
