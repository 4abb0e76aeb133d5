"""The outbox: batches that wait on disk, one file each, in a directory of this process.

    <spool_dir>/<destination>-<pid>-<random>/lock          locked while the process is alive
                                            /<key>.batch   a batch (`batch_file`)
                                            /<key>.part    an open journal (`journal`)
               /damaged/  the last 1,000 unreadable files     /rejected/  the last 10 batches that were rejected

The events that each way of ending loses, of those whose `log_system_event` has returned (tested by `test_exit`,
`test_durable` and `test_memory_journal`):

    ===================  ===================  ==========================  ===================
    mode                 exit, exception      kill -9, crash              power loss
    ===================  ===================  ==========================  ===================
    default              nothing              nothing (3)                 (1) and (2)
    no journal           nothing              (1)                         (1) and (2)
    durable              nothing              nothing                     (2)
    durable and fsync    nothing              nothing                     nothing
    spool_dir=None       what cannot be sent  all that is not delivered   as kill -9
                         within 2 s
    ===================  ===================  ==========================  ===================

(1) Events of the last `interval_s`, and the batch in delivery, which is on disk after three failures; in an outage the
events since the last file, at most `files / 500` s (`queue`). (2) Writes that the kernel had not completed. (3) Except
(1) for events that the journal on tmpfs has no room for (`memory_journal`).
On a full or failing disk events stay in memory until the disk works again. Events dropped while the process runs are
counted.
"""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH108, PTH119, PTH208

import errno
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from uuid import UUID

import msgspec

from brain_events._queue import batch_file
from brain_events._queue.batch import Batch
from brain_events._queue.batch_file import DamagedError
from brain_events._queue.notices import Notices
from brain_events._queue.process_dir import Home, ProcessDir, open_private, open_root

MAX_FILES = 25_000
MAX_AGE_S = 5 * 24 * 3600.0
"""Older batches are not sent: the collector forgets idempotency keys after 14 days, and could store them twice."""
KEPT_REJECTED = 10
KEPT_DAMAGED = 1_000
DISK_PAUSE_S = 5.0
"""Pause in seconds after a disk error."""
_BATCH_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(?:batch|part)")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime_s() -> float:
    """Return a clock in seconds that nobody can set, and that also advances while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class Entry(msgspec.Struct):
    """A file of this process's outbox; `expires_at` is a time of `uptime_s`."""

    path: str
    key: UUID
    count: int
    size_bytes: int
    created: float
    expires_at: float = msgspec.field(default_factory=lambda: uptime_s() + MAX_AGE_S)


