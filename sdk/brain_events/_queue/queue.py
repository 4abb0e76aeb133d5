"""Batches that wait for delivery: made of lines from the buffer, parts of the journal, and files of dead processes.

There are two queues. `fresh` holds newly sealed batches, in memory or (durable mode) on disk; the *backlog* is the
outbox, the oldest first. They take turns, so that neither waits until the other is empty. The order of events is kept
within a batch, and between batches while no attempt fails.

While the collector is away, and when memory is half full, new events are moved to the outbox: at once, then every
`interval_s`, then less and less often, so that an outage of days makes no more files than the outbox may have.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from brain_events._queue.adoption import ADOPTED_AT_ONCE, Adoption
from brain_events._queue.batch import Batch, Scrub, halve, seal
from brain_events._queue.buffer import NEVER, Buffer
from brain_events._queue.flush_marks import Mark, Unsettled
from brain_events._queue.journal import Journal
from brain_events._queue.memory_journal import MemoryJournal
from brain_events._queue.outbox import Entry, Outbox

BATCH_MAX_EVENTS = 5_000
BATCH_MAX_BYTES = 1024 * 1024
WAKE_BYTES = 128 * 1024  # about 500 events
ADOPT_INTERVAL_S = 60.0
ADOPT_PARTS_INTERVAL_S = 5.0
FILES_PER_S = 500
"""In an outage a file is written every `files / FILES_PER_S` seconds, so 5 days make 20,000 files."""

Item = Batch | Entry


class Queue:
    """Used under the lock of `Delivery`, as are all its parts except `buffer.put` and `journal.put`."""

    def __init__(
        self,
        buffer: Buffer,
        outbox: Outbox | None,
        journal: Journal | MemoryJournal | None,
        *,
        interval_s: float,
        crowded_bytes: int,
        scrub: Scrub | None = None,
    ) -> None:
        self.buffer = buffer
        self.outbox = outbox
        self.journal = journal
        self._parts = journal if isinstance(journal, MemoryJournal) else None  # in memory until they are sealed
        self._interval_s = interval_s
        self._crowded_bytes = crowded_bytes  # with more in memory, new events go to the outbox
        self._scrub = scrub
        self._fresh: deque[Item] = deque()
        self._unsettled = Unsettled()
        self._adoption = Adoption(outbox) if outbox is not None else None
        self._mark = Mark(0, [], 0)
        self._collect_at = 0.0
        self._adopt_at = 0.0
        self._adopt_parts_at = 0.0
        self._left = 0  # events that were left to the next process, in parts on tmpfs
        self.closing = False
        self._was_away = False
        self._backlog_is_next = False

    def collect(self, *, away: bool) -> None:
        """Seal due events into `fresh`, or into the outbox if they cannot be delivered soon."""
        now = time.monotonic()
        crowded = self.buffer.in_memory() > self._crowded_bytes
        due = now >= self._collect_at or crowded or self.is_pressed() or not self._is_sealed(self._mark)
        due = due or away != self._was_away or self.closing
        self._was_away = away
        if not self.closing:
            self._adopt(now)
            if self.journal:
                self.journal.renew()
        if not due:
            return
        interval_s = self._interval_s
        if (away or crowded) and self.outbox is not None and self.outbox.is_writable():
            self.move_to_outbox()
            interval_s = max(interval_s, self.outbox.files / FILES_PER_S)
        elif not self._fresh:
            self._seal_next()
        self._collect_at = now + interval_s

    def next(self) -> tuple[Item, Batch] | None:
        """Return the item to send now and its batch; None if there is none, or the disk fails."""
        for backlog in (self._backlog_is_next, not self._backlog_is_next):
            queue = self._backlog() if backlog else self._fresh
            while queue:
                item = queue[0]
                try:
                    batch = item if isinstance(item, Batch) else self._load(item)
                except OSError:  # try later: the backlog is not read while the disk fails
                    self._entries().append(queue.popleft())
                    break
                if batch is not None:
                    self._backlog_is_next = not backlog
                    return item, batch
                self._unsettled.lose(item.key, queue.popleft().count)
        return None

    def settle(self, item: Item) -> None:
        """Remove a batch that the collector has."""
        self._remove(item)
        if isinstance(item, Batch):
            self._release(item)
        elif self.outbox is not None:
            self.outbox.discard(item)

    def reject(self, item: Item) -> None:
        """Set aside a batch that the collector will never accept."""
        self._remove(item)
        if isinstance(item, Batch):
            if self.outbox is not None:
                self.outbox.keep_rejected(item)
            self._release(item)
        elif self.outbox is not None:
            self.outbox.set_aside(item, "rejected")

    def split(self, item: Item, batch: Batch) -> bool:
        """Replace a batch that is too large by its halves; return False if the disk has no room for them."""
        halves, queue, to = halve(batch), self._queue_of(item), self._queue_of(item)
        items: Sequence[Item] = halves
        if isinstance(item, Entry):
            assert self.outbox is not None
            written = self.outbox.replace(item, halves)
            if written is None:
                return False
            items = written
        elif self._parts and self.outbox is not None and (stored := self.outbox.store_all(halves)) is not None:
            # A process that adopted the part would send the whole, even if one of its halves is delivered.
            items, to = stored, self.outbox.entries
        queue.popleft()
        to.extendleft(reversed(items))
        self._unsettled.split(batch.key, (half.key for half in halves))
        if items is not halves and isinstance(item, Batch):
            self._release(item)
        elif self._parts:
            self._parts.split(batch.key)
        return True

    def postpone(self, item: Item) -> None:
        """Move an item of the backlog to its end, after an unexpected response."""
        queue = self._queue_of(item)
        if queue is not self._fresh:
            queue.rotate(-1)

    def move_to_outbox(self) -> bool:
        """Move all events that are in memory now to the outbox; return whether none of them is left in memory."""
        mark = self._mark_now()  # without later events, which would make tiny files
        self._seal_next()
        while self._move_fresh() and not self._is_sealed(mark):
            self._seal_next()
        return not self._fresh and self._is_sealed(mark)

    def is_pressed(self) -> bool:
        """Return whether enough events wait to be sealed before the interval ends."""
        return max(self.buffer.in_memory(), self.journal.open_bytes() if self.journal else 0) > WAKE_BYTES

    def has_work(self) -> bool:
        """Return whether a batch is ready to be sent."""
        return bool(self._fresh or self._backlog())

    def has_unsettled(self) -> bool:
        """Return whether events of this process are not settled."""
        return bool(self._unsettled or self.buffer.lines or (self.journal and self.journal.waiting()))

    def mark(self) -> Mark:
        """Return a mark of this moment, and seal all events before it without delay."""
        self._mark = self._mark_now()
        return replace(self._mark)

    def is_past(self, mark: Mark) -> bool:
        """Return whether every event logged before `mark` is settled."""
        return (mark.number is not None or self._is_sealed(mark)) and self._unsettled.is_past(mark)

    def has_lost(self, mark: Mark) -> bool:
        """Return whether sealed events were lost since `mark`."""
        return self._unsettled.lost > mark.lost

    def in_memory(self) -> int:
        """Return the number of events that are in memory, those on tmpfs included."""
        waiting = self._parts.count() if self._parts else 0
        return waiting + len(self.buffer.lines) + sum(item.count for item in self._fresh if isinstance(item, Batch))

    def on_disk(self) -> int:
        """Return the number of events on disk, or left to the next process."""
        files = [*self._fresh, *self._entries()]
        waiting = self.journal.count() if self.journal and not self._parts else self._left
        return waiting + sum(item.count for item in files if isinstance(item, Entry))

    def close(self) -> int:
        """Leave the files to the next process, and drop the events in memory; return the number of dropped events."""
        if self.journal:
            self._fresh.extend(self._track(item) for item in self.journal.close())
        if self._parts:
            self._left = sum(item.count for item in self._fresh if self._parts.holds(item.key))
            self._fresh = deque(item for item in self._fresh if not self._parts.holds(item.key))
            self._parts.close_home()
        lost = self.in_memory()
        self.buffer.take(NEVER, NEVER)
        self.buffer.released = self.buffer.added
        kept = [item for item in self._fresh if isinstance(item, Entry)]
        self._fresh.clear()
        self._fresh.extend(kept)
        self._unsettled.lost += lost
        if self.outbox:
            self.outbox.close()
        return lost

    def _mark_now(self) -> Mark:
        lines = self.buffer.taken + len(self.buffer.lines)
        return Mark(lines, self.journal.waiting() if self.journal else [], self._unsettled.lost)

    def _seal_next(self) -> bool:
        """Seal the oldest events that are not sealed; return whether there were any."""
        n_fresh = len(self._fresh)
        waiting = len(self.buffer.lines)  # they follow the parts; later ones may follow a part that is open now
        for item in self.journal.take() if self.journal else ():
            self._fresh.append(self._track(item))
        if self._parts and self._parts.has_complete():
            waiting = 0
        if lines := self.buffer.take(min(waiting, BATCH_MAX_EVENTS), BATCH_MAX_BYTES):
            self._fresh.append(self._track(seal(lines, scrub=self._scrub)))
        return len(self._fresh) > n_fresh

    def _move_fresh(self) -> bool:
        while self._fresh and self.outbox is not None:
            item = self._fresh[0]
            # Of a batch that is not in the buffer, but was adopted from the journal, the outbox may have a file, too.
            if isinstance(item, Batch) and not item.line_bytes and self.outbox.has(item.key):
                self._fresh.popleft()
                self.outbox.adopted -= item.count
                self._release(item)
                continue
            entry = self.outbox.store(item) if isinstance(item, Batch) else item
            if entry is None:
                return False
            self._fresh.popleft()
            self.outbox.entries.append(entry)
            if isinstance(item, Batch):
                self._release(item)
        return not self._fresh

    def _release(self, batch: Batch) -> None:
        """Forget a batch that is not needed in memory any more."""
        self.buffer.released += batch.line_bytes
        if self._parts:
            self._parts.settle(batch.key)

    def _track(self, item: Item) -> Item:
        self._unsettled.add(item.key)
        return item

    def _adopt(self, now: float) -> None:
        if self._parts and now >= self._adopt_parts_at and not self._fresh:
            self._fresh.extend(self._parts.adopt())
            self._adopt_parts_at = now + (0.0 if self._fresh else ADOPT_PARTS_INTERVAL_S)
        if self._adoption is None or now < self._adopt_at or len(self._entries()) >= ADOPTED_AT_ONCE:
            return
        self._adopt_at = now + (0.0 if self._adoption.adopt() else ADOPT_INTERVAL_S)

    def _backlog(self) -> deque[Any]:
        return self._entries() if self.outbox is not None and self.outbox.is_readable() else deque()

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
        self._unsettled.settle(item.key)
