"""The connection limit: which connections are admitted, and which idle one is closed to make room.

A connection is *active* from the end of a request to the end of the response, *arriving* while the body of its request
arrives, and *idle* otherwise: new, between two requests, or slow to send its head. HTTP allows a server to close idle
connections, so the one that has been idle longest makes room for a new connection; if none is idle, the one that has
been arriving longest does. If all are active, a few more are admitted, so that probes get a response, and every other
request on them is refused with a 503.
"""

import logging
import resource
import time
from collections import OrderedDict
from enum import Enum, auto
from typing import Final, Protocol

from brain_collector.errors import SettingsError
from brain_collector.metrics import CONNECTIONS_REFUSED, Metrics

RESERVE: Final = 32
"""Connections admitted beyond the limit until their request is known."""
OTHER_FILES: Final = 128
"""Open files other than clients' connections: database, cache, pipes to the engines, listening socket, libraries."""
DEFAULT_CONNECTIONS: Final = 4_096
_LOG_INTERVAL_S: Final = 60.0

logger: Final = logging.getLogger(__name__)


class Connection(Protocol):
    def abort(self) -> None:
        """Close the connection immediately, without a response."""


class Admission(Enum):
    """The outcome for a new connection."""

    FREE = auto()
    """It is within the limit."""
    CROWDED = auto()
    """Every connection is active: respond to probes only."""
    FULL = auto()
    """The reserve is used up too: refuse it without reading a request."""


class ConnectionLimit:
    """The connections of one server."""

    def __init__(self, max_connections: int, metrics: Metrics) -> None:
        self.max_connections = max_connections
        self.metrics = metrics
        self.n_open = 0
        self._closed = 0  # idle ones, to make room
        self._refused = 0
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._arriving: OrderedDict[Connection, None] = OrderedDict()
        self._idle_in_reserve: OrderedDict[Connection, None] = OrderedDict()
        self._next_log_s = 0.0

    def admit(self, connection: Connection) -> Admission:
        """Count a new connection; close the one that has been idle longest if the limit is exceeded."""
        self.n_open += 1
        if self.n_open <= self.max_connections or any(map(self._close_oldest, (self._idle, self._arriving))):
            self.mark_idle(connection)
            return Admission.FREE
        self._refused += 1
        self._log()
        if self.n_open <= self.max_connections + RESERVE or self._close_oldest(self._idle_in_reserve):
            self._idle_in_reserve[connection] = None
            return Admission.CROWDED
        return Admission.FULL

    def _close_oldest(self, connections: OrderedDict[Connection, None]) -> bool:
        if not connections:
            return False
        connections.popitem(last=False)[0].abort()
        self._closed += 1
        self.count_refusal("shed")
        self._log()
        return True

    def mark_idle(self, connection: Connection) -> None:
        """Allow the connection to be closed from now on."""
        self._arriving.pop(connection, None)
        self._idle[connection] = None
        self._idle.move_to_end(connection)

    def mark_arriving(self, connection: Connection) -> None:
        """Allow the connection to be closed if none is idle: the body of its request is arriving."""
        if self._idle.pop(connection, self) is None:  # one in the reserve stays there
            self._arriving[connection] = None

    def mark_active(self, connection: Connection) -> None:
        """Keep the connection open: it has a request that needs a response."""
        self._idle.pop(connection, None)
        self._arriving.pop(connection, None)
        self._idle_in_reserve.pop(connection, None)

    def release(self, connection: Connection) -> None:
        """Remove a connection that was closed."""
        self.mark_active(connection)
        self.n_open -= 1

    def count_refusal(self, reason: str) -> None:
        """Count a connection that was refused or closed early, by the reasons of `CONNECTIONS_REFUSED`."""
        self.metrics.add(CONNECTIONS_REFUSED, reason)

    def _log(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_INTERVAL_S
            logger.warning(
                "the connection limit (%d) is reached: so far %d idle connections were closed and %d new ones refused",
                self.max_connections,
                self._closed,
                self._refused,
            )


def resolve_max_connections(setting: int) -> int:
    """Return the connection limit: the setting, or, if it is 0, a default that the limit of open files allows.

    Raises:
        SettingsError: the limit of open files is too low for the setting.
    """
    max_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    available = DEFAULT_CONNECTIONS if max_files == resource.RLIM_INFINITY else max_files - OTHER_FILES - RESERVE
    if setting == 0:
        return max(1, min(available, DEFAULT_CONNECTIONS))
    if setting > available and max_files != resource.RLIM_INFINITY:
        raise SettingsError(
            f"BRAIN_COLLECTOR_MAX_CONNECTIONS is {setting:,}, but this process may open {max_files:,} files, which "
            f"allows {available:,} connections; lower it, or raise the limit "
            f"(`ulimit -n {setting + OTHER_FILES + RESERVE}`)"
        )
    return setting
