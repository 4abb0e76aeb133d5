"""The journal of durable mode: each event is written to a file before `log` returns; whole files become batches.

No lock is taken, so that a signal handler or a finalizer may log in the middle of it. A caller announces itself on the
part it is about to write to, and looks again whether that is still the open one; the worker first opens another part,
and then takes the old one only if nobody is announced on it. A write is one write(2) of a line break and a line to a
file opened with O_APPEND: lines of several threads never mix, and one that a full disk has cut short is ended by the
next line break. It is then no JSON, which is how a reader knows it; the event itself goes on in memory.
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
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Part:
    """A file that is being written, or was."""

    def __init__(self, path: str, key: UUID, file: int, created: float) -> None:
        self.path = path
        self.key = key
        self.file = file
        self.created = created
        self.writers: list[None] = [None]  # one for each call that may be writing now; its maker is the first
        self.full = False
        self.count = 0
        self.size_bytes = 0

    def close(self) -> None:
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)


class Journal:
    """Takes the place of the buffer, which gets only what the disk refuses."""

    def __init__(self, buffer: Buffer, outbox: Outbox, notices: Notices) -> None:
        self.not_durable = 0
        """Events that went to memory because the disk failed."""
        self.taken = 0
        """Events in parts that the worker has taken."""
        self._buffer = buffer
        self._outbox = outbox
        self._notices = notices
        self._fsync = outbox.fsync
        self._open: Part | None = None
        self._parts: deque[Part] = deque()  # not taken, the open one included; oldest first

    def put(self, line: bytes, severity: str) -> None:
        """Write a line to the disk; if that fails, put it into the buffer. Never raises."""
        if self._buffer.closed or not self._write(line):
            self.not_durable += not self._buffer.closed
            self._buffer.put(line, severity)

    def waiting(self) -> list[Part]:
        """Return the parts with events that are not taken."""
        return [part for part in list(self._parts) if part.count]

    def count(self) -> int:
        """Return how many events are in them."""
        return sum(part.count for part in self.waiting())

    def open_bytes(self) -> int:
        """Return the size of the open part."""
        part = self._open
        return part.size_bytes if part else 0

    def take(self) -> Iterator[Entry]:
        """Yield the parts that are complete, oldest first, as entries of the outbox. Called by one thread at a time."""
        part = self._open
        if part is not None and part.count:
            self._start()
        for part in list(self._parts):
            if part is self._open or part.writers:  # its time will come
                continue
            self._parts.remove(part)
            self.taken += part.count
            if part.count:
                yield self._outbox.take_in(self._entry_of(part))
            else:
                _remove(part)

    def close(self) -> Iterator[Entry]:
        """Yield the rest; nothing is written any more."""
        self._open = None
        yield from self.take()

    def release(self) -> None:
        """Close what a forked child has inherited."""
        for part in self._parts:
            part.close()

    def _write(self, line: bytes) -> bool:
        while True:
            part = self._open or self._start()
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
            _write_whole(part.file, b"\n" + line)
        except OSError as error:
            self._fail(part, error)
            return False
        part.count += 1
        part.size_bytes += len(line) + 1
        if self._fsync:
            try:
                os.fsync(part.file)
            except OSError as error:  # written it is: putting it into the buffer too would store it twice
                self._fail(part, error)
                self.not_durable += 1
        if part.size_bytes > MAX_PART_BYTES or part.count >= MAX_PART_EVENTS:
            part.full = True
            self._open = None
        if part.size_bytes > self._buffer.wake_at:
            self._buffer.call_worker()
        return True

    def _fail(self, part: Part, error: OSError) -> None:
        if self._open is part:
            self._open = None
        self._outbox.failed(error)

    def _start(self) -> Part | None:
        """Open the next part, on the worker; or on a caller's thread, if it is the first or the worker is late."""
        for full in [part for part in list(self._parts) if part.full and not part.writers]:
            full.close()  # nobody will write to it any more, and descriptors are the application's
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
        if not self._outbox.usable():
            return None
        key, now = new_key(), time.time()
        part = None
        try:
            home = self._outbox.home()
            unborn = home.file(f".{key}.part.tmp")  # killed here, nobody takes it for one that a power loss has emptied
            part = Part(unborn, key, os.open(unborn, _FLAGS, 0o600), now)
            part.size_bytes = _write_whole(part.file, encode_journal(key, self._outbox.destination, now))
            if self._fsync:
                os.fsync(part.file)
            path = home.file(f"{key}.part")
            os.rename(unborn, path)
            part.path = path
            if self._fsync:
                fsync_directory(home.path)
        except OSError as error:
            if part is not None:
                _remove(part)
            self._outbox.failed(error)
            return None
        return part

    def _entry_of(self, part: Part) -> Entry:
        path = part.path.removesuffix(".part") + ".batch"
        try:
            os.rename(part.path, path)
        except FileNotFoundError:
            path = self._rescue(part)
        except OSError:  # a disk that has become read-only; it can still be sent
            path = part.path
        part.close()
        return Entry(path, part.key, part.count, part.size_bytes, part.created)

    def _rescue(self, part: Part) -> str:
        """Write a part again whose directory somebody has removed."""
        try:
            path = self._outbox.home().file(f"{part.key}.batch")
            write(path, os.pread(part.file, os.fstat(part.file).st_size, 0), fsync=self._fsync)
        except OSError as error:
            self._outbox.failed(error)
            return part.path
        return path


def _write_whole(file: int, data: bytes) -> int:
    """Write with one write(2), which on a full disk may end in the middle; return the length of `data`."""
    if os.write(file, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return len(data)


def _remove(part: Part) -> None:
    part.close()
    with suppress(OSError):
        os.unlink(part.path)
