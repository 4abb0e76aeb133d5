"""The journal of the default mode: write each event into a mapped file on tmpfs, which outlives the process.

No lock is acquired, so that a signal handler or a finalizer may log in the middle of a write. `mmap.write` is one C
call: it copies a line to the end of the part and advances the position, and no other thread runs meanwhile. It raises
ValueError if the line does not fit. So the worker completes a part by moving its position to its end: each line is
written before that, or refused, and then goes to the next part.

    <journal_dir>/brain-events-<uid>/<destination and outbox>-<pid>-<random>/lock         locked as in the outbox
                                                                            /<key>.part   a part (`batch_file`)

A part becomes one batch under its own idempotency key, and its file is deleted once that batch is delivered or in the
outbox. The files that a dead process leaves are adopted in the same way. Files are preallocated, and only on tmpfs:
touching a mapped page that a full disk cannot provide would end the process by SIGBUS.
"""

# Paths are plain strings here, as in the outbox.
# ruff: noqa: PTH104, PTH108, PTH208

import errno
import mmap
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from brain_events._queue.batch import Batch, Scrub, half_keys, seal
from brain_events._queue.batch_file import (
    DamagedError,
    Header,
    NewerError,
    decode_header,
    encode_journal,
    events_of,
    read,
)
from brain_events._queue.buffer import Buffer
from brain_events._queue.journal import MAX_IDLE_S
from brain_events._queue.notices import Notices
from brain_events._queue.outbox import MAX_AGE_S
from brain_events._queue.process_dir import LOCK, Home, ProcessDir, abandoned_dirs, dead_dirs, open_root
from brain_events.wire import new_key

PART_BYTES = 400 * 1024
"""Size of a part; the shortest events fill it with less than 5,000, the maximum of a batch."""
MAX_ATTEMPTS = 100
"""Other threads can fill a part before the one that has opened it writes there."""
ADOPTED_AT_ONCE = 8
TAKEN_AT_ONCE = 3
"""About 1 MiB, as `queue` takes of the buffer: the worker holds its lock while it seals them."""
FREE_SHARE = 0.25
"""Share of the tmpfs that is left to others."""
PAUSE_S = 5.0
"""Pause in seconds after a part could not be created."""
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class MappedPart:
    """A part that takes lines, until `complete`."""

    def __init__(self, path: str, key: UUID, created: float, memory: mmap.mmap, header_bytes: int) -> None:
        self.path = path
        self.key = key
        self.created = created
        self.write = memory.write
        self._memory = memory
        self._header_bytes = header_bytes

    @property
    def count(self) -> int:
        """Number of lines so far."""
        try:
            return self._memory[self._header_bytes : self._memory.tell()].count(b"\n")
        except ValueError:  # closed by the worker
            return 0

    def is_used(self) -> bool:
        """Return whether the part holds a line."""
        try:
            return self._memory.tell() > self._header_bytes
        except ValueError:
            return False

    def complete(self) -> list[bytes]:
        """Refuse lines from now on, and return those of the part."""
        memory = self._memory
        if memory.closed:
            return []
        end = memory.tell()
        memory.seek(0, os.SEEK_END)
        last = memory.find(b"\0", end)  # other threads may have written after `tell`
        content = memory[self._header_bytes : last if last >= 0 else len(memory)]
        memory.close()
        return content[1:].split(b"\n") if content else []

    def takes(self, data: bytes) -> bool:
        """Write `data`, or return False if the part refuses it."""
        try:
            self.write(data)
        except ValueError as error:
            if not _is_refusal(error):
                raise
            return False
        return True

    def close(self) -> None:
        """Unmap the part, and refuse lines from now on."""
        self._memory.close()


class _Kept(msgspec.Struct):
    """The file of a part whose batch, or some of the batches into which it was split, is not settled."""

    path: str
    unsettled: int = 1


