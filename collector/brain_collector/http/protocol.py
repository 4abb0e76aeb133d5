"""One HTTP connection: uvicorn's protocol, within bounds of time, bytes and requests that it does not have itself.

Requests come one after another: one that is sent before the answer to the one before (pipelining) is not looked at,
the connection ends after that answer, and the client sends it again (RFC 9112, section 9.3.2).
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from brain_collector.errors import HeadTooLarge, HeadTooSlow, Problem, RequestMalformed, Unavailable
from brain_collector.http.buffered_transport import BufferedTransport
from brain_collector.http.connection_limit import Admission, ConnectionLimit
from brain_collector.http.head_limits import HeadLimits
from brain_collector.http.problem import raw, response
from brain_collector.http.request_log import RequestLog, request_id_of
from brain_collector.http.scope import begin_request, context_of
from brain_collector.http.websocket_protocol import WebSocketProtocol, is_asked_for
from brain_collector.settings import Settings

LINGER_S: Final = 1.0
"""How long a client that was refused may still send, unread: it would miss the answer if we closed at once."""

LAST_PART: Final = 0.9
"""When, in `drain_s`, who does not read is cut off: at its end uvicorn ends what is left, and complains of it."""

logger: Final = logging.getLogger(__name__)


class _Pipelined(Exception):  # noqa: N818 - no error, a signal to our own `data_received`
    """A request began before the answer to the one before."""


class HttpProtocol(HttpToolsProtocol):
    """As uvicorn's, but bounded.

    - A head (request line and headers) has a deadline, a size and a number of headers. So have trailers.
    - The rest of a body that was answered early has a deadline, and so has a client that does not read.
    - What the parser lets pass, and RFC 9112 does not, is refused. Refusals look like all of ours.
    """

    def __init__(
        self,
        settings: Settings,
        door: ConnectionLimit,
        open_paths: frozenset[str],
        sockets: frozenset[bytes],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._door = door
        self._open_paths = open_paths
        self._sockets = sockets
        self._place = Admission.FREE
        self._deaf = False  # what still comes is dropped
        self._begun = False  # something of a head is there
        self._in_message = False  # the head is complete, the body is not
        self._heard = False  # the parser called back
        self._head = HeadLimits(settings)
        self.disconnected: asyncio.Future[None] = self.loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    # -- from the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._buffered = BufferedTransport(transport, self.loop)
        self._place = self._door.enter(self)
        if self._place is Admission.FULL:
            transport.write(self._answer(self._crowd(), reason="full"))
            self._deaf = True
            transport.close()
            return
        if self._place is Admission.CROWDED:
            self.app = self._serve_probes_only
        self._start_timer(self._settings.head_deadline_s, self._end_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self)
        self.disconnected.set_result(None)
        self._stop_timer()
        self._stop_waiting_for_reader()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._heard = False
        try:
            self.parser.feed_data(data)
            if self._heard:
                self._head.heard()
            else:
                self._head.add_unfinished(len(data))
        except HeadTooLarge as error:
            self._fail(error)
        except HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._hang_up_after_answer()  # there is HTTP/1.1 only, and what follows is something else
        except HttpParserError as error:
            self._fail_to_parse(error)
        else:
            if self._is_between_requests and self._timer is None and self.timeout_keep_alive_task is None:
                self._start_timer(self._settings.head_deadline_s, self._end_head)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._stop_waiting_for_reader()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        self.shed()  # also with an answer half read: it has had longer than any that is

    # -- from the parser

    def on_message_begin(self) -> None:
        self._heard = self._begun = True
        if not self._is_answered:
            raise _Pipelined
        self._unset_keepalive_if_required()
        self._head.begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._heard = True
        self._head.add_url(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._heard = True
        self._head.add_header(name, value)
        if not self._in_message:  # trailers are counted, and dropped
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._heard = True
        self._head.check(self.parser.get_http_version(), self.headers)
        self._stop_timer()
        self._door.works(self)
        begin_request(cast("Scope", self.scope), self)
        super().on_headers_complete()
        self._begun, self._in_message = False, True
        if self.cycle is not None:
            self.cycle.transport = cast("asyncio.Transport", self._buffered)
        if self._place is Admission.CROWDED:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._heard = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._heard = True
        self._in_message = False
        context_of(cast("Scope", self.scope)).is_body_complete = True
        super().on_message_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        if self.cycle.response_complete:  # it was answered early, and now its rest has come
            self._stop_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _should_upgrade(self) -> bool:
        """Tell whether there is a WebSocket to be had; elsewhere the answer is in HTTP (RFC 9110, section 7.8)."""
        return (
            self._place is Admission.FREE
            and self.url.partition(b"?")[0] in self._sockets
            and is_asked_for(self.scope["method"], self.scope["http_version"], self.headers)
        )

    def handle_websocket_upgrade(self) -> None:
        """Give the connection away, but for its place at the door."""
        self._stop_waiting_for_reader()
        upgraded = partial(WebSocketProtocol, self._settings, partial(self._door.leave, self), self._answer)
        self.ws_protocol_class = cast("type[asyncio.Protocol]", upgraded)  # it is only called
        super().handle_websocket_upgrade()
        self.ws_protocol_class = None  # no cycle is left
        self.parser = None  # type: ignore[assignment]  # as uvicorn does
        if self.flow.write_paused:
            self.transport.get_protocol().pause_writing()

    # -- from the application

    def on_response_complete(self) -> None:
        self._buffered.flush()  # of an answer without a body
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._wait_for_reader()
            return
        self._door.waits(self)
        if self._in_message:  # answered early: the client may still be sending, and would miss the answer if we closed
            self._unset_keepalive_if_required()
            self._start_timer(self._settings.body_deadline_s, self.shed)

    async def _serve_probes_only(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.config.loaded_app
        if scope["path"] not in self._open_paths:
            self._door.turned_away("crowded")
            app = RequestLog(self._say_crowd, metrics=self._door.metrics)
        await app(scope, receive, send)

    async def _say_crowd(self, scope: Scope, receive: Receive, send: Send) -> None:
        await response(self._crowd())(scope, receive, send)

    # -- from the server

    def shutdown(self) -> None:
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(LAST_PART * self._settings.drain_s, self._cut_if_unread)

    def _cut_if_unread(self) -> None:
        if self.flow.write_paused:
            self.cut()

    # -- for the application (`ClientConnection`)

    def decline_body(self) -> None:
        self.cycle.waiting_for_100_continue = False

    def cut(self) -> None:
        self.cycle.disconnected = True  # from now on, else uvicorn would log that the answer has no end
        self.shed()

    # -- ends

    def shed(self) -> None:
        """End at once; whoever waits has nothing to lose."""
        self.transport.abort()

    def _end_head(self) -> None:
        """End a connection that did not say in time what it wants; one that said nothing is owed nothing."""
        if self._begun:
            self._fail(HeadTooSlow(f"the request's headers took longer than {self._settings.head_deadline_s:g} s"))
        else:
            self._door.turned_away("silent")
            self.shed()

    def _hang_up_after_answer(self) -> None:
        self._deaf = True
        self.cycle.keep_alive = False

    def _fail_to_parse(self, error: HttpParserError) -> None:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else None
        if isinstance(cause, _Pipelined):
            self._hang_up_after_answer()
        elif isinstance(cause, Problem):
            self._fail(cause)
        else:
            self._fail(RequestMalformed(f"the request is no valid HTTP/1.1: {cause or error}"))

    def _fail(self, problem: Problem) -> None:
        """Answer a request that cannot go on, unless it has an answer already or is behind one that has none yet."""
        if self._is_between_requests:
            self._refuse(problem)
        elif self._is_answered or self.cycle.response_started:
            self.shed()
        elif not self._in_message:
            self._hang_up_after_answer()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(problem)

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # it is None at first

    @property
    def _is_between_requests(self) -> bool:
        return self._is_answered and not self._in_message

    def _refuse(self, problem: Problem) -> None:
        self._deaf = True
        self._unset_keepalive_if_required()
        self._door.waits(self)
        self.flow.resume_reading()
        self._buffered.flush()  # 100 Continue
        self.transport.write(self._answer(problem))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_timer(LINGER_S, self.shed)

    def _answer(self, problem: Problem, *, reason: str = "") -> bytes:
        """Return the answer of a problem as it travels; count it, and log it under its id."""
        request_id = self._request_id()
        self._door.turned_away(reason or problem.code)
        logger.info("request refused", extra={"code": problem.code, "detail": str(problem), "request_id": request_id})
        return raw(problem, request_id)

    def _request_id(self) -> str:
        """Return the id of the request at hand, as far as it has come."""
        if not (self._begun or self._in_message):
            return request_id_of(Headers())
        return context_of(cast("Scope", self.scope)).request_id or request_id_of(Headers(raw=self.headers))

    def _crowd(self) -> Unavailable:
        retry_after_s = self._settings.retry_after_s
        return Unavailable(
            f"{self._door.max_connections:,} connections are being served, as many as may be "
            f"(BRAIN_COLLECTOR_MAX_CONNECTIONS); try again in {retry_after_s} s",
            retry_after_s=retry_after_s,
        )

    # -- timers

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for_reader(self) -> None:
        self._stop_waiting_for_reader()
        self._unread_timer = self.loop.call_later(self._settings.answer_deadline_s, self.shed)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
