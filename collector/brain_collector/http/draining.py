"""Draining before shutdown: the collector is not ready, still serves, and closes each connection after its response.

So load balancers remove it before it stops, and clients do not reuse a connection that is about to close.
"""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_collector.errors import Unavailable
from brain_collector.http.problem import response
from brain_collector.http.scope import Stopping, context_of


def is_draining(connection: HTTPConnection) -> bool:
    """Return whether the collector that handles this request is shutting down."""
    return context_of(connection.scope).stopping.begun


class Draining:
    """ASGI middleware: during shutdown, each response closes its connection, and a cancelled request gets a 503."""

    def __init__(self, app: ASGIApp, *, stopping: Stopping, retry_after_s: int) -> None:
        self._app = app
        self._stopping = stopping
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; look at `stopping` when the response begins, since shutdown may begin in between."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        context.stopping = self._stopping

        is_begun = False

        async def send_and_close(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            if message["type"] == "http.response.start" and self._stopping.begun:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_and_close)
        except asyncio.CancelledError:  # by uvicorn, after `drain_s`
            if scope["type"] == "websocket" and self._stopping.begun:
                return  # the client did not read; the connection is closed
            if not self._stopping.begun:
                raise
            if is_begun:  # this client did not read either
                context.connection.abort_response()
                return
            await response(self._refusal())(scope, receive, send_and_close)

    def _refusal(self) -> Unavailable:
        return Unavailable.send_again("the collector is shutting down", self._retry_after_s)
