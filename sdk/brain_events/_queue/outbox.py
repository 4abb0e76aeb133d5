"""The outbox: batches that wait on disk, one file each, in a directory of this process.

    <spool_dir>/<destination>-<pid>-<random>/lock          held while the process lives
                                            /<key>.batch   a batch (`_batch_file`)
                                            /<key>.part    an open journal (`_journal`)
               /damaged/  the last 1,000 that cannot be read      /rejected/  the last 10 that the collector refused

What each way of ending costs, of the events whose `log_system_event` has returned (`test_exit`, `test_durable`):

    ===================  ===================  ==========================  =================
    mode                 exit, exception      kill -9, crash              power loss
    ===================  ===================  ==========================  =================
    default              nothing              what is in memory (1)       (1) and (2)
    durable              nothing              nothing                     (2)
    durable and fsync    nothing              nothing                     nothing
    spool_dir=None       what cannot be sent  all that is not delivered   as kill -9
                         within 2 s
    ===================  ===================  ==========================  =================

(1) What came in during the last `interval_s`, and the batch under way, which is on disk after three failures; in an
outage what came in since the last file, at most `files / 500` s (`_queue`). (2) What the kernel had not written yet.
On a full or broken disk each mode is as `spool_dir=None` until it works again. What a living process loses it counts.
"""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH103, PTH104, PTH108, PTH119, PTH208

import os
import time
import zlib
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

import msgspec

from brain_events._queue import batch_file
from brain_events._queue.batch import Batch
from brain_events._queue.batch_file import DamagedError
from brain_events._queue.notices import Notices
from brain_events._queue.process_dir import ProcessDir, claim

MAX_FILES = 25_000
MAX_AGE_S = 5 * 24 * 3600.0
"""Older batches are never sent: the collector forgets keys after 14 days, and would store them twice."""
KEPT_REJECTED = 10
KEPT_DAMAGED = 1_000
DISK_PAUSE_S = 5.0
"""How long a disk that failed is left alone."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime_s() -> float:
    """Return a time that no one sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


class Entry(msgspec.Struct):
    """A file of ours: where it is, and what counts of it; `expires_at` is an `uptime_s`."""

    path: str
    key: UUID
    count: int
    size_bytes: int
    created: float
    expires_at: float = msgspec.field(default_factory=lambda: uptime_s() + MAX_AGE_S)


