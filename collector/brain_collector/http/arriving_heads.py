"""The heads of requests (and trailers of bodies) that arrive in parts: the bytes that all connections may hold of them.

No API key is needed to send a head, so a limit for each is not enough: thousands of connections could hold large ones.
A head that arrives at once, as those of all ordinary clients do, is not counted.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Connection(Protocol):
    def abort(self) -> None:
        """Close the connection immediately, without a response."""


class ArrivingHeads:
    """The incomplete heads of one server, and their size."""

    def __init__(self, max_bytes: int, count_refusal: Callable[[str], None]) -> None:
        self._max_bytes = max_bytes
        self._count_refusal = count_refusal
        self._n_bytes = 0
        self._heads: OrderedDict[Connection, int] = OrderedDict()  # the size of each, the oldest first

    def add(self, connection: Connection, n_bytes: int) -> None:
        """Count more bytes of an incomplete head; close the connections with the oldest ones beyond the maximum."""
        self._heads[connection] = self._heads.get(connection, 0) + n_bytes
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes:
            oldest = next(iter(self._heads))
            self.remove(oldest)
            self._count_refusal("heads_too_large")
            oldest.abort()

    def remove(self, connection: Connection) -> None:
        """Forget a head that is complete, or whose connection was closed."""
        self._n_bytes -= self._heads.pop(connection, 0)
