"""Serve the collector: start embedded engines, if any, run uvicorn, then stop everything in order."""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, cast

import uvicorn

from brain_collector import logs
from brain_collector.api import dashboard, health, manual
from brain_collector.errors import SettingsError
from brain_collector.http import websocket_protocol
from brain_collector.http.arriving_heads import ArrivingHeads
from brain_collector.http.connection_limit import ConnectionLimit, resolve_max_connections
from brain_collector.http.protocol import HttpProtocol
from brain_collector.http.scope import Stopping
from brain_collector.metrics import Metrics
from brain_collector.server.allocator import return_freed_memory
from brain_collector.server.app import OPERATIONS, create_app, refuse_to_be_open
from brain_collector.server.engines import Backend, open_backend
from brain_collector.server.lifespan import Engines
from brain_collector.settings import Settings
from brain_collector.storage import schema_version

BACKLOG: Final = 2048


def serve(settings: Settings, on_ready: Callable[[str, Backend], None]) -> None:
    """Serve until SIGTERM or SIGINT; call `on_ready` with the URL once requests are served.

    If a critical task dies, the exit code is 1, so that a supervisor which restarts after a failure does so.

    Raises:
        SettingsError: the collector cannot listen on the address, or the settings are inconsistent.
    """
    return_freed_memory()
    logs.configure(settings.log_format, settings.log_level)
    refuse_to_be_open(settings)
    resolve_max_connections(settings.max_connections)  # an error here comes before engines are started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # until the event loop handles signals
    with _listening(settings) as listener, open_backend(settings) as backend:
        if backend.embedded:
            _upgrade(backend.settings)
        stopping = Stopping()
        config = configured(backend.settings, backend, stopping)
        server = _Server(
            config, stopping, settings.shutdown_delay_s, lambda: on_ready(_url(settings.host, listener), backend)
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.until_signal(listener))
        if server.lifespan.error_occurred:  # a critical task died, and has been logged
            sys.exit(1)


def _upgrade(settings: Settings) -> None:
    if asyncio.run(schema_version.is_current(settings.dsn)):
        return
    from brain_collector.storage import migrate  # noqa: PLC0415 - loads Alembic, which only a migration needs

    migrate.upgrade(settings.dsn, patience=migrate.patience(settings))


def configured(
    settings: Settings,
    engines: Engines | None = None,
    stopping: Stopping | None = None,
    page_directory: Path = dashboard.DIRECTORY,
    manual_directory: Path = manual.DIRECTORY,
) -> uvicorn.Config:
    """Return the configuration of uvicorn.

    Raises:
        SettingsError: the connection limit exceeds that of open files, or an API key should be required.
    """
    metrics = Metrics()
    limit = ConnectionLimit(resolve_max_connections(settings.max_connections), metrics)
    probe_paths = frozenset(operation.path for operation in health.OPERATIONS)
    websocket_paths = frozenset(operation.path.encode() for operation in OPERATIONS if operation.socket)
    heads = ArrivingHeads(max(settings.max_arriving_head_bytes, settings.max_head_bytes), limit.count_refusal)
    protocol = partial(HttpProtocol, settings, limit, heads, probe_paths, websocket_paths)
    return uvicorn.Config(
        create_app(settings, metrics, engines, stopping, page_directory, manual_directory),
        host=settings.host,
        port=settings.port,
        http=cast("type[asyncio.Protocol]", protocol),  # uvicorn only calls it
        ws="none",  # `HttpProtocol` upgrades connections itself
        ws_max_size=websocket_protocol.MAX_MESSAGE_BYTES,
        ws_ping_interval=settings.stream_heartbeat_s,
        ws_ping_timeout=settings.answer_deadline_s,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
    )


class _Server(uvicorn.Server):
    """A uvicorn server that reports readiness, and stops on a signal without raising it again."""

    def __init__(
        self, config: uvicorn.Config, stopping: Stopping, delay_s: float, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay_s = delay_s
        self._on_ready = on_ready

    async def until_signal(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        await self.serve(sockets=[listener])

    def _stop(self, number: int) -> None:
        """Become not ready now, and stop after the delay; a second signal skips the delay."""
        if self._stopping.begun or not self._delay_s:
            self.handle_exit(number, None)
        else:
            asyncio.get_running_loop().call_later(self._delay_s, setattr, self, "should_exit", True)  # noqa: FBT003
        self._stopping.begun = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # excludes the objects that live as long as the process from further collections
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `until_signal` handles signals


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """Listen before the engines start, so that a port in use is reported at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port}: {os.strerror(error.errno or 0)}; "
            "choose another address with --host and --port"
        ) from None
    with listener:
        yield listener


def _url(host: str, listener: socket.socket) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{listener.getsockname()[1]}"