class Outbox:
    """Batches on disk, oldest first. Nothing is touched before the first file; used under the worker's lock."""

    def __init__(
        self,
        root: str,
        destination: str,
        notices: Notices,
        *,
        max_bytes: int,
        max_files: int = MAX_FILES,
        fsync: bool = False,
    ) -> None:
        self.entries: deque[Entry] = deque()
        self.adopted = 0
        self.newer = 0
        self.lost = {"expired": 0, "damaged": 0}
        self.destination = destination
        self.fsync = fsync
        self.root = root
        self.tag = f"{zlib.crc32(destination.encode()):08x}"
        self.notices = notices
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._size_bytes = 0
        self._files = 0
        self._write_not_before = 0.0
        self._read_not_before = 0.0
        self._home: list[ProcessDir] = []  # none or one; the first that is appended counts

    @property
    def files(self) -> int:
        """How many files there are."""
        return self._files

    def usable(self) -> bool:
        """Tell whether there is room, and no file could not be written just now."""
        has_room = self._size_bytes < self._max_bytes and self._files < self._max_files
        return has_room and time.monotonic() >= self._write_not_before

    def readable(self) -> bool:
        """Tell whether no file could not be read just now. A full disk can, which makes room."""
        return time.monotonic() >= self._read_not_before

    def home(self) -> ProcessDir:
        """Return the directory of this process, made at first need. From any thread; raises `OSError`."""
        home = self._home
        if not home:
            mine = claim(self.root, self.tag, fsync=self.fsync)
            home.append(mine)
            if home[0] is not mine:  # another thread, or one that this one interrupted, was first
                mine.close()
        return home[0]

    def store(self, batch: Batch) -> Entry | None:
        """Write a batch; return its entry, None if there is no room or the disk fails."""
        if not self.usable():
            return None
        now = time.time()
        data = batch_file.encode_sealed(batch, self.destination, now)
        for _ in range(2):  # the second time in a new directory, if somebody has removed the first
            try:
                path = self.home().file(f"{batch.key}.batch")
                batch_file.write(path, data, fsync=self.fsync)
            except OSError as error:
                self.failed(error)
            else:
                return self.take_in(Entry(path, batch.key, batch.count, len(data), now))
            if not self.usable():
                break
        return None

    def replace(self, entry: Entry, batches: Iterable[Batch]) -> list[Entry] | None:
        """Put the parts of a batch in the place of its file; None, and all is as before, if they cannot be written."""
        written = [self.store(batch) for batch in batches]
        stored = [part for part in written if part is not None]
        if len(stored) < len(written):  # a part that is sent twice has the same key
            for part in stored:
                self.discard(part)
            return None
        self.discard(entry)
        self.sync()  # if it came back, and were then not too large any more, its events would be stored twice
        return stored

    def sync(self) -> None:
        """With `fsync`: make all changes of names in our directory outlive a power loss."""
        if self.fsync and self._home:
            try:
                batch_file.fsync_directory(self._home[0].path)
            except OSError as error:
                self.failed(error)

    def refuse(self, batch: Batch) -> None:
        """Keep a batch from memory that the collector has refused, for a person to look at."""
        if entry := self.store(batch):
            self.set_aside(entry, "rejected")

    def take_in(self, entry: Entry) -> Entry:
        """Count a file as ours."""
        self._size_bytes += entry.size_bytes
        self._files += 1
        return entry

    def failed(self, error: OSError) -> None:
        """Write nothing for a while. From any thread."""
        self._write_not_before = time.monotonic() + DISK_PAUSE_S
        if isinstance(error, FileNotFoundError):  # somebody has removed the directory: begin anew, at once
            home, self._home = self._home, []
            for directory in home:
                directory.release()
            self._write_not_before = 0.0 if home else self._write_not_before
        self.notices.warn("disk", "the outbox cannot be used, events stay in memory: %s", error)

    def load(self, entry: Entry) -> Batch | None:
        """Return the batch of a file, None if it has none (any more), which is counted. Raises `OSError`."""
        try:
            batch = batch_file.decode(batch_file.read(entry.path))
        except (DamagedError, FileNotFoundError) as error:
            self.lose(entry, "damaged", error)
            return None
        except OSError as error:  # what is written now, elsewhere on the disk, may be sound
            self._read_not_before = time.monotonic() + DISK_PAUSE_S
            self.notices.warn("read", "%s cannot be read now, it stays in the outbox: %s", entry.path, error)
            raise
        self.lost["damaged"] += entry.count - batch.count
        entry.count = batch.count
        if not batch.count:
            self.discard(entry)
        return batch if batch.count else None

    def is_expired(self, entry: Entry) -> bool:
        """Tell whether a batch is too old to be sent; it is then gone, and counted."""
        if uptime_s() < entry.expires_at:
            return False
        self.lost["expired"] += entry.count
        self.notices.warn("expired", "%d events waited for the collector for more than 5 days; given up", entry.count)
        self.discard(entry)
        return True

    def discard(self, entry: Entry) -> None:
        """Delete a file that has served."""
        self._let_go(entry)
        try:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)
        except OSError as error:  # it will be sent again some day; the collector knows its key
            self.notices.warn("disk", "a delivered batch cannot be deleted from the outbox: %s", error)

    def set_aside(self, entry: Entry, where: str) -> None:
        """Move a file to `damaged` or `rejected`, for a person to look at."""
        self._let_go(entry)
        aside = f"{self.root}/{where}"
        try:
            os.makedirs(aside, mode=0o700, exist_ok=True)
            os.rename(entry.path, f"{aside}/{os.path.basename(entry.path)}")
            for old in sorted(os.listdir(aside))[: -KEPT_REJECTED if where == "rejected" else -KEPT_DAMAGED]:
                os.unlink(f"{aside}/{old}")
        except OSError:  # such as a shared directory of another user
            with suppress(OSError):
                os.unlink(entry.path)

    def close(self) -> None:
        """Let go of the directory; what is in it waits for the next process."""
        home, self._home = self._home, []
        for directory in home:
            directory.close()

    def release(self) -> None:
        """Let go of the lock in a forked child: files and lock are the parent's."""
        for directory in self._home:
            directory.release()

    def lose(self, entry: Entry, reason: str, error: Exception) -> None:
        """Count a file as lost, and set it aside."""
        self.lost[reason] += entry.count
        self.notices.warn(reason, "%s is set aside, it cannot be read: %s", entry.path, error)
        self.set_aside(entry, "damaged")

    def _let_go(self, entry: Entry) -> None:
        self._size_bytes -= entry.size_bytes
        self._files -= 1
