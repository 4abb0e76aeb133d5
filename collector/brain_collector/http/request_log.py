"""The outermost layer of the application: it gives every request an id, and times, counts and logs it (level info)."""

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
"""Maximum length of a path in the log: a client may send up to 64 KiB."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
RESPONSE_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
"""The messages that have the headers of a response. Accepting a WebSocket is status `SWITCHING_PROTOCOLS`."""
SWITCHING_PROTOCOLS: Final = 101
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

logger: Final = logging.getLogger(__name__)


def request_id_of(headers: Headers) -> str:
    """Return the id that the client sent if it is safe to log, else a new one."""
    sent = headers.get(REQUEST_ID_HEADER, "")
    return sent if _ACCEPTED_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"


class RequestLog:
    """ASGI middleware that assigns request ids, and counts and logs requests."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; count and log it when it ends."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        context_of(scope).request_id = request_id = request_id_of(Headers(scope=scope))
        bind_contextvars(request_id=request_id)  # the context is the request's own: uvicorn runs each in a task
        began_s = time.perf_counter()
        status = "none"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in RESPONSE_STARTS:
                status = str(message.get("status", SWITCHING_PROTOCOLS))
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnected:  # of a WebSocket, before the response
            raise
        except Exception:
            status = "500"  # `problem.on_crash` responds, outside this middleware
            raise
        finally:
            self._count(scope, status, time.perf_counter() - began_s)

    def _count(self, scope: Scope, status: str, took_s: float) -> None:
        method = scope.get("method", "GET")  # a WebSocket has none
        method = method if method in METHODS else "other"
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.add(REQUESTS, method, route, status)
        self._metrics.observe(REQUEST_SECONDS, took_s, method, route)
        if logger.isEnabledFor(logging.INFO):
            path = scope["path"][:MAX_PATH_CHARS]
            extra = {"method": method, "path": path, "status": status, "ms": round(took_s * 1000, 1)}
            logger.info("request", extra=extra)
