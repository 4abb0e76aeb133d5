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
from brain_collector.access.session_cookie import (
    refuse_other_origins,
    refuse_other_scheme,
    refuse_other_sites,
    session_token,
)
from brain_collector.errors import Forbidden, HostRefused, Problem, Unauthorized, Unavailable
from brain_collector.http.authority import host_name
from brain_collector.http.problem import response
from brain_collector.http.scope import Caller, RequestContext, context_of
from brain_collector.schema import KeyScope
from brain_collector.settings import Settings
from brain_collector.shares import current_caller

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_READS: Final = frozenset({"GET", "HEAD"})
SOCKET: Final = "WEBSOCKET"
"""A pseudo-method for WebSockets. It does not count as reading: no same-origin policy protects their messages."""
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="brain-events"'}
_CHALLENGE_BROWSER: Final = {
    "WWW-Authenticate": 'Bearer realm="brain-events", Basic realm="brain-events", charset="UTF-8"'
}
"""Sent for pages that a person opens, such as `/docs`. For an API request it would make the browser prompt."""


class Rule(NamedTuple):
    """The access rule of one operation: the scope that the API key must have, or None if no API key is required."""

    method: str
    path: str
    scope: KeyScope | None


def caller_of(scope: Scope) -> str:
    """Return the name of the caller: `key:<prefix>`, `bootstrap`, or `open` if no API key was required."""
    return context_of(scope).caller.name


def sender_of(connection: HTTPConnection) -> str:
    """Return the name of the caller and its network address."""
    address = connection.client.host if connection.client else "an unknown address"
    return f"{caller_of(connection.scope)} at {address}"


def authenticated_caller(scope: Scope) -> Caller | None:
    """Return the caller (`open` if no API key is required), or None if a required API key is missing or invalid.

    Raises:
        Unavailable: API keys cannot be checked at the moment.
    """
    context = context_of(scope)
    if isinstance(context.refusal, Unavailable):
        raise context.refusal
    return context.caller if context.refusal is None else None


def refuse_if_revoked(connection: HTTPConnection) -> None:
    """Raise if access was revoked since the request began; called repeatedly during a long response.

    `http.body.body_of` does the same when a body has arrived, so no endpoint that takes one can forget it.

    Raises:
        Unauthorized: the API key was revoked or has expired, or an API key is required by now.
        Forbidden: the API key has lost the required scope.
        Unavailable: API keys cannot be checked any more.
    """
    context_of(connection.scope).check_again()


def is_trusted(connection: HTTPConnection) -> bool:
    """Return whether a probe may include details: the caller may read, as any may if no API key is required."""
    return "read" in context_of(connection.scope).caller.scopes


