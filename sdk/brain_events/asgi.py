"""ASGI: log one event for each request, WebSocket connection, start and stop of an application.

Pure ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html): it reads no body, delays no message, and keeps the
state of a request in one object per request (`_adapters.asgi_exchange`).
"""

from collections.abc import Awaitable, Callable, Iterable

from brain_events._adapters.asgi_exchange import ASGIApp, Log, Message, Receive, Request, Scope, Send, Websocket
from brain_events._process.default import aflush, log_system_event
from brain_events.client import Client

SHUTDOWN_FLUSH_S = 2.0
SEEN = "brain_events.seen"
"""A scope key that marks a request as logged: if two middlewares are installed, only the outer one logs it."""


class EventsMiddleware:
    """Logs `http_request`, `websocket`, `error`, `system_startup` and `system_shutdown` events of an ASGI application.

    Add it last, so that it is the outermost middleware. Each request runs with `request_id` bound: the value of a valid
    `X-Request-ID` header, or else a new id. The response carries it in the same header. A valid `traceparent` header
    also binds `trace_id` and `span_id`. Exceptions are logged and raised again unchanged. If the client disconnects
    before the response starts, the status is 499; if it disconnects during the response, the event is marked with
    `disconnected`.

    Args:
        app: The application.
        exclude: Paths without events; a path that ends in `*` is a prefix.
        slow_ms: A request that takes longer than this, in milliseconds, is at least a `warning` and marked with
            `slow`; by default no request is.
        client: The client to log to; by default the one that `init` created.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        exclude: Iterable[str] = (),
        slow_ms: float | None = None,
        client: Client | None = None,
    ) -> None:
        paths = list(exclude)
        self.app = app
        self._excluded = frozenset(path for path in paths if not path.endswith("*"))
        self._excluded_prefixes = tuple(path[:-1] for path in paths if path.endswith("*"))
        self._slow_ms = float("inf") if slow_ms is None else slow_ms
        self._log: Log = client.log if client is not None else log_system_event
        self._flush = client.aflush if client is not None else aflush

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if SEEN in scope or (kind in {"http", "websocket"} and self._is_excluded(scope["path"])):
            await self.app(scope, receive, send)
            return
        scope[SEEN] = True
        if kind == "http":
            await Request(self._log, scope, receive, send, self._slow_ms).run(self.app)
        elif kind == "websocket":
            await Websocket(self._log, scope, receive, send).run(self.app)
        elif kind == "lifespan":
            await self.app(scope, receive, _Lifespan(self._log, self._flush, send).send)
        else:
            await self.app(scope, receive, send)

    def _is_excluded(self, path: str) -> bool:
        return path in self._excluded or path.startswith(self._excluded_prefixes)


class _Lifespan:
    """Logs start and stop of an application. If it does not support lifespan, it raises, and no event is logged."""

    def __init__(self, log: Log, flush: Callable[[float], Awaitable[bool]], send: Send) -> None:
        self.log, self.flush, self.forward = log, flush, send

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self.log("system_startup", "info", "application started")
            case "lifespan.startup.failed":
                self.log(
                    "system_startup", "critical", "application failed to start", {"reason": message.get("message")}
                )
            case "lifespan.shutdown.complete":
                self.log("system_shutdown", "info", "application stopped")
            case "lifespan.shutdown.failed":
                self.log("system_shutdown", "error", "application failed to stop", {"reason": message.get("message")})
        if message["type"].startswith("lifespan.shutdown."):
            # a client other than that of `init` is not closed when uvicorn raises SIGTERM again after this message
            await self.flush(SHUTDOWN_FLUSH_S)
        await self.forward(message)
