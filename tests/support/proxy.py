"""A proxy that loses what networks lose: a client's bytes in on one unix socket, out to the server's on another.

It passes bytes until a test says otherwise: for all connections at once (`cut`, `refuse`, `freeze`), or for one of
them at a certain message, by a `rule`. On unix sockets, because their buffers are small: they fill when nobody reads.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.engines import scratch_dir


class Fate(Enum):
    """What becomes of bytes on their way to the server, and of their connection."""

    PASS = auto()
    CUT = auto()
    """They arrive, and the connection ends before the answer is on its way."""
    STALL = auto()
    """They arrive; nothing to the server does after them. Answers pass: a freeze one way."""
    FREEZE = auto()
    """Neither they nor anything else arrives again, either way; nobody is told."""


class Proxy:
    """Stands between clients that connect to `path` and the server at `upstream`; `url` is its address for them."""

    def __init__(self, url: str, path: Path, upstream: Path) -> None:
        self.url = url
        self.rule: Callable[[bytes], Fate] = lambda _chunk: Fate.PASS
        self._upstream = str(upstream)
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._refusing = self._frozen = False
        self._changed = threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def cut(self) -> None:
        """End every connection; new ones pass."""
        with self._changed:
            for connection in self._connections:
                connection.end()
            self._changed.notify_all()

    def refuse(self) -> None:
        """End every connection and each new one, until `restore`."""
        self._refusing = True
        self.cut()

    def freeze(self) -> None:
        """Pass nothing either way, and say so to nobody, until `restore`."""
        self._frozen = True

    def restore(self) -> None:
        """Pass everything again."""
        with self._changed:
            self.rule = lambda _chunk: Fate.PASS
            self._refusing = self._frozen = False
            self._changed.notify_all()

    def close(self) -> None:
        """End it all."""
        self.refuse()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.cut()  # what was accepted meanwhile
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):  # shut down
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=[client])
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            connection = _Connection(client, server)
            with self._changed:
                if self._refusing:
                    return
                server.connect(self._upstream)
                self._connections.add(connection)
            answering = threading.Thread(target=self._pump, args=[connection, server, client, lambda _chunk: Fate.PASS])
            answering.start()
            self._pump(connection, client, server, self._fate_of)
            answering.join()
            with self._changed:
                self._connections.discard(connection)

    def _fate_of(self, chunk: bytes) -> Fate:
        return self.rule(chunk)  # the one of this moment

    def _pump(
        self, connection: "_Connection", source: socket.socket, to: socket.socket, rule: Callable[[bytes], Fate]
    ) -> None:
        with suppress(OSError):  # either side went away, or was cut off
            while chunk := self._receive(connection, source):
                fate = rule(chunk)
                connection.frozen |= fate is Fate.FREEZE
                connection.mute |= fate is Fate.CUT  # before the server has anything to answer
                if not connection.frozen and (fate is Fate.CUT or not connection.mute):
                    to.sendall(chunk)
                if fate is Fate.CUT:
                    break
                if connection.frozen or fate is Fate.STALL:
                    self._wait(lambda: connection.ended)
        connection.end()
        with self._changed:
            self._changed.notify_all()

    def _receive(self, connection: "_Connection", source: socket.socket) -> bytes:
        self._wait(lambda: connection.ended or not self._frozen)
        chunk = source.recv(64 * 1024)
        self._wait(lambda: connection.ended or not self._frozen)  # it may have come while this waited to receive
        return chunk

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(condition)


class _Connection:
    """A client's socket and the one that leads on to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        self.frozen = self.mute = self.ended = False

    def end(self) -> None:
        """Wake both directions; the sockets are closed by the thread that serves them."""
        self.ended = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """Yield a proxy to the server at `url`: a PostgreSQL, or a Redis, on a unix socket."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        upstream = Path(parts.path)
    else:
        given = parse_qs(parts.query)
        upstream = Path(given["host"][0], f".s.PGSQL.{given['port'][0]}")
    with scratch_dir() as directory:
        proxy = Proxy(url.replace(str(upstream.parent), str(directory)), directory / upstream.name, upstream)
        try:
            yield proxy
        finally:
            proxy.close()
