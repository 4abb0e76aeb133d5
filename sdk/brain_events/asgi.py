"""ASGI: requests, websockets, start and stop of an application pass through untouched, and leave one event each.

Pure ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html): it reads no body, holds no message back, and keeps
what it knows of a request in an object of that request (`_exchange`).
"""

from collections.abc import Awaitable, Callable, Iterable

from brain_events._adapters.asgi_exchange import ASGIApp, Log, Message, Receive, Request, Scope, Send, Websocket
from brain_events._process.default import aflush, log_system_event
from brain_events.client import Client

SHUTDOWN_FLUSH_S = 2.0
SEEN = "brain_events.seen"
"""A key of a scope that a middleware watches already: where two are installed, the outer one tells of a request."""


class EventsMiddleware:
    """Logs `http_request`, `websocket`, `error`, `system_startup` and `system_shutdown` events of an ASGI application.

    Add it last, so that it stands outermost. Each request runs with `request_id` bound: the id of a valid
    `X-Request-ID` header or a new one, which is also sent back; a valid `traceparent` header adds `trace_id` and
    `span_id`. Exceptions are logged and raised on unchanged. A request whose client left before the answer began has
    status 499; one whose client left in the middle of the answer is marked as `disconnected`.

    Args:
        app: The application.
        exclude: Paths that leave no event: exact, or prefixes that end in `*`.
        slow_ms: A request that takes longer is at least a `warning`, and marked as `slow`; None: none is.
        client: Where to log, else the client that `init` made.
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
    """Watches an application start and stop. One that knows no lifespan raises, and servers go on without: no event."""

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
            # uvicorn re-raises SIGTERM after this message, and the process ends without atexit
            await self.flush(SHUTDOWN_FLUSH_S)
        await self.forward(message)
