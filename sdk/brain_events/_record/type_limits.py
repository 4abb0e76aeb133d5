"""Limit how many events of a noisy type are logged: a token bucket by type, and a count of what was left out."""

import time
from collections.abc import Mapping

from brain_events._record.event import severity_of

URGENT = frozenset({"error", "critical"})


class TypeLimits:
    """Decides on the caller's path, without a lock: threads that log at the same instant may pass one event too many.

    Args:
        limits: By event type, the capacity of its bucket in events, and the events per second that are added to it.
    """

    def __init__(self, limits: Mapping[str, tuple[float, float]]) -> None:
        self._buckets = {event_type: _Bucket(*limit) for event_type, limit in limits.items()}

    def admits(self, event_type: str, severity: str) -> bool:
        """Return whether to log an event now. An event of `error` or above is always logged, and takes no token.

        Raises:
            TypeError: `event_type` is not hashable.
        """
        bucket = self._buckets.get(event_type)
        return bucket is None or (severity_of(severity) or "error") in URGENT or bucket.take()

    def left_out(self) -> dict[str, int]:
        """Return the number of events that were left out, by type."""
        return {event_type: bucket.left_out for event_type, bucket in self._buckets.items() if bucket.left_out}


class _Bucket:
    __slots__ = ("_capacity", "_filled_at", "_per_s", "_tokens", "left_out")

    def __init__(self, capacity: float, per_s: float) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._tokens = capacity
        self._filled_at = time.monotonic()
        self.left_out = 0

    def take(self) -> bool:
        now = time.monotonic()
        tokens = min(self._tokens + (now - self._filled_at) * self._per_s, self._capacity)
        self._filled_at = now
        if tokens < 1.0:
            self._tokens = tokens
            self.left_out += 1
            return False
        self._tokens = tokens - 1.0
        return True
