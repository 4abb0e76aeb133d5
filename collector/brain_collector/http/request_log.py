"""The outermost layer of the application: every request gets an id, is timed, counted and, at level info, logged."""

import logging
import random
import re
import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars
from uvicorn.protocols.utils import ClientDisconnected

from brain_collector.http.problem import REQUEST_ID_HEADER
from brain_collector.http.scope import context_of
from brain_collector.metrics import REQUEST_SECONDS, REQUESTS, Metrics

MAX_PATH_CHARS: Final = 200
"""How much of a path is logged: anyone may send 64 KiB of it."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
ANSWERS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
"""What has the headers of an answer. A WebSocket is accepted with status `SWITCHED`."""
SWITCHED: Final = 101
_GOOD_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger: Final = logging.getLogger(__name__)


def request_id_of(headers: Headers) -> str:
    """Return the client's id of a request if that is fit to be logged, else a new one."""
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _GOOD_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


class RequestLog:
    """ASGI middleware; see `request_id_of` for the id."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; count what came of it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        context_of(scope).request_id = request_id = request_id_of(Headers(scope=scope))
        bind_contextvars(request_id=request_id)  # the context is the request's own: uvicorn runs each in a task
        began_s = time.perf_counter()
        status = "none"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in ANSWERS:
                status = str(message.get("status", SWITCHED))
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnected:  # from a WebSocket, before its answer
            raise
        except Exception:
            status = "500"  # answered further out, by `problem.on_crash`
            raise
        finally:
            self._count(scope, status, time.perf_counter() - began_s)

    def _count(self, scope: Scope, status: str, took_s: float) -> None:
        method = scope.get("method", "GET")  # that of a WebSocket
        method = method if method in METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.add(REQUESTS, method, route, status)
        self._metrics.observe(REQUEST_SECONDS, took_s, method, route)
        if logger.isEnabledFor(logging.INFO):
            path = scope["path"][:MAX_PATH_CHARS]
            extra = {"method": method, "path": path, "status": status, "ms": round(took_s * 1000, 1)}
            logger.info("request", extra=extra)
