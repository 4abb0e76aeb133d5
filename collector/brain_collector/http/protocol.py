"""The protocol of an HTTP connection: uvicorn's, with the limits on time, bytes and requests that it lacks.

Requests are handled one after another. A request that is sent before the response to the previous one (pipelining) is
not read: the connection is closed after that response, and the client sends the request again (RFC 9112, section
9.3.2).
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from starlette.datastructures import Headers
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from brain_collector.errors import HeadTooLarge, HeadTooSlow, Problem, RequestMalformed
from brain_collector.http.arriving_heads import ArrivingHeads
from brain_collector.http.buffered_transport import BufferedTransport
from brain_collector.http.connection_limit import Admission, ConnectionLimit
from brain_collector.http.head_limits import HeadLimits
from brain_collector.http.probes_only import ProbesOnly, limit_reached
from brain_collector.http.problem import raw
from brain_collector.http.request_log import request_id_of
from brain_collector.http.scope import begin_request, context_of
from brain_collector.http.timer import Timer
from brain_collector.http.websocket_protocol import WebSocketProtocol, is_websocket_request
from brain_collector.settings import Settings

LINGER_S: Final = 1.0
"""How long a refused client may still send, unread: closing at once could make it lose the response."""

DISCARD_PAUSE_S: Final = 0.01
"""The pause after each piece that is discarded: a client that never stops sending gets at most 25 MB/s."""
MAX_REST_BYTES: Final = 64 * 2**10
"""How much of a body is read on after an early response, so that the connection can be used again."""
FREE_CHUNKS: Final = 1_024
MIN_CHUNK_BYTES: Final = 64
"""The least average size of the chunks of a body, beyond the first `FREE_CHUNKS`: each costs time, however small."""

UNREAD_SHARE: Final = 0.9
"""The share of `drain_s` after which unread responses are aborted: at its end, uvicorn would log them as errors."""

logger: Final = logging.getLogger(__name__)


class _Pipelined(Exception):  # noqa: N818 - not an error, a signal to `data_received`
    """A request began before the response to the previous one."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    - A head (request line and headers) has a deadline, a maximum size and a maximum number of headers; so do trailers.
    - The rest of a body has a deadline and a maximum if the response was early; a client that does not read has a
      deadline too. Very small chunks are refused.
    - Until its body has arrived completely, a request does not keep its connection if all others are active.
    - What the parser accepts although RFC 9112 forbids it is refused. All refusals have the same form.
    """

    def __init__(
        self,
        settings: Settings,
        limit: ConnectionLimit,
        heads: ArrivingHeads,
        probe_paths: frozenset[str],
        websocket_paths: frozenset[bytes],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self._limit = limit
        self._heads = heads
        self._probe_paths = probe_paths
        self._websocket_paths = websocket_paths
        self._admission = Admission.FREE
        self._discards_input = False
        self._is_in_head = False  # a part of a head was received
        self._is_in_body = False  # the head is complete, the body is not
        self._parser_made_progress = False  # it made a callback
        self._n_chunks = 0
        self._n_body_bytes = 0
        self._n_rest_bytes = 0  # received of a body after the response to it
        self._head = HeadLimits(settings)
        self.disconnected: asyncio.Future[None] = self.loop.create_future()
        self._timer = Timer(self.loop)
        self._unread_timer = Timer(self.loop)
        self._when_sent: list[Callable[[], None]] = []

    # -- called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._buffered = BufferedTransport(transport, self.loop)
        self._admission = self._limit.admit(self)
        if self._admission is Admission.FULL:
            transport.write(self._refusal(limit_reached(self._limit, self._settings.retry_after_s), reason="full"))
            self._discards_input = True
            transport.close()
            return
        if self._admission is Admission.CROWDED:
            self.app = ProbesOnly(
                self.config.loaded_app,
                paths=self._probe_paths,
                limit=self._limit,
                retry_after_s=self._settings.retry_after_s,
            )
        self._timer.start(self._settings.head_deadline_s, self._head_deadline_passed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit.release(self)
        self._heads.remove(self)
        self.disconnected.set_result(None)
        self._timer.stop()
        self._unread_timer.stop()
        self._unset_keepalive_if_required()
        self._tell_sent()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._discards_input or self._is_rest_too_large(len(data)):
            self.flow.pause_reading()
            self.loop.call_later(DISCARD_PAUSE_S, self.flow.resume_reading)
            return
        self._unset_keepalive_if_required()
        self._parser_made_progress = False
        try:
            self.parser.feed_data(data)
            if self._parser_made_progress:
                self._head.finish()
            else:
                self._head.add_unfinished(len(data))
        except HeadTooLarge as error:
            self._fail(error)
        except HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._close_after_response()  # only HTTP/1.1 is supported, and another protocol would follow
        except HttpParserError as error:
            self._fail_to_parse(error)
        else:
            if self._is_in_head or not self._parser_made_progress:  # a head, or the trailers of a body
                self._heads.add(self, len(data))
            if self._is_between_requests and not self._timer.is_started and self.timeout_keep_alive_task is None:
                self._timer.start(self._settings.head_deadline_s, self._head_deadline_passed)

    def _is_rest_too_large(self, n_bytes: int) -> bool:
        """Count what a client still sends of a body after the response to it; end the connection if it is too much."""
        if not (self._is_in_body and self._has_responded):
            return False
        self._n_rest_bytes += n_bytes
        if self._n_rest_bytes <= MAX_REST_BYTES:
            return False
        self._limit.count_refusal("rest_too_large")
        self._end_unread(self._settings.body_stall_s)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        self._unread_timer.stop()
        super().resume_writing()
        self._tell_sent()

    def timeout_keep_alive_handler(self) -> None:
        self.abort()  # even if the client is still reading: it had longer than the deadline for reading

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._parser_made_progress = self._is_in_head = True
        if not self._has_responded:
            raise _Pipelined
        self._unset_keepalive_if_required()
        self._head.begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._parser_made_progress = True
        self._head.add_url(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parser_made_progress = True
        self._head.add_header(name, value)
        if not self._is_in_body:  # trailers are counted and discarded
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._parser_made_progress = True
        self._head.check(self.parser.get_http_version(), self.url, self.headers)
        self._timer.stop()
        self._heads.remove(self)
        self._limit.mark_arriving(self)
        self._n_chunks = self._n_body_bytes = self._n_rest_bytes = 0
        begin_request(cast("Scope", self.scope), self)
        super().on_headers_complete()
        self._is_in_head, self._is_in_body = False, True
        if self.cycle is not None:
            self.cycle.transport = cast("asyncio.Transport", self._buffered)
        if self._admission is Admission.CROWDED:
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        self._n_chunks += 1
        if self._n_chunks > FREE_CHUNKS and self._n_chunks * MIN_CHUNK_BYTES > self._n_body_bytes:
            raise RequestMalformed(
                f"the {self._n_chunks:,} chunks of the body have less than {MIN_CHUNK_BYTES} bytes on average; send "
                "larger chunks, or a Content-Length"
            )

    def on_body(self, body: bytes) -> None:
        self._parser_made_progress = True
        self._n_body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._parser_made_progress = True
        self._is_in_body = False
        self._heads.remove(self)
        context_of(cast("Scope", self.scope)).is_body_complete = True
        super().on_message_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            self._limit.mark_active(self)
            return
        if not self.cycle.response_complete:
            self._limit.mark_active(self)
        else:  # the response was early, and the rest of the body has arrived now
            self._timer.stop()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _should_upgrade(self) -> bool:
        """Return whether the request can become a WebSocket; others get an HTTP response (RFC 9110, section 7.8).

        Not while the client has yet to read the last response: its memory is reserved until this protocol sees it sent.
        """
        return (
            self._admission is Admission.FREE
            and not self.flow.write_paused
            and self.url.partition(b"?")[0] in self._websocket_paths
            and is_websocket_request(self.scope["method"], self.scope["http_version"], self.headers)
        )

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to a `WebSocketProtocol`, which releases its place in the connection limit."""
        self._unread_timer.stop()
        protocol = partial(WebSocketProtocol, self._settings, partial(self._limit.release, self), self._refusal)
        self.ws_protocol_class = cast("type[asyncio.Protocol]", protocol)  # uvicorn only calls it
        super().handle_websocket_upgrade()
        self.ws_protocol_class = None  # breaks a reference cycle
        self.parser = None  # type: ignore[assignment]  # as uvicorn does

    # -- called by the application

    def on_response_complete(self) -> None:
        self._buffered.flush()  # a response without a body
        super().on_response_complete()
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._start_unread_timer()
            return
        self._limit.mark_idle(self)
        if self._is_in_body:  # the client may still be sending: closing at once could make it lose the response
            self._unset_keepalive_if_required()
            self._timer.start(self._settings.body_deadline_s, self.abort)

    # -- called by the server

    def shutdown(self) -> None:
        super().shutdown()
        if not self.transport.is_closing():
            self.loop.call_later(UNREAD_SHARE * self._settings.drain_s, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        if self.flow.write_paused:
            self.abort_response()

    # -- as `ClientConnection`

    def decline_body(self) -> None:
        self.cycle.waiting_for_100_continue = False

    def abort_response(self) -> None:
        self.cycle.disconnected = True  # otherwise uvicorn would log that the response is incomplete
        self.abort()

    def when_sent(self, done: Callable[[], None]) -> None:
        self._when_sent.append(done)
        if not self.flow.write_paused or self.disconnected.done():
            self._tell_sent()

    def _tell_sent(self) -> None:
        waiting, self._when_sent = self._when_sent, []
        for done in waiting:
            done()

    # -- refusing and closing

    def abort(self) -> None:
        """Close the connection immediately, without a response."""
        self.transport.abort()

    def _head_deadline_passed(self) -> None:
        """Refuse a head that did not arrive in time; close a connection that sent nothing."""
        if self._is_in_head:
            self._fail(HeadTooSlow(f"the request's headers took longer than {self._settings.head_deadline_s:g} s"))
        else:
            self._limit.count_refusal("silent")
            self.abort()

    def _close_after_response(self) -> None:
        self._discards_input = True
        self.cycle.keep_alive = False

    def _fail_to_parse(self, error: HttpParserError) -> None:
        cause = error.__context__ if isinstance(error, HttpParserCallbackError) else None
        if isinstance(cause, _Pipelined):
            self._close_after_response()
        elif isinstance(cause, Problem):
            self._fail(cause)
        else:
            self._fail(RequestMalformed(f"the request is not valid HTTP/1.1: {cause or error}"))

    def _fail(self, problem: Problem) -> None:
        """Refuse the request that is being received, unless a response to it, or to the previous one, is under way."""
        self._heads.remove(self)
        if self._is_between_requests:
            self._refuse(problem)
        elif self._has_responded or self.cycle.response_started:
            self.abort()
        elif not self._is_in_body:
            self._close_after_response()
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(problem)

    @property
    def _has_responded(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first

    @property
    def _is_between_requests(self) -> bool:
        return self._has_responded and not self._is_in_body

    def _refuse(self, problem: Problem) -> None:
        self._unset_keepalive_if_required()
        self._limit.mark_idle(self)
        self._buffered.flush()  # 100 Continue
        self.transport.write(self._refusal(problem))
        self._end_unread(LINGER_S)

    def _end_unread(self, linger_s: float) -> None:
        """End the connection, with a moment for the client to read the response; discard what it still sends."""
        self._discards_input = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer.start(linger_s, self.abort)

    def _refusal(self, problem: Problem, *, reason: str = "") -> bytes:
        """Return the response to a problem as bytes; count it, and log it with its request id."""
        request_id = self._request_id()
        self._limit.count_refusal(reason or problem.code)
        logger.info("request refused", extra={"code": problem.code, "detail": str(problem), "request_id": request_id})
        return raw(problem, request_id)

    def _request_id(self) -> str:
        """Return the id of the request that is being received, from the headers received so far."""
        if not (self._is_in_head or self._is_in_body):
            return request_id_of(Headers())
        return context_of(cast("Scope", self.scope)).request_id or request_id_of(Headers(raw=self.headers))

    def _start_unread_timer(self) -> None:
        self._unread_timer.start(self._settings.answer_deadline_s, self.abort)
