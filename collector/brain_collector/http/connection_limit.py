"""How many connections there are at once, and which of them makes room when there are too many.

A connection *works* from the end of a request's head to its answer, and *waits* otherwise: idle, new, or slow to say
what it wants. HTTP lets a server close what waits, so whoever has waited longest makes room for a newcomer. When all
of them work, a few more are let in, so that a probe is answered, and everything else is told to come again.
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
"""Connections let in, beyond the limit, to be asked what they want."""
OTHER_FILES: Final = 128
"""Files that are no connections: to the database and the cache, pipes to the engines, the listener, libraries."""
USUAL_CONNECTIONS: Final = 4_096
_QUIET_S: Final = 60.0

logger: Final = logging.getLogger(__name__)


class Connection(Protocol):
    def shed(self) -> None:
        """End at once, without an answer."""


class Admission(Enum):
    """What a newcomer finds."""

    FREE = auto()
    CROWDED = auto()
    """Every connection works: answer probes, send the rest away."""
    FULL = auto()
    """Also the reserve is taken: send it away unheard."""


class ConnectionLimit:
    """The connections of one server."""

    def __init__(self, max_connections: int, metrics: Metrics) -> None:
        self.max_connections = max_connections
        self.metrics = metrics
        self.inside = 0
        self.shed = 0
        self.refused = 0
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._asked: OrderedDict[Connection, None] = OrderedDict()  # in the reserve, and have not said what they want
        self._quiet_until = 0.0

    def enter(self, newcomer: Connection) -> Admission:
        """Find a place for a newcomer; the one who has waited longest makes room for it."""
        self.inside += 1
        if self.inside <= self.max_connections or self._shed_from(self._waiting):
            self.waits(newcomer)
            return Admission.FREE
        self.refused += 1
        self._say_so()
        if self.inside <= self.max_connections + RESERVE or self._shed_from(self._asked):
            self._asked[newcomer] = None
            return Admission.CROWDED
        return Admission.FULL

    def _shed_from(self, connections: OrderedDict[Connection, None]) -> bool:
        if not connections:
            return False
        connections.popitem(last=False)[0].shed()
        self.shed += 1
        self.turned_away("shed")
        self._say_so()
        return True

    def waits(self, connection: Connection) -> None:
        """From now on, it may be shed."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def works(self, connection: Connection) -> None:
        """It has a request, which is to be answered."""
        self._waiting.pop(connection, None)
        self._asked.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        self.works(connection)
        self.inside -= 1

    def turned_away(self, reason: str) -> None:
        """Count one that was not let in, or not any further; the reasons are those of `CONNECTIONS_REFUSED`."""
        self.metrics.add(CONNECTIONS_REFUSED, reason)

    def _say_so(self) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            logger.warning(
                "%d connections, as many as may be: so far %d that waited were closed and %d new ones sent away",
                self.max_connections,
                self.shed,
                self.refused,
            )


def most_connections(wanted: int) -> int:
    """Return how many connections there may be: `wanted`, or, if that is 0, what the limit of open files leaves.

    Raises:
        SettingsError: that limit does not leave so many.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = USUAL_CONNECTIONS if files == resource.RLIM_INFINITY else files - OTHER_FILES - RESERVE
    if wanted == 0:
        return max(1, min(room, USUAL_CONNECTIONS))
    if wanted > room and files != resource.RLIM_INFINITY:
        raise SettingsError(
            f"BRAIN_COLLECTOR_MAX_CONNECTIONS is {wanted:,}, but this process may have {files:,} files open, "
            f"{room:,} of them connections; lower it, or raise the limit (`ulimit -n {wanted + OTHER_FILES + RESERVE}`)"
        )
    return wanted