class MemoryJournal:
    """Replaces the buffer, which gets only the events that no part has room for.

    Args:
        buffer: Counts the bytes of all events, and limits them.
        notices: Receives warnings.
        directory: A directory on tmpfs.
        destination: The collector's address.
        outbox: The directory of the outbox; the files of dead processes with the same one are adopted.
        max_bytes: Maximum size of all parts.
        scrub: Removes secrets from a line before it leaves the process.
    """

    def __init__(
        self,
        buffer: Buffer,
        notices: Notices,
        *,
        directory: str,
        destination: str,
        outbox: str,
        max_bytes: int,
        scrub: Scrub | None = None,
    ) -> None:
        self.taken = 0
        """Number of events in parts that the worker has taken."""
        self.adopted = 0
        self.newer = 0
        self.lost = {"expired": 0, "damaged": 0}
        self._buffer = buffer
        self._notices = notices
        self._directory = directory
        self._root = root(directory)
        self._destination = destination
        self._tag = tag(destination, outbox)
        self._max_bytes = max_bytes
        self._scrub = scrub
        self._home = Home(self._root, self._tag)
        self._pid = os.getpid()
        self._write: Callable[[bytes], int] = _refuse
        self._open: MappedPart | None = None
        self._parts: list[MappedPart] = []  # not taken yet, the open one included; the oldest first
        self._kept: dict[UUID, _Kept] = {}
        self._newer_files: set[str] = set()
        self._held = 0  # number of forks under way
        self._create_not_before = 0.0
        self._closed = False

    def put(self, line: bytes, severity: str) -> None:
        """Write a line, or put it into the buffer, or count it as dropped, without raising or waiting."""
        # As `Buffer.put`: this is the caller's path, where a call of another function takes longer than the write.
        buffer, size = self._buffer, len(line)
        limit = buffer.limits[severity]
        added = buffer.added + size
        in_memory = added - buffer.released
        if in_memory > limit or buffer.closed:
            buffer.drop()
            return
        buffer.added = added
        try:
            self._write(b"\n" + line)
        except ValueError as error:
            if not _is_refusal(error):
                raise
            try:
                self._write_elsewhere(line)
            except RecursionError:  # nothing was written
                self._keep_in_process(line)
        if in_memory > buffer.wake_at:
            buffer.wake_worker()

    def waiting(self) -> list[MappedPart]:
        """Return the parts that hold events and are not taken yet."""
        return [part for part in list(self._parts) if part.is_used()]

    def count(self) -> int:
        """Return the number of events in parts that are not taken yet."""
        return sum(part.count for part in list(self._parts))

    def open_bytes(self) -> int:
        """Return 0: the buffer counts these bytes."""
        return 0

    def take(self, *, everything: bool = False) -> Iterator[Batch]:
        """Yield the batches of the oldest `TAKEN_AT_ONCE` parts, or of all. Called by one thread at a time."""
        part = self._open
        if part is not None and part.is_used() and len(self._parts) <= TAKEN_AT_ONCE:
            if self._buffer.closed:
                self._open, self._write = None, _refuse
            else:
                self._open_part()
        complete = [part for part in list(self._parts) if part is not self._open]
        for part in complete if everything else complete[:TAKEN_AT_ONCE]:
            try:
                self._parts.remove(part)
            except ValueError:  # its thread was too late to open it
                continue
            if not (lines := part.complete()):
                _delete(part.path)
                continue
            self.taken += len(lines)
            self._kept[part.key] = _Kept(part.path)
            yield seal(lines, part.key, self._scrub)

    def has_complete(self) -> bool:
        """Return whether parts that are complete wait to be taken."""
        return any(part is not self._open for part in list(self._parts))

    def renew(self) -> None:
        """Open another part if the open one is old, since the age of events is that of their part."""
        part = self._open
        if part is not None and part.created < time.time() - MAX_IDLE_S:
            self._open_part()

    def settle(self, key: UUID) -> None:
        """Delete the file of a batch that is delivered, rejected, or in the outbox."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        kept.unsettled -= 1
        if not kept.unsettled:
            _delete(kept.path)

    def split(self, key: UUID) -> None:
        """Keep the file of a batch until both of its halves are settled."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept.unsettled += 1
            self._kept.update(dict.fromkeys(half_keys(key), kept))

    def holds(self, key: UUID) -> bool:
        """Return whether the file of a batch is there for the next process."""
        return key in self._kept and os.path.exists(self._kept[key].path)  # noqa: PTH110 -- see above

    def close(self) -> Iterator[Batch]:
        """Yield the remaining parts and stop writing."""
        self._closed = True
        self._open, self._write = None, _refuse
        yield from self.take(everything=True)

    def close_home(self) -> None:
        """Leave the files that are left to the next process."""
        self._home.close()

    def adopt(self) -> Iterator[Batch]:
        """Yield up to `ADOPTED_AT_ONCE` batches of dead processes, whose files now belong to this one."""
        room = ADOPTED_AT_ONCE
        try:
            os.close(open_root(self._root))
        except OSError:  # there is none, or it is not ours
            return
        for directory in dead_dirs(self._root, self._tag, needs_lock=True):
            try:
                home = self._open_home()
            except OSError as error:
                self._pause(error)
                return
            for name in _names(directory):
                if not room:
                    return
                if name.endswith(".tmp"):  # the process died while it created this part
                    _delete(directory.file(name))
                elif batch := self._adopt_file(directory, name, home):
                    room -= 1
                    yield batch
        for directory in abandoned_dirs(self._root, time.time() - MAX_AGE_S):
            self._expire(directory)

    def hold(self) -> None:
        """Check each write until `resume`: a forked child that has not yet released this journal shares its memory."""
        self._held += 1
        self._write = _refuse

    def resume(self) -> None:
        """Write as before `hold`, in the parent."""
        if self._held:  # else this journal was opened meanwhile
            self._held -= 1

    def release(self) -> None:
        """Unmap the parts in a forked child, and release the lock: both belong to the parent."""
        self._closed = True
        parts, self._parts, self._open, self._write, self._kept = self._parts, [], None, _refuse, {}
        for part in parts:
            part.close()
        self._home.release()

    def _write_elsewhere(self, line: bytes) -> None:
        """Write a line that the open part, if there is one, has refused."""
        if os.getpid() == self._pid:  # else a hook that runs before that of this package logs in a forked child
            part = self._open
            for _ in range(MAX_ATTEMPTS):
                if part is not None and part.takes(b"\n" + line):
                    if part is self._open and not self._held:
                        self._write = part.write
                    return
                if self._closed or len(line) > PART_BYTES - 1024:
                    break
                refused, part = part, self._open
                if part is refused and (part := self._open_part()) is None:  # else another thread has opened one
                    break
        self._keep_in_process(line)

    def _keep_in_process(self, line: bytes) -> None:
        if self._closed:
            self._buffer.drop()
            return
        self._buffer.lines.append(line)
        self._open, self._write = None, _refuse  # later events must not overtake this one

    def _open_part(self) -> MappedPart | None:
        """Open the next part, and return it, or one that another thread has opened meanwhile; None if there is none.

        The order of events is that of the parts, and events in the buffer come after them. So of several threads the
        first one to finish opens its part, and none is open while the buffer holds events.
        """
        before = self._open
        part = None if self._buffer.lines else self._create()
        if part is not None:
            self._parts.append(part)
        # No other thread runs between these checks and assignments: there is no call.
        is_next = self._open is before and not self._buffer.lines and not self._closed
        if is_next and part is not None:
            self._open, self._write = part, _refuse if self._held else part.write
        elif self._open is before or self._buffer.lines:
            self._open, self._write = None, _refuse
        if part is not None and not is_next:
            self._discard(part)
        return self._open

    def _discard(self, part: MappedPart) -> None:
        """Delete a part that was not opened, unless the worker has done so."""
        with suppress(ValueError):
            self._parts.remove(part)
            part.close()
            _delete(part.path)

    def _create(self) -> MappedPart | None:
        size_bytes = (len(self._parts) + len(self._kept) + 1) * PART_BYTES
        if size_bytes > self._max_bytes or time.monotonic() < self._create_not_before:
            return None
        failure: OSError | None = None
        for _ in range(2):  # the second time in a new directory, if the first one was removed
            try:
                return _new_part(self._open_home(), self._destination)
            except FileNotFoundError as error:
                failure = error
                self._home.forget_if_removed()
            except OSError as error:
                failure = error
                break
        if failure is not None:
            self._pause(failure)
        return None

    def _open_home(self) -> ProcessDir:
        """Return the directory of this process; another one if the process has become another user.

        Raises:
            OSError: It cannot be created.
        """
        if self._root != root(self._directory):
            self._root = root(self._directory)
            self._home.close()
            self._home = Home(self._root, self._tag)
        return self._home.open()

    def _pause(self, error: OSError) -> None:
        self._create_not_before = time.monotonic() + PAUSE_S
        text = "the journal in %s cannot be used, events stay in memory, where kill -9 loses them: %s"
        self._notices.warn("journal", text, self._root, error)

    def _adopt_file(self, directory: ProcessDir, name: str, home: ProcessDir) -> Batch | None:
        """Move a file here, and return its batch; None if it has no events, or cannot be used."""
        path = directory.file(name)
        if path in self._newer_files:
            return None
        try:
            header, lines = _read_part(path, name, self._destination)
            if lines and time.time() - header.created <= MAX_AGE_S:
                new_path = home.file(name)
                os.rename(path, new_path)
                self._kept[header.key] = _Kept(new_path)
                self.adopted += len(lines)
                return replace(seal(lines, header.key, self._scrub), line_bytes=0)  # they are not in the buffer
            self._count_expired(directory, len(lines))
        except NewerError as error:  # after a downgrade, or while other processes are already upgraded
            self._newer_files.add(path)
            self.newer += 1
            self._notices.warn("newer", "%s is left where it is, for a later version of brain-events: %s", path, error)
            return None
        except DamagedError as error:
            if _delete(path):
                self.adopted += 1  # the file held at least one event
                self.lost["damaged"] += 1
            self._notices.warn("damaged", "%s cannot be read and is removed: %s", path, error)
        except OSError as error:
            self._notices.warn("adopt", "%s is left where it is: %s", path, error)
            return None
        _delete(path)
        return None

    def _expire(self, directory: ProcessDir) -> None:
        """Remove files that no process adopted in time, whatever their destination."""
        for name in _names(directory):
            path, count = directory.file(name), 0
            with suppress(OSError, DamagedError):
                count = len(events_of(read(path)))
            _delete(path)
            self._count_expired(directory, count)

    def _count_expired(self, directory: ProcessDir, count: int) -> None:
        if not count:
            return
        self.adopted += count
        self.lost["expired"] += count
        text = "%d events in %s were dropped: they waited for more than 5 days, and no process sent them"
        self._notices.warn("abandoned", text, count, directory.path)


