"""The way from the application's threads to the worker: encoded lines go in, lists of lines come out; bounded in bytes.

`put` takes no lock, so that it can be called from a signal handler or a finalizer that interrupted another `put`.
It is exact all the same under the GIL: CPython switches threads and runs signal handlers only at calls and backward
jumps, and there is neither between the read and the write of a counter below. Each counter has one writing side:
`added` the application, `released` and `taken` the worker.
"""

from collections import deque
from collections.abc import Callable

from brain_events.wire import SEVERITIES

NEVER = 1 << 62
URGENT = frozenset({"error", "critical"})
"""What may use the last fifth of the buffer."""


class Buffer:
    """Encoded lines that wait for the worker, oldest first."""

    def __init__(self, max_bytes: int, wake: Callable[[], None]) -> None:
        self.limits = {severity: max_bytes if severity in URGENT else max_bytes * 4 // 5 for severity in SEVERITIES}
        self.wake = wake
        self.wake_at = 0  # bytes in memory that call the worker; 0: the first line starts it
        self.lines: deque[bytes] = deque()
        self.added = 0  # bytes ever put
        self.released = 0  # bytes whose fate is settled
        self.taken = 0  # lines ever taken
        self.dropped: dict[str, int] = {"before_init": 0, "buffer_full": 0, "closed": 0, "internal_error": 0}
        self.closed = False

    def put(self, line: bytes, severity: str) -> None:
        """Append a line, or count it as dropped; never waits."""
        size = len(line)
        limit = self.limits[severity]
        added = self.added + size
        in_memory = added - self.released
        if in_memory > limit or self.closed:
            self.dropped["closed" if self.closed else "buffer_full"] += 1
            return
        self.added = added
        self.lines.append(line)
        if in_memory > self.wake_at:
            self.call_worker()

    def call_worker(self) -> None:
        """Wake the worker; never raises."""
        try:
            self.wake()
        except Exception:  # noqa: BLE001 -- such as RecursionError; the event is safe, and the next one calls again
            return

    def in_memory(self) -> int:
        """Return the bytes that are held, those of batches under way included."""
        return self.added - self.released

    def take(self, max_lines: int, max_bytes: int) -> list[bytes]:
        """Return the oldest lines, at least one where there is one. Called by one thread at a time."""
        lines, room = self.lines, max_bytes
        taken: list[bytes] = []
        while lines and len(taken) < max_lines and (room >= len(lines[0]) or not taken):
            line = lines.popleft()
            room -= len(line)
            taken.append(line)
        self.taken += len(taken)
        return taken
