"""ASGI: requests, websockets, start and stop of an application pass through untouched, and leave one event each.

Pure ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html): it reads no body, holds no message back, and keeps
what it knows of a request in an object of that request.
"""

import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from brain_events._default import flush, log_system_event
from brain_events.client import Client
from brain_events.context import bound

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Log = Callable[..., None]

UNMATCHED = "<unmatched>"
SHUTDOWN_FLUSH_S = 2.0
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that left before the answer
REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{8,128}")


class EventsMiddleware:
    """Logs `http_request`, `websocket`, `error`, `system_startup` and `system_shutdown` events of an ASGI application.

    Add it last, so that it stands outermost. Each request runs with `request_id` bound: the id of a valid
    `X-Request-ID` header or a new one, which is also sent back. Exceptions are logged and raised on unchanged.

    Args:
        app: The application.
        exclude: Paths that leave no event: exact, or prefixes that end in `*`.
        client: Where to log, else the client that `init` made.
    """

    def __init__(self, app: ASGIApp, *, exclude: Iterable[str] = (), client: Client | None = None) -> None:
        paths = list(exclude)
        self.app = app
        self._excluded = frozenset(path for path in paths if not path.endswith("*"))
        self._excluded_prefixes = tuple(path[:-1] for path in paths if path.endswith("*"))
        self._log: Log = client.log if client is not None else log_system_event
        self._flush = client.flush if client is not None else flush

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _Lifespan(self._log, self._flush, send).send)
        elif scope["type"] in {"http", "websocket"} and not self._is_excluded(scope["path"]):
            await (_Request if scope["type"] == "http" else _Websocket)(self._log, scope, receive, send).run(self.app)
        else:
            await self.app(scope, receive, send)

    def _is_excluded(self, path: str) -> bool:
        return path in self._excluded or path.startswith(self._excluded_prefixes)


class _Lifespan:
    """Watches an application start and stop. One that knows no lifespan raises, and servers go on without: no event."""

    def __init__(self, log: Log, flush: Callable[[float], bool], send: Send) -> None:
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
            # uvicorn re-raises SIGTERM after this message, and the process ends without atexit. All requests are over,
            # so that a wait on the event loop holds up nobody.
            self.flush(SHUTDOWN_FLUSH_S)
        await self.forward(message)


class _Exchange:
    """One request or websocket, from its scope to its end."""

    def __init__(self, log: Log, scope: Scope, receive: Receive, send: Send) -> None:
        self.log, self.scope, self.receive_next, self.forward = log, scope, receive, send
        self.began = time.perf_counter()
        self.request_id = _request_id_of(scope)
        self.client_left = False
        self.logged = False

    async def run(self, app: ASGIApp) -> None:
        with bound(request_id=self.request_id.decode()):
            try:
                await app(self.scope, self.receive, self.send)
            except Exception as error:
                self.log_error(error)
                self.finish(failed=True)
                raise
            except BaseException:
                self.client_left = True  # cancelled: by a server whose client went away, or that stops
                self.finish()
                raise
            self.finish()

    def log_error(self, error: Exception) -> None:
        if self.client_left and isinstance(error, OSError):
            return  # a send to nobody: no fault of the application
        self.log("error", "error", f"{type(error).__name__} in {self.route()}", self.facts(), exc_info=error)

    def finish(self, *, failed: bool = False) -> None:
        if not self.logged:
            self.logged = True
            self.log_end(failed=failed)

    def route(self) -> str:
        """Return the route's template, mounts included; never the raw path, which has no end of values."""
        # FastAPI's route of an included router lacks the prefix it was included under; the context beside it has it.
        included = self.scope.get("fastapi", {}).get("effective_route_context")
        route = included or self.scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
        if not isinstance(path, str):
            return UNMATCHED
        root = str(self.scope.get("root_path", ""))
        mounted_at = root.removeprefix(str(self.scope.get("app_root_path", root)))
        if hasattr(route, "routes"):  # the mount itself: what it holds has no routes
            mounted_at = mounted_at.removesuffix(getattr(route, "path", ""))
        return mounted_at + path

    def facts(self) -> dict[str, Any]:
        duration_ms = round((time.perf_counter() - self.began) * 1000, 3)
        return {"method": self.scope.get("method", ""), "route": self.route(), "duration_ms": duration_ms}

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        raise NotImplementedError

    def log_end(self, *, failed: bool) -> None:
        raise NotImplementedError


class _Request(_Exchange):
    """An HTTP request; it is over with the last byte of its answer, whatever the application does after that."""

    status = 0  # not answered yet

    async def receive(self) -> Message:
        message = await self.receive_next()
        if message["type"] == "http.disconnect":
            self.client_left = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self.with_request_id(message)
        try:
            await self.forward(message)
        except OSError:
            self.client_left = True
            raise
        if kind == "http.response.start":
            self.status = message["status"]
        elif kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body", False)):
            self.finish()

    def with_request_id(self, message: Message) -> Message:
        headers = list(message.get("headers", ()))
        if any(name.lower() == REQUEST_ID_HEADER for name, _ in headers):
            return message
        return {**message, "headers": [*headers, (REQUEST_ID_HEADER, self.request_id)]}

    def log_end(self, *, failed: bool) -> None:
        if self.status:
            status = self.status
        elif self.client_left:
            status = CLIENT_CLOSED_REQUEST
        else:  # an outer handler answers so, or the server
            status = 500
        severity = (
            "error" if status >= 500 or (failed and not self.client_left) else "warning" if status >= 400 else "info"
        )
        facts = self.facts()
        self.log("http_request", severity, f"{facts['method']} {facts['route']} {status}", {**facts, "status": status})


class _Websocket(_Exchange):
    """A websocket, from its handshake to its close."""

    accepted = False
    code: int | None = None

    async def receive(self) -> Message:
        message = await self.receive_next()
        if message["type"] == "websocket.disconnect":
            self.client_left = True
            self.code = message.get("code", 1005) if self.code is None else self.code
        return message

    async def send(self, message: Message) -> None:
        await self.forward(message)
        if message["type"] == "websocket.accept":
            self.accepted = True
        elif message["type"] == "websocket.close":
            self.code = message.get("code", 1000) if self.code is None else self.code

    def log_end(self, *, failed: bool) -> None:
        facts = self.facts() | {"accepted": self.accepted, "code": self.code}
        del facts["method"]
        self.log("websocket", "error" if failed else "info", f"websocket {facts['route']}", facts)


def _request_id_of(scope: Scope) -> bytes:
    for name, value in scope.get("headers", ()):
        if name == REQUEST_ID_HEADER and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(8).hex().encode()