def root(directory: str) -> str:
    """Return the directory of this user's journals in `directory`."""
    return f"{directory}/brain-events-{os.geteuid()}"


def tag(destination: str, outbox: str) -> str:
    """Return the first part of the names of directories whose events may be sent by the same processes."""
    return f"{zlib.crc32(f'{destination} {outbox}'.encode()):08x}"


def _new_part(home: ProcessDir, destination: str) -> MappedPart:
    """Create a part.

    Raises:
        OSError: There is no room for it.
    """
    key, now = new_key(), time.time()
    # If the process is killed here, an adopter deletes the file.
    temporary = home.file(f".{key}.part.tmp")
    file = os.open(temporary, _FLAGS, 0o600)
    try:
        _allocate(file)
        memory = mmap.mmap(file, PART_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, **_NO_DESCRIPTOR)
        header_bytes = memory.write(encode_journal(key, destination, now))
        path = home.file(f"{key}.part")
        os.rename(temporary, path)
    except BaseException:
        _delete(temporary)
        raise
    finally:
        os.close(file)
    return MappedPart(path, key, now, memory, header_bytes)


def _allocate(file: int) -> None:
    state = os.fstatvfs(file)
    if state.f_bavail < state.f_blocks * FREE_SHARE:
        raise OSError(errno.ENOSPC, f"less than {FREE_SHARE:.0%} of that tmpfs is free")
    os.posix_fallocate(file, 0, PART_BYTES)


def _read_part(path: str, name: str, destination: str) -> tuple[Header, list[bytes]]:
    """Return the header of a part, and its complete events.

    Raises:
        NewerError: A later version wrote the file.
        DamagedError: The file cannot be read, or its name or `destination` differ from its header.
        OSError: It does not exist any more.
    """
    data = read(path)
    header = decode_header(data)
    lines = events_of(data)
    if name != f"{header.key}.part" or destination != header.destination:
        raise DamagedError(f"the header has key {header.key} and destination {header.destination}")
    return header, lines


def _refuse(_: bytes) -> int:
    """Take the place of the open part's `write` while there is none."""
    raise ValueError


def _is_refusal(error: ValueError) -> bool:
    """Return whether `mmap.write` or `_refuse` raised an error, and not a signal handler after the line was written."""
    inner = error.__traceback__ and error.__traceback__.tb_next
    return inner is None or inner.tb_frame.f_code is _refuse.__code__


def _names(directory: ProcessDir) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory.path) if name != LOCK)
    except OSError:  # removed meanwhile
        return []


def _delete(path: str) -> bool:
    """Delete a file, if somebody else has not removed it or its directory; return whether it was there."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
