"""A connection after its upgrade to a WebSocket (RFC 6455): uvicorn's protocol, within bounds that it lacks."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from brain_collector.errors import Problem, RequestMalformed
from brain_collector.settings import Settings

VERSION: Final = "13"
MAX_MESSAGE_BYTES: Final = 4_096
"""What a client may send at once, though nothing is made of it."""
LINGER_S: Final = 1.0
"""How long a client may take to answer a close."""
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")

_log: Final = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # the libraries tell of each connection with all of its query; `observe` does it better


def is_asked_for(method: str, http_version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request can be upgraded (RFC 6455, section 4.2.1). The parser has found it to ask for one."""
    keys, versions, upgrades = (
        [value.strip() for name, value in headers if name == wanted]
        for wanted in (b"sec-websocket-key", b"sec-websocket-version", b"upgrade")
    )
    return (
        (method, http_version) == ("GET", "1.1")
        and versions == [VERSION.encode()]
        and [each.lower() for each in upgrades] == [b"websocket"]
        and len(keys) == 1
        and _KEY.fullmatch(keys[0]) is not None
        and not any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)
    )


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """As uvicorn's, but bounded; `left` is called when the connection is gone, `answer` makes bytes of a refusal.

    - Of what a client sends nothing is kept; it may not send before it is answered, nor too much at once.
    - A client that does not read is not read from, and is cut off after a while; so is one that answers no ping.
    """

    def __init__(
        self,
        settings: Settings,
        left: Callable[[], None],
        answer: Callable[[Problem], bytes],
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = self.conn.logger = _log
        self.conn.debug = False
        self.close_timeout = LINGER_S
        self._answer_deadline_s = settings.answer_deadline_s
        self._left = left
        self._answer = answer
        self._unread_timer: asyncio.TimerHandle | None = None

    # -- from the transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_reader()
        super().connection_lost(exc)
        self._left()

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.abort()  # it has to wait for the answer (RFC 6455, section 4.1)
            return
        if self.conn.parser_exc is not None:  # it was told to end, and is not listened to
            return
        super().data_received(data)
        if not self.handshake_initiated:
            reason = self.conn.handshake_exc
            problem = RequestMalformed(f"the request asks for a WebSocket in a wrong way: {reason}")
            self.transport.write(self._answer(problem))
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()  # each of its pings would be answered
        self._wait_for_reader()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self._stop_waiting_for_reader()
        self.transport.resume_reading()
        super().resume_writing()

    # -- from the parser

    def handle_text(self, event: Frame) -> None:
        """Drop it; its size has been looked at. So are binary ones, and what continues one."""

    handle_bytes = handle_cont = handle_text

    def handle_parser_exception(self) -> None:
        """Say why it ends; the client may still be sending, and would miss that if we closed at once."""
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True

    # -- from the application and the server

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else uvicorn would log a refusal as a fault of the application

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected and self._unread_timer is None:
            self._wait_for_reader()

    def keepalive_timeout(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """Leave it to the application to end, which knows; but wait for no client."""
        if self.close_sent:
            super().shutdown()

    # -- timers

    def _wait_for_reader(self) -> None:
        self._stop_waiting_for_reader()
        self._unread_timer = self.loop.call_later(self._answer_deadline_s, self.transport.abort)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
