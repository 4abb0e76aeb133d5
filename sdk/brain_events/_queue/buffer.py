"""The buffer between the application's threads and the worker: a queue of encoded lines, bounded in bytes.

`put` acquires no lock, so that a signal handler or a finalizer can call it while it interrupts another `put`. Its
counts are exact under the GIL: CPython switches threads and runs signal handlers only at calls and backward jumps, and
there is neither between the read and the write of a counter. Only one side writes each counter: the application
`added`, the worker `released` and `taken`.
"""

from collections import deque
from collections.abc import Callable

from brain_events.wire import SEVERITIES

NEVER = 1 << 62
URGENT = frozenset({"error", "critical"})
"""Severities that may use the last fifth of the buffer."""


class Buffer:
    """Encoded lines that wait for the worker, the oldest first."""

    def __init__(self, max_bytes: int, wake: Callable[[], None]) -> None:
        self.limits = {severity: max_bytes if severity in URGENT else max_bytes * 4 // 5 for severity in SEVERITIES}
        self.wake = wake
        self.wake_at = 0  # wake the worker when more bytes than this are in memory; 0: the first line starts it
        self.lines: deque[bytes] = deque()
        self.added = 0  # total bytes put
        self.released = 0  # total bytes delivered, written to disk, or given up
        self.taken = 0  # total lines taken
        self.dropped: dict[str, int] = {
            "before_init": 0,
            "buffer_full": 0,
            "closed": 0,
            "internal_error": 0,
            "limited": 0,
        }
        self.closed = False

    def put(self, line: bytes, severity: str) -> None:
        """Append a line, or count it as dropped, without waiting."""
        size = len(line)
        limit = self.limits[severity]
        added = self.added + size
        in_memory = added - self.released
        if in_memory > limit or self.closed:
            self.drop()
            return
        self.added = added
        self.lines.append(line)
        if in_memory > self.wake_at:
            self.wake_worker()

    def drop(self) -> None:
        """Count an event that is not kept."""
        self.dropped["closed" if self.closed else "buffer_full"] += 1

    def wake_worker(self) -> None:
        """Wake the worker without raising."""
        try:
            self.wake()
        except Exception:  # noqa: BLE001 -- such as RecursionError; the event is in the buffer, and the next one wakes the worker
            return

    def in_memory(self) -> int:
        """Return the number of bytes in memory, those of batches in delivery included."""
        return self.added - self.released

    def take(self, max_lines: int, max_bytes: int) -> list[bytes]:
        """Remove and return the oldest lines, at least one if there is any. Called by one thread at a time."""
        lines, room = self.lines, max_bytes
        taken: list[bytes] = []
        while lines and len(taken) < max_lines and (room >= len(lines[0]) or not taken):
            line = lines.popleft()
            room -= len(line)
            taken.append(line)
        self.taken += len(taken)
        return taken
