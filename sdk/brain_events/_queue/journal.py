"""The journal of durable mode, on disk: write each event to a file before `log` returns; complete files become batches.

No lock is acquired, so that a signal handler or a finalizer may log in the middle of a write. A caller registers as a
writer of the open part, and then checks that the part is still the open one. The worker first opens another part, and
takes the old one only once it has no writers. Each write is one write(2) of a line break and a line to a file opened
with O_APPEND: lines of several threads never mix, and the next line break ends a line that a full disk has cut short.
Such a line is not valid JSON, so a reader skips it; the event itself is kept in memory.
"""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH104, PTH108

import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

from brain_events._queue.batch_file import encode_journal, fsync_directory, write
from brain_events._queue.buffer import Buffer
from brain_events._queue.notices import Notices
from brain_events._queue.outbox import Entry, Outbox
from brain_events.wire import new_key

MAX_PART_EVENTS = 5_000
MAX_PART_BYTES = 1024 * 1024
MAX_IDLE_S = 3600.0
"""A part without events is replaced after this time, in seconds: the age of events is that of their part."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Part:
    """One file of the journal, open or complete."""

    def __init__(self, path: str, key: UUID, file: int, created: float) -> None:
        self.path = path
        self.key = key
        self.file = file
        self.created = created
        self.writers: list[None] = [None]  # one item per call that may be writing, first the one that creates it
        self.full = False
        self.count = 0
        self.size_bytes = 0

    def close(self) -> None:
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)


class Journal:
    """Replaces the buffer, which gets only the events that cannot be written to disk."""

    def __init__(self, buffer: Buffer, outbox: Outbox, notices: Notices) -> None:
        self.not_durable = 0
        """Number of events that were kept in memory because the disk failed."""
        self.taken = 0
        """Number of events in parts that the worker has taken."""
        self._buffer = buffer
        self._outbox = outbox
        self._notices = notices
        self._fsync = outbox.fsync
        self._open: Part | None = None
        self._parts: deque[Part] = deque()  # not taken yet, the open one included; the oldest first

    def put(self, line: bytes, severity: str) -> None:
        """Write a line to disk, or put it into the buffer if that fails, without raising."""
        if self._buffer.closed or not self._write(line):
            self.not_durable += not self._buffer.closed
            self._buffer.put(line, severity)

    def waiting(self) -> list[Part]:
        """Return the parts that hold events and are not taken yet."""
        return [part for part in list(self._parts) if part.count]

    def count(self) -> int:
        """Return the number of events in parts that are not taken yet."""
        return sum(part.count for part in self.waiting())

    def open_bytes(self) -> int:
        """Return the size of the open part."""
        part = self._open
        return part.size_bytes if part else 0

    def take(self) -> Iterator[Entry]:
        """Yield complete parts as entries of the outbox, the oldest first. Called by one thread at a time."""
        part = self._open
        if part is not None and part.count:
            self._open_part()
        for part in list(self._parts):
            if part is self._open or part.writers:  # not complete yet
                continue
            self._parts.remove(part)
            self.taken += part.count
            if part.count:
                yield self._outbox.add(self._entry_of(part))
            else:
                _remove(part)

    def renew(self) -> None:
        """Open another part if the open one is old, since the age of events is that of their part."""
        part = self._open
        if part is not None and part.created < time.time() - MAX_IDLE_S:
            self._open_part()

    def close(self) -> Iterator[Entry]:
        """Yield the remaining parts and stop writing."""
        self._open = None
        yield from self.take()

    def release(self) -> None:
        """Close the files that a forked child has inherited."""
        for part in self._parts:
            part.close()

    def _write(self, line: bytes) -> bool:
        while True:
            part = self._open or self._open_part()
            if part is None:
                return False
            part.writers.append(None)
            try:
                if part is self._open:
                    return self._append(part, line)
            finally:
                part.writers.pop()

    def _append(self, part: Part, line: bytes) -> bool:
        try:
            _write_once(part.file, b"\n" + line)
        except OSError as error:
            self._fail(part, error)
            return False
        part.count += 1
        part.size_bytes += len(line) + 1
        if self._fsync:
            try:
                os.fsync(part.file)
            except OSError as error:  # the event is written: putting it into the buffer, too, would store it twice
                self._fail(part, error)
                self.not_durable += 1
        if part.size_bytes > MAX_PART_BYTES or part.count >= MAX_PART_EVENTS:
            part.full = True
            self._open = None
        if part.size_bytes > self._buffer.wake_at:
            self._buffer.wake_worker()
        return True

    def _fail(self, part: Part, error: OSError) -> None:
        if self._open is part:
            self._open = None
        self._outbox.pause_writes(error)

    def _open_part(self) -> Part | None:
        """Open the next part: on the worker, or on a caller's thread if there is none or the worker is late."""
        for full in [part for part in list(self._parts) if part.full and not part.writers]:
            full.close()  # it gets no more writes, and the application may need the file descriptor
        part = self._create()
        if part is None:
            self._open = None
            return None
        try:
            self._parts.append(part)
            self._open = part
        finally:
            part.writers.pop()
        return part

    def _create(self) -> Part | None:
        if not self._outbox.is_writable():
            return None
        key, now = new_key(), time.time()
        part = None
        try:
            home = self._outbox.home()
            # If the process is killed here, an adopter deletes the file instead of counting it as damaged.
            temporary = home.file(f".{key}.part.tmp")
            part = Part(temporary, key, os.open(temporary, _FLAGS, 0o600), now)
            part.size_bytes = _write_once(part.file, encode_journal(key, self._outbox.destination, now))
            if self._fsync:
                os.fsync(part.file)
            path = home.file(f"{key}.part")
            os.rename(temporary, path)
            part.path = path
            if self._fsync:
                fsync_directory(home.path)
        except OSError as error:
            if part is not None:
                _remove(part)
            self._outbox.pause_writes(error)
            return None
        return part

    def _entry_of(self, part: Part) -> Entry:
        path = part.path.removesuffix(".part") + ".batch"
        try:
            os.rename(part.path, path)
        except FileNotFoundError:
            path = self._rescue(part)
        except OSError:  # such as a disk that has become read-only; the file can still be sent
            path = part.path
        part.close()
        return Entry(path, part.key, part.count, part.size_bytes, part.created)

    def _rescue(self, part: Part) -> str:
        """Write a part again after its directory was removed."""
        try:
            path = self._outbox.home().file(f"{part.key}.batch")
            write(path, os.pread(part.file, os.fstat(part.file).st_size, 0), fsync=self._fsync)
        except OSError as error:
            self._outbox.pause_writes(error)
            return part.path
        return path


def _write_once(file: int, data: bytes) -> int:
    """Write `data` with one write(2), which a full disk may cut short; return the length of `data`."""
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return len(data)


def _remove(part: Part) -> None:
    part.close()
    with suppress(OSError):
        os.unlink(part.path)