class Guard:
    """ASGI middleware that refuses requests without access.

    `rules` are in the order of the routes: the first path that matches applies, as for the router. `open_paths` can be
    read without an API key.
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
        scopes: dict[str, dict[str, KeyScope | None]] = {}
        for rule in rules:
            scopes.setdefault(rule.path, {})[rule.method] = rule.scope
        self._rules = [(compile_path(path)[0], by_method) for path, by_method in scopes.items()]
        self._open = [compile_path(path)[0] for path in open_paths]
        self._hosts = _hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request; pass it on or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        credentials = _Credentials(Headers(scope=scope), scope.get("method", SOCKET))
        requirement = self._requirement(credentials.method, scope["path"])
        if requirement.scope is not None and credentials.authorization is None and credentials.token is not None:
            await self._keyring.learn(credentials.token)  # an open path does not wait for it
        app = self._refusal(scope, credentials, requirement) or self._app
        current_caller.set(caller_of(scope))  # the request's own, as in the request log
        await app(scope, receive, send)

    def _refusal(self, scope: Scope, credentials: "_Credentials", requirement: "_Requirement") -> Response | None:
        """Return the refusal of a caller without access; else write the caller into the context of the request."""
        try:
            self._check_host(credentials.headers.get("host", ""))
            if scope["type"] == "websocket":  # browsers let any page open one, and send the cookie with it
                refuse_other_origins(credentials.headers, allow_missing=True)
            self._check_caller(context_of(scope), credentials, requirement)
        except Problem as problem:
            return response(problem)
        return None

    def _check_host(self, host: str) -> None:
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise HostRefused(
                f"the Host header names {host[:80]!r}; add the name to BRAIN_COLLECTOR_ALLOWED_HOSTS if it is yours"
            )

    def _check_caller(self, context: RequestContext, credentials: "_Credentials", requirement: "_Requirement") -> None:
        """Write the caller into the context. Without a required scope, a caller without access is served too."""
        if requirement.scope is not None:
            challenge = CHALLENGE if requirement.is_operation else _CHALLENGE_BROWSER
            context.check_again = partial(self._permitted, credentials, requirement.scope, challenge)
            context.caller = context.check_again()
            return
        try:
            context.caller = self._caller(credentials)
        except Problem as problem:
            context.refusal = problem

    def _permitted(self, credentials: "_Credentials", required: KeyScope, challenge: dict[str, str]) -> Caller:
        """Return the caller if it has the required scope."""
        try:
            caller = self._caller(credentials)
        except Unauthorized as problem:
            raise Unauthorized(problem.detail + _REMEDY, headers=challenge) from None
        if required not in caller.scopes:
            scopes = ", ".join(scope for scope in SCOPES if scope in caller.scopes)
            raise Forbidden(f"this request requires an API key with the scope {required}; this one has {scopes}")
        return caller

    def _caller(self, credentials: "_Credentials") -> Caller:
        """Return the caller.

        A Bearer token excludes everything else. A session precedes Basic, which browsers may remember for longer.
        """
        headers, method, authorization, token = (
            credentials.headers,
            credentials.method,
            credentials.authorization,
            credentials.token,
        )
        api_key = None if authorization is None else _api_key(authorization, method)
        is_session = token is not None and (authorization is None or _is_basic(authorization))
        if token is None or not is_session or not self._keyring.requires_key:
            return self._keyring.caller(api_key)
        if method not in _READS:
            refuse_other_origins(headers, allow_missing=False)
            if method != SOCKET:  # browsers disagree on its Sec-Fetch-Site
                refuse_other_sites(headers)
        try:
            session = self._keyring.session(token)
            caller = self._keyring.caller_of(session)
        except Unauthorized:
            if api_key:
                return self._keyring.caller(api_key)
            raise
        if method not in _READS:
            refuse_other_scheme(headers, session.scheme)
        return caller

    def _requirement(self, method: str, path: str) -> "_Requirement":
        """Return what a request needs, by the first rule that matches, in the same way as the router.

        Without a matching rule, `read` is required, except for the open paths. So it is for a method that a path does
        not support, unless all of its methods require no API key.
        """
        method = "GET" if method in {"HEAD", SOCKET} else method
        for pattern, scopes in self._rules:
            if pattern.match(path):
                is_open = not any(scopes.values())
                return _Requirement(method in scopes, scopes.get(method, None if is_open else "read"))
        is_open = method == "GET" and any(pattern.match(path) for pattern in self._open)
        return _Requirement(is_operation=False, scope=None if is_open else "read")


class _Requirement(NamedTuple):
    """The access that a request needs: a scope, or None if no API key is required; and whether a rule matches it."""

    is_operation: bool
    scope: KeyScope | None


class _Credentials:
    """The headers that identify the caller of a request, read once for all checks."""

    def __init__(self, headers: Headers, method: str) -> None:
        self.headers = headers
        self.method = method
        self.authorization = headers.get("authorization")
        self.token = session_token(headers)


_REMEDY: Final = "; send it as `Authorization: Bearer <API key>`"


def _is_basic(authorization: str) -> bool:
    return authorization.partition(" ")[0].lower() == "basic"


def _api_key(authorization: str, method: str) -> str:
    """Return the Bearer token, or the password of Basic (for which a browser can prompt), or an empty string.

    Basic grants read access only, since browsers also send it with the forms of other sites.
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
    """Return the host names to serve; None: any. Without API keys, pages of other sites must not reach loopback."""
    if "*" in settings.hosts or settings.insecure:
        return settings.hosts - {"*"} or None
    if settings.hosts or not (settings.api_key or settings.require_api_key):
        return settings.hosts | LOOPBACK
    return None