class Outbox:
    """Batches on disk, the oldest first. Creates nothing before the first file. Used under the worker's lock."""

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
        self._home = Home(root, self.tag, fsync=fsync)

    @property
    def files(self) -> int:
        """Number of files."""
        return self._files

    def is_writable(self) -> bool:
        """Return whether there is room, and no write failed in the last `DISK_PAUSE_S`."""
        has_room = self._size_bytes < self._max_bytes and self._files < self._max_files
        return has_room and time.monotonic() >= self._write_not_before

    def is_readable(self) -> bool:
        """Return whether no read failed in the last `DISK_PAUSE_S`. A full disk is readable, which frees space."""
        return time.monotonic() >= self._read_not_before

    def home(self) -> ProcessDir:
        """Return the directory of this process, and create it first if needed. Any thread may call this.

        Raises:
            OSError: It cannot be created.
        """
        return self._home.open()

    def store(self, batch: Batch) -> Entry | None:
        """Write a batch and return its entry; None if there is no room or the disk fails."""
        if not self.is_writable():
            return None
        now = time.time()
        data = batch_file.encode_sealed(batch, self.destination, now)
        for _ in range(2):  # the second time in a new directory, if the first one was removed
            try:
                path = self.home().file(f"{batch.key}.batch")
                batch_file.write(path, data, fsync=self.fsync)
            except OSError as error:
                self.pause_writes(error)
            else:
                return self.add(Entry(path, batch.key, batch.count, len(data), now))
            if not self.is_writable():
                break
        return None

    def has(self, key: UUID) -> bool:
        """Return whether the batch with this key is among `entries`, which is searched from end to end."""
        return any(entry.key == key for entry in self.entries)

    def store_all(self, batches: Iterable[Batch]) -> list[Entry] | None:
        """Write batches and return their entries; if one of them cannot be written, keep none, and return None."""
        written = [self.store(batch) for batch in batches]
        stored = [part for part in written if part is not None]
        if len(stored) < len(written):  # a part that is sent twice has the same idempotency key
            for part in stored:
                self.discard(part)
            return None
        return stored

    def replace(self, entry: Entry, batches: Iterable[Batch]) -> list[Entry] | None:
        """Replace the file of a batch by those of its parts; if they cannot be written, change nothing, return None."""
        stored = self.store_all(batches)
        if stored is None:
            return None
        self.discard(entry)
        # If a power loss restored the file, and the collector had raised its limit, it would store the events twice.
        self.sync()
        return stored

    def sync(self) -> None:
        """With `fsync`, make all changes of names in the directory survive a power loss."""
        home = self._home.path
        if self.fsync and home is not None:
            try:
                batch_file.fsync_directory(home)
            except OSError as error:
                self.pause_writes(error)

    def keep_rejected(self, batch: Batch) -> None:
        """Write a batch from memory that the collector has rejected to `rejected`, for a person to inspect."""
        if entry := self.store(batch):
            self.set_aside(entry, "rejected")

    def add(self, entry: Entry) -> Entry:
        """Count a file as one of this outbox."""
        self._size_bytes += entry.size_bytes
        self._files += 1
        return entry

    def pause_writes(self, error: OSError) -> None:
        """Write nothing for `DISK_PAUSE_S` after a disk error. Any thread may call this."""
        self._write_not_before = time.monotonic() + DISK_PAUSE_S
        if isinstance(error, FileNotFoundError):  # the directory was removed: create another one without a pause
            self._write_not_before = 0.0 if self._home.forget_if_removed() else self._write_not_before
        self.notices.warn("disk", "the outbox cannot be used, events stay in memory: %s", error)

    def load(self, entry: Entry) -> Batch | None:
        """Return the batch of a file; if it is damaged, empty or missing, count the loss and return None.

        Raises:
            OSError: The disk failed; the file can be read later.
        """
        try:
            batch = batch_file.decode(batch_file.read(entry.path))
        except (DamagedError, FileNotFoundError) as error:
            self.give_up_damaged(entry, error)
            return None
        except OSError as error:  # writing continues: another part of the disk may be sound
            self._read_not_before = time.monotonic() + DISK_PAUSE_S
            self.notices.warn("read", "%s cannot be read now and is left in the outbox: %s", entry.path, error)
            raise
        self.lost["damaged"] += entry.count - batch.count
        entry.count = batch.count
        if not batch.count:
            self.discard(entry)
        return batch if batch.count else None

    def is_expired(self, entry: Entry) -> bool:
        """Return whether a batch is too old to be sent; if so, remove and count it."""
        if uptime_s() < entry.expires_at:
            return False
        self.lost["expired"] += entry.count
        text = "%d events were dropped: they waited for the collector for more than 5 days"
        self.notices.warn("expired", text, entry.count)
        self.discard(entry)
        return True

    def discard(self, entry: Entry) -> None:
        """Delete a file that is not needed any more."""
        self._remove(entry)
        try:
            with suppress(FileNotFoundError):
                os.unlink(entry.path)
        except OSError as error:  # another process may send it again; the collector knows its idempotency key
            self.notices.warn("disk", "a delivered batch cannot be deleted from the outbox: %s", error)

    def set_aside(self, entry: Entry, folder: str) -> None:
        """Move a file to `damaged` or `rejected`, for a person to inspect."""
        self._remove(entry)
        try:
            self._move(entry.path, folder, KEPT_REJECTED if folder == "rejected" else KEPT_DAMAGED)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:  # without descriptors it stays, for the next process
                with suppress(OSError):
                    os.unlink(entry.path)

    def close(self) -> None:
        """Release the directory; the next process adopts its files."""
        self._home.close()

    def release(self) -> None:
        """Release the lock in a forked child: files and lock belong to the parent."""
        self._home.release()

    def give_up_damaged(self, entry: Entry, error: Exception) -> None:
        """Count the events of an unreadable file as lost, and move it to `damaged`."""
        self.lost["damaged"] += entry.count
        self.notices.warn("damaged", "%s cannot be read and is moved to damaged/: %s", entry.path, error)
        self.set_aside(entry, "damaged")

    def _move(self, path: str, folder: str, n_kept: int) -> None:
        """Move a file to a folder of the outbox, which must not be a link; keep the last `n_kept` batches in it.

        Raises:
            OSError: The folder cannot be used.
        """
        with ExitStack() as stack:
            root = open_root(self.root)
            stack.callback(os.close, root)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=root)
            target = open_private(folder, root)
            stack.callback(os.close, target)
            os.rename(path, os.path.basename(path), dst_dir_fd=target)
            for name in sorted(filter(_BATCH_NAME.fullmatch, os.listdir(target)))[:-n_kept]:
                os.unlink(name, dir_fd=target)

    def _remove(self, entry: Entry) -> None:
        self._size_bytes -= entry.size_bytes
        self._files -= 1
