"""What waits for delivery: lines come from the buffer, files from the journal and from dead processes, batches go out.

Two queues. `fresh` has what was sealed just now, in memory or (durable mode) on disk; the *backlog* is the outbox,
oldest first. They take turns, so that neither waits for the other to be empty. Order holds within a batch always,
between batches while nothing fails.

While the collector is away, and when memory is half full, all that comes in is moved to the outbox: at once, then each
`interval_s`, then ever more rarely, so that an outage of days makes no more files than the outbox may have.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from brain_events._queue.adoption import ADOPTED_AT_ONCE, Adoption
from brain_events._queue.batch import Batch, LastLook, halve, seal
from brain_events._queue.buffer import NEVER, Buffer
from brain_events._queue.flush_marks import Mark, Owed
from brain_events._queue.journal import Journal
from brain_events._queue.outbox import Entry, Outbox

BATCH_MAX_EVENTS = 5_000
BATCH_MAX_BYTES = 1024 * 1024
WAKE_BYTES = 128 * 1024  # about 500 events
ADOPT_INTERVAL_S = 60.0
FILES_PER_S = 500
"""In an outage a file is made each `files / FILES_PER_S` seconds: after 5 days they are 20,000."""

Item = Batch | Entry


class Queue:
    """Used under the lock of `Delivery`, like everything it holds but `buffer.put` and `journal.put`."""

    def __init__(
        self,
        buffer: Buffer,
        outbox: Outbox | None,
        journal: Journal | None,
        *,
        interval_s: float,
        spool_over_bytes: int,
        last_look: LastLook | None = None,
    ) -> None:
        self.buffer = buffer
        self.outbox = outbox
        self.journal = journal
        self._interval_s = interval_s
        self._spool_over_bytes = spool_over_bytes
        self._last_look = last_look
        self._fresh: deque[Item] = deque()
        self._owed = Owed()
        self._adoption = Adoption(outbox) if outbox is not None else None
        self._mark = Mark(0, [], 0)
        self._collect_at = 0.0
        self._adopt_at = 0.0
        self.closing = False
        self._was_away = False
        self._backlog_is_next = False

    def collect(self, *, away: bool) -> None:
        """Seal what is due: into `fresh`, or to the outbox if it cannot be delivered soon."""
        now = time.monotonic()
        crowded = self.buffer.in_memory() > self._spool_over_bytes
        due = now >= self._collect_at or crowded or self.is_pressed() or not self._is_sealed(self._mark)
        due = due or away != self._was_away or self.closing
        self._was_away = away
        if not self.closing:
            self._adopt(now)
        if not due:
            return
        interval_s = self._interval_s
        if (away or crowded) and self.outbox is not None and self.outbox.usable():
            self.spool()
            interval_s = max(interval_s, self.outbox.files / FILES_PER_S)
        elif not self._fresh:
            self._seal_next()
        self._collect_at = now + interval_s

    def next(self) -> tuple[Item, Batch] | None:
        """Return what to send now, and the batch that it is; None if there is nothing, or the disk fails."""
        for backlog in (self._backlog_is_next, not self._backlog_is_next):
            queue = self._backlog() if backlog else self._fresh
            while queue:
                item = queue[0]
                try:
                    batch = item if isinstance(item, Batch) else self._load(item)
                except OSError:  # later, then: where nothing is read while the disk fails
                    self._entries().append(queue.popleft())
                    break
                if batch is not None:
                    self._backlog_is_next = not backlog
                    return item, batch
                self._owed.lose(item.key, queue.popleft().count)
        return None

    def settle(self, item: Item) -> None:
        """Let go of what the collector has."""
        self._remove(item)
        if isinstance(item, Batch):
            self.buffer.released += item.line_bytes
        elif self.outbox is not None:
            self.outbox.discard(item)

    def reject(self, item: Item) -> None:
        """Set aside what the collector will never take."""
        self._remove(item)
        if isinstance(item, Batch):
            self.buffer.released += item.line_bytes
            if self.outbox is not None:
                self.outbox.refuse(item)
        elif self.outbox is not None:
            self.outbox.set_aside(item, "rejected")

    def split(self, item: Item, batch: Batch) -> bool:
        """Put two halves in place of a batch that is too large; return False if the disk has no room for them."""
        halves = halve(batch)
        items: Sequence[Item] | None = halves
        if not isinstance(item, Batch) and self.outbox is not None:
            items = self.outbox.replace(item, halves)
        if items is None:
            return False
        queue = self._queue_of(item)
        queue.popleft()
        queue.extendleft(reversed(items))
        self._owed.split(batch.key, (half.key for half in halves))
        return True

    def postpone(self, item: Item) -> None:
        """Put what is answered for strangely behind the rest of the backlog."""
        queue = self._queue_of(item)
        if queue is not self._fresh:
            queue.rotate(-1)

    def spool(self) -> bool:
        """Move what is in memory now to the outbox; return whether nothing is left there."""
        until = self.buffer.taken + len(self.buffer.lines)  # not what comes in meanwhile: that would make tiny files
        self._seal_next()
        while self._move_fresh() and self.buffer.taken < until:
            self._seal_next()
        return not self._fresh and self.buffer.taken >= until

    def is_pressed(self) -> bool:
        """Tell whether so much has come that it must be sealed before its time."""
        return max(self.buffer.in_memory(), self.journal.open_bytes() if self.journal else 0) > WAKE_BYTES

    def has_work(self) -> bool:
        """Tell whether a batch is ready to be sent."""
        return bool(self._fresh or self._backlog())

    def owes(self) -> bool:
        """Tell whether events that were logged here are not settled."""
        return bool(self._owed or self.buffer.lines or (self.journal and self.journal.waiting()))

    def mark(self) -> Mark:
        """Return this moment, and hurry to get past it."""
        lines = self.buffer.taken + len(self.buffer.lines)
        self._mark = Mark(lines, self.journal.waiting() if self.journal else [], self._owed.lost)
        return replace(self._mark)

    def is_past(self, mark: Mark) -> bool:
        """Tell whether everything logged before `mark` is settled."""
        return (mark.number is not None or self._is_sealed(mark)) and self._owed.is_past(mark)

    def has_lost(self, mark: Mark) -> bool:
        """Tell whether sealed events were lost since `mark`."""
        return self._owed.lost > mark.lost

    def in_memory(self) -> int:
        """Return how many events are in memory only."""
        return len(self.buffer.lines) + sum(item.count for item in self._fresh if isinstance(item, Batch))

    def spooled(self) -> int:
        """Return how many events are on disk."""
        files = [*self._fresh, *self._entries()]
        waiting = self.journal.count() if self.journal else 0
        return waiting + sum(item.count for item in files if isinstance(item, Entry))

    def close(self) -> int:
        """Leave the files to the next process, and forget the rest; return how many events are lost thereby."""
        if self.journal:
            self._fresh.extend(self._numbered(entry) for entry in self.journal.close())
        lost = self.in_memory()
        self.buffer.take(NEVER, NEVER)
        self.buffer.released = self.buffer.added
        kept = [item for item in self._fresh if isinstance(item, Entry)]
        self._fresh.clear()
        self._fresh.extend(kept)
        self._owed.lost += lost
        if self.outbox:
            self.outbox.close()
        return lost

    def _seal_next(self) -> bool:
        """Seal the oldest events that are not; return whether there were any."""
        sealed: list[Item] = list(self.journal.take()) if self.journal else []
        if lines := self.buffer.take(BATCH_MAX_EVENTS, BATCH_MAX_BYTES):
            sealed.append(seal(lines, last_look=self._last_look))
        self._fresh.extend(map(self._numbered, sealed))
        return bool(sealed)

    def _move_fresh(self) -> bool:
        while self._fresh and self.outbox is not None:
            item = self._fresh[0]
            entry = self.outbox.store(item) if isinstance(item, Batch) else item
            if entry is None:
                return False
            self._fresh.popleft()
            self.outbox.entries.append(entry)
            if isinstance(item, Batch):
                self.buffer.released += item.line_bytes
        return not self._fresh

    def _numbered(self, item: Item) -> Item:
        self._owed.add(item.key)
        return item

    def _adopt(self, now: float) -> None:
        if self._adoption is None or now < self._adopt_at or len(self._entries()) >= ADOPTED_AT_ONCE:
            return
        self._adopt_at = now + (0.0 if self._adoption.adopt() else ADOPT_INTERVAL_S)

    def _backlog(self) -> deque[Any]:
        return self._entries() if self.outbox is not None and self.outbox.readable() else deque()

    def _entries(self) -> deque[Any]:
        return deque() if self.outbox is None else self.outbox.entries

    def _is_sealed(self, mark: Mark) -> bool:
        waiting = self.journal.waiting() if self.journal and mark.parts else ()
        return self.buffer.taken >= mark.lines and not any(part in waiting for part in mark.parts)

    def _queue_of(self, item: Item) -> deque[Any]:
        if self.outbox is None or (self._fresh and self._fresh[0] is item):
            return self._fresh
        return self.outbox.entries

    def _load(self, entry: Entry) -> Batch | None:
        assert self.outbox is not None
        return None if self.outbox.is_expired(entry) else self.outbox.load(entry)

    def _remove(self, item: Item) -> None:
        removed = self._queue_of(item).popleft()
        assert removed is item
        self._owed.settle(item.key)
