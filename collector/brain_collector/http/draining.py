"""The end of a collector as its clients see it: not ready, each answer closes its connection, and still it serves.

So load balancers take it out before it stops, and clients send nothing down a connection that is about to end.
"""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from brain_collector.errors import Unavailable
from brain_collector.http.problem import response
from brain_collector.http.scope import Stopping, context_of


def is_draining(connection: HTTPConnection) -> bool:
    """Tell whether the collector that answers this request is about to stop."""
    return context_of(connection.scope).stopping.begun


class Draining:
    """ASGI middleware: once stopping has begun, every answer ends its connection; what takes too long is a 503."""

    def __init__(self, app: ASGIApp, *, stopping: Stopping, retry_after_s: int) -> None:
        self._app = app
        self._stopping = stopping
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mark the request, and its answer as it is when it begins: stopping may begin in between."""
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
                return  # its client did not read; it is cut off
            if not self._stopping.begun:
                raise
            if is_begun:  # nor did this one
                context.connection.cut()
                return
            await response(self._refusal())(scope, receive, send_and_close)

    def _refusal(self) -> Unavailable:
        return Unavailable.send_again("the collector stops", self._retry_after_s)
