"""One HTTP request or WebSocket connection: its state while it runs, and the event that is logged when it ends."""

import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from brain_events._record.trace import parse_traceparent
from brain_events.context import bound

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Log = Callable[..., None]

UNMATCHED = "<unmatched>"
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnected before the response
REQUEST_ID_HEADER = b"x-request-id"
_BODIES = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{8,128}")


class Exchange:
    """One request or WebSocket connection, from its scope to its end."""

    def __init__(self, log: Log, scope: Scope, receive: Receive, send: Send) -> None:
        self.log, self.scope, self.receive_next, self.forward = log, scope, receive, send
        self.started_at = time.perf_counter()
        self.request_id, self.trace = _ids_of(scope)
        self.disconnected = False
        self.logged = False

    async def run(self, app: ASGIApp) -> None:
        with bound(request_id=self.request_id.decode(), **self.trace):
            try:
                await app(self.scope, self.receive, self.send)
            except Exception as error:
                self.finish(failed=self.log_error(error))
                raise
            except BaseExceptionGroup as group:  # cancelled tasks, perhaps together with failed ones
                errors = group.subgroup(Exception)
                if errors is not None:
                    self.log_error(errors)
                self.finish(failed=errors is not None)
                raise
            except BaseException:
                self.disconnected = True  # cancelled by a server whose client disconnected, or that shuts down
                self.finish()
                raise
            self.finish()

    def log_error(self, error: BaseException) -> bool:
        """Log an exception; return False if it is only the failure to send to a client that has disconnected."""
        if self.disconnected and isinstance(error, OSError):
            return False
        self.log("error", "error", f"{type(error).__name__} in {self.route()}", self.facts(), exc_info=error)
        return True

    def finish(self, *, failed: bool = False) -> None:
        if not self.logged:
            self.logged = True
            self.log_end(failed=failed)

    def route(self) -> str:
        """Return the route's template, mounts included; never the raw path, which has unlimited values."""
        # FastAPI's route of an included router lacks the prefix of that router; its context in the scope has it.
        included = self.scope.get("fastapi", {}).get("effective_route_context")
        route = included or self.scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
        if not isinstance(path, str):
            return UNMATCHED
        root = str(self.scope.get("root_path", ""))
        mounted_at = root.removeprefix(str(self.scope.get("app_root_path", root)))
        if hasattr(route, "routes"):  # the mount itself, around an application without routes
            mounted_at = mounted_at.removesuffix(getattr(route, "path", ""))
        return mounted_at + path

    def facts(self) -> dict[str, Any]:
        duration_ms = round((time.perf_counter() - self.started_at) * 1000, 3)
        return {"method": self.scope.get("method", ""), "route": self.route(), "duration_ms": duration_ms}

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        raise NotImplementedError

    def log_end(self, *, failed: bool) -> None:
        raise NotImplementedError


class Request(Exchange):
    """An HTTP request. It ends with the last byte of the response, whatever the application does afterwards."""

    status = 0  # until the response starts
    has_trailers = False
    is_complete = False

    def __init__(self, log: Log, scope: Scope, receive: Receive, send: Send, slow_ms: float) -> None:
        super().__init__(log, scope, receive, send)
        self.slow_ms = slow_ms

    async def receive(self) -> Message:
        message = await self.receive_next()
        if message["type"] == "http.disconnect":
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self.with_request_id(message)
        try:
            await self.forward(message)
        except OSError:
            self.disconnected = True
            raise
        if kind == "http.response.start":
            self.status = message["status"]
            self.has_trailers = message.get("trailers", False)
        elif self.is_last(kind, message):
            self.is_complete = True
            self.finish()

    def is_last(self, kind: str, message: Message) -> bool:
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind in _BODIES and not message.get("more_body", False) and not self.has_trailers

    def with_request_id(self, message: Message) -> Message:
        headers = list(message.get("headers", ()))
        if any(name.lower() == REQUEST_ID_HEADER for name, _ in headers):
            return message
        return {**message, "headers": [*headers, (REQUEST_ID_HEADER, self.request_id)]}

    def log_end(self, *, failed: bool) -> None:
        status = self.status or (CLIENT_CLOSED_REQUEST if self.disconnected else 500)  # as an outer handler responds
        facts = self.facts()
        message = f"{facts['method']} {facts['route']} {status}"
        facts["status"] = status
        is_slow = facts["duration_ms"] > self.slow_ms
        if is_slow:
            facts["slow"] = True
        if self.status and self.disconnected and not self.is_complete:
            facts["disconnected"] = True
        if status >= 500 or (failed and not self.disconnected):
            severity = "error"
        else:
            severity = "warning" if status >= 400 or is_slow else "info"
        self.log("http_request", severity, message, facts)


class Websocket(Exchange):
    """A WebSocket connection, from its handshake to its close."""

    accepted = False
    code: int | None = None

    async def receive(self) -> Message:
        message = await self.receive_next()
        if message["type"] == "websocket.disconnect":
            self.disconnected = True
            self.code = message.get("code", 1005) if self.code is None else self.code
        return message

    async def send(self, message: Message) -> None:
        try:
            await self.forward(message)
        except OSError:
            self.disconnected = True
            raise
        if message["type"] == "websocket.accept":
            self.accepted = True
        elif message["type"] == "websocket.close":
            self.code = message.get("code", 1000) if self.code is None else self.code

    def log_end(self, *, failed: bool) -> None:
        facts = self.facts() | {"accepted": self.accepted, "code": self.code}
        del facts["method"]
        self.log("websocket", "error" if failed else "info", f"websocket {facts['route']}", facts)


def _ids_of(scope: Scope) -> tuple[bytes, dict[str, str]]:
    """Return the request id, and the ids of the `traceparent` header; two such headers are invalid."""
    request_id, trace, traceparents = b"", {}, 0
    for name, value in scope.get("headers", ()):
        if name == REQUEST_ID_HEADER and not request_id and _REQUEST_ID.fullmatch(value):
            request_id = bytes(value)
        elif name == b"traceparent":
            traceparents += 1
            trace = parse_traceparent(value)
    return request_id or os.urandom(8).hex().encode(), trace if traceparents == 1 else {}
