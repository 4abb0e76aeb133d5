"""The protocol of a connection after its upgrade to a WebSocket (RFC 6455): uvicorn's, with the limits it lacks."""

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
from brain_collector.http.frame_pace import PIECE_BYTES, FramePace
from brain_collector.http.timer import Timer
from brain_collector.settings import Settings

VERSION: Final = "13"
MAX_MESSAGE_BYTES: Final = 4_096
"""Maximum size of a message from the client, although messages are ignored."""
LINGER_S: Final = 1.0
"""How long a client may take to respond to a close."""
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")

_log: Final = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # the libraries log each connection with its query; `request_log` does without


def is_websocket_request(method: str, http_version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request with an Upgrade header is a valid opening handshake (RFC 6455, section 4.2.1)."""
    keys, versions, upgrades = (
        [value.strip() for name, value in headers if name == header]
        for header in (b"sec-websocket-key", b"sec-websocket-version", b"upgrade")
    )
    return (
        (method, http_version) == ("GET", "1.1")
        and versions == [VERSION.encode()]
        and [upgrade.lower() for upgrade in upgrades] == [b"websocket"]
        and len(keys) == 1
        and _KEY.fullmatch(keys[0]) is not None
        and not any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)
    )


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with limits.

    - Messages from the client are discarded. It may not send before the handshake is complete, nor a large message.
    - A client that sends many frames is read from slowly, a piece at a time (`FramePace`).
    - While a client does not read, it is not read from. It is disconnected after a deadline, or if it answers no ping.

    `on_lost` is called when the connection is closed; `encode_refusal` returns the response to a problem as bytes.
    """

    def __init__(
        self,
        settings: Settings,
        on_lost: Callable[[], None],
        encode_refusal: Callable[[Problem], bytes],
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
        self._on_lost = on_lost
        self._encode_refusal = encode_refusal
        self._unread_timer = Timer(self.loop)
        self._pace = FramePace(self.loop.time())
        self._pace_timer = Timer(self.loop)
        self._received = memoryview(b"")  # and not parsed yet
        self._n_frames = 0  # in the piece that is parsed
        self._is_writing_paused = False

    # -- called by the transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread_timer.stop()
        self._pace_timer.stop()
        self._received = memoryview(b"")
        super().connection_lost(exc)
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.abort()  # the client must wait for the response (RFC 6455, section 4.1)
            return
        if self.handshake_complete:
            self._received = memoryview(bytes(self._received) + data) if self._received else memoryview(data)
            if not self._pace_timer.is_started:
                self._parse_received()
            return
        super().data_received(data)
        if not self.handshake_initiated:
            reason = self.conn.handshake_exc
            problem = RequestMalformed(f"the opening handshake of the WebSocket is invalid: {reason}")
            self.transport.write(self._encode_refusal(problem))
            self.transport.close()

    def _parse_received(self) -> None:
        """Parse what was received, piece by piece, until the client has sent too many frames for now."""
        self._pace_timer.stop()
        while self._received:
            if self.conn.parser_exc is not None:  # the connection is being closed: ignore what follows
                self._received = memoryview(b"")
                break
            piece, self._received = self._received[:PIECE_BYTES], self._received[PIECE_BYTES:]
            self._n_frames = 0
            super().data_received(bytes(piece))
            pause_s = self._pace.pause_s(self._n_frames, self.loop.time())
            if pause_s:
                self._pace_timer.start(pause_s, self._parse_received)
                break
        self._read_or_pause()

    def _read_or_pause(self) -> None:
        """Read from the client unless it sends too many frames or does not read: every ping would leave a pong."""
        if self._pace_timer.is_started or self._is_writing_paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_writing_paused = True
        self._read_or_pause()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self._unread_timer.stop()
        self._is_writing_paused = False
        self._read_or_pause()
        super().resume_writing()

    # -- called by the parser

    def handle_events(self) -> None:
        self._n_frames += len(self.conn.events)
        super().handle_events()

    def handle_text(self, event: Frame) -> None:
        """Discard a text, binary or continuation frame; its size was checked."""

    handle_bytes = handle_cont = handle_text

    def handle_parser_exception(self) -> None:
        """Send the reason for the close, and wait before closing: a client that still sends could miss it."""
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True

    # -- called by the application and the server

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # otherwise uvicorn would log a refusal as an error of the application

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected and not self._unread_timer.is_started:
            self._start_unread_timer()

    def keepalive_timeout(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        """Let the application close the connection, as it knows of the shutdown; do not wait for the client."""
        if self.close_sent:
            super().shutdown()

    def _start_unread_timer(self) -> None:
        self._unread_timer.start(self._answer_deadline_s, self.transport.abort)
