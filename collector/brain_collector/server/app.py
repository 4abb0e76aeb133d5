"""The collector as one ASGI application: operations, middleware, error handlers, resources."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Final, TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from brain_collector.access.guard import LOOPBACK, Guard, Rule
from brain_collector.access.keyring import Keyring
from brain_collector.api import (
    batch,
    dashboard,
    event_counts,
    event_list,
    events,
    health,
    histogram,
    keys,
    manual,
    openapi,
    rejections,
    session,
    stream,
    websocket,
)
from brain_collector.api import export as export_api
from brain_collector.api import metrics as metrics_api
from brain_collector.api.operation import Endpoint, Operation
from brain_collector.api.resources import Resources, resources_of
from brain_collector.errors import Problem, SettingsError
from brain_collector.http.answer_budget import Answering, hold
from brain_collector.http.draining import Draining
from brain_collector.http.problem import on_crash, on_http_exception, on_problem
from brain_collector.http.request_log import RequestLog
from brain_collector.http.scope import Stopping, context_of
from brain_collector.http.security_headers import SecurityHeaders
from brain_collector.metrics import Metrics
from brain_collector.server.lifespan import Engines, opened
from brain_collector.settings import Settings

OPERATIONS: Final[tuple[Operation, ...]] = (
    *events.OPERATIONS,
    *batch.OPERATIONS,
    *event_list.OPERATIONS,
    *event_counts.OPERATIONS,
    *histogram.OPERATIONS,
    *export_api.OPERATIONS,
    *stream.OPERATIONS,
    *websocket.OPERATIONS,
    *rejections.OPERATIONS,
    *health.OPERATIONS,
    *keys.OPERATIONS,
    *session.OPERATIONS,
    *metrics_api.OPERATIONS,
)
"""Every operation. Routes, OpenAPI and the rules of the guard are made from this list."""


MIN_KEY_CHARS: Final = 16
"""Minimum length of the bootstrap key of a collector that others can reach: attempts to guess it are not limited."""


class State(TypedDict):
    """The contents of `request.state`."""

    resources: Resources


def create_app(
    settings: Settings,
    metrics: Metrics,
    engines: Engines | None = None,
    stopping: Stopping | None = None,
    page_directory: Path = dashboard.DIRECTORY,
    manual_directory: Path = manual.DIRECTORY,
) -> Starlette:
    """Return the application.

    Args:
        settings: See `Settings`.
        metrics: The metrics to count into.
        engines: The embedded engines, if any.
        stopping: Set when the collector begins to shut down.
        page_directory: Where the dashboard was built.
        manual_directory: Where the manual was built.

    Raises:
        SettingsError: It would be reachable from the network without an API key, or with one that is short.
    """
    refuse_to_be_open(settings)
    keyring = Keyring(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        async with opened(settings, engines, keyring, metrics) as resources:
            yield {"resources": resources}

    app = Starlette(
        routes=[
            *_routes(),
            *openapi.routes(OPERATIONS, settings, lambda: keyring.requires_key),
            *dashboard.routes(page_directory),
            *manual.routes(manual_directory),
        ],
        middleware=[
            Middleware(RequestLog, metrics=metrics),
            Middleware(Draining, stopping=stopping or Stopping(), retry_after_s=settings.retry_after_s),
            Middleware(SecurityHeaders),
            Middleware(
                Guard,
                settings=settings,
                keyring=keyring,
                rules=RULES,
                open_paths=(*dashboard.PATHS, *manual.PATHS),
            ),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception, Exception: on_crash},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would name the scheme and Host as this collector sees them
    return app


def refuse_to_be_open(settings: Settings) -> None:
    """Refuse to serve on an address that others can reach, without a required API key or with one that is short.

    Raises:
        SettingsError: the address is not loopback, and the settings require no API key, or one that can be guessed.
    """
    if settings.host in LOOPBACK:
        return
    if settings.api_key is not None and len(settings.api_key) < MIN_KEY_CHARS:
        raise SettingsError(
            f"--host {settings.host} is reachable from the network, and the bootstrap API key has fewer than "
            f"{MIN_KEY_CHARS} characters, so that it can be guessed: make one with `openssl rand -hex 32`"
        )
    is_key_required = settings.api_key is not None or settings.require_api_key
    if not is_key_required and not settings.insecure:
        raise SettingsError(
            f"--host {settings.host} is reachable from the network, and no API key protects it: set "
            "BRAIN_COLLECTOR_API_KEY or --api-key-file; or pass --require-api-key if API keys were created before; or "
            "pass --insecure if everyone who can reach it may read and write"
        )


def _routes() -> list[BaseRoute]:
    """Return one route per path, so that a 405 lists every supported method, and one per WebSocket."""
    routes: list[BaseRoute] = [
        WebSocketRoute(operation.path, operation.socket) for operation in OPERATIONS if operation.socket
    ]
    for path, operations in groupby(sorted(OPERATIONS, key=_order), key=lambda operation: operation.path):
        by_method = {operation.method: operation.endpoint for operation in operations}
        routes.append(_PathRoute(path, _Dispatch(by_method), methods=list(by_method)))
    return routes


class _PathRoute(Route):
    """The route of a path for every method: 405 for those that it does not support, whatever routes follow."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return Match.FULL if match is Match.PARTIAL else match, child_scope


class _Dispatch:
    """The application of one path. Starlette would wrap a function in another error handler; not so an object."""

    def __init__(self, by_method: dict[str, Endpoint]) -> None:
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, method = Request(scope, receive, send), scope["method"]
        if method not in {"GET", "HEAD"}:
            response = await self._by_method[method](request)
            await response(scope, receive, send)
            return
        with Answering(resources_of(request).answers, context_of(scope)):
            try:
                response = await self._by_method["GET"](request)
                await hold(request, response)
                await response(scope, receive, send)
            except ClientDisconnect:  # nobody is there to be answered
                pass


def _order(operation: Operation) -> tuple[bool, str]:
    """Sort fixed paths before those with a parameter, which would match them too."""
    return "{" in operation.path, operation.path


RULES: Final = tuple(
    Rule(operation.method, operation.path, operation.scope) for operation in sorted(OPERATIONS, key=_order)
)
