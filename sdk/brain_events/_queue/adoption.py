"""Adoption: take over batches that dead processes left in the outbox, and remove those that no process will send."""

# Paths are plain strings here: there can be 25,000 of them.
# ruff: noqa: PTH104, PTH108, PTH110, PTH116, PTH208

import os
import time
from collections import deque
from contextlib import suppress
from uuid import UUID

from brain_events._queue import batch_file
from brain_events._queue.batch import half_keys
from brain_events._queue.batch_file import DamagedError, Header, NewerError
from brain_events._queue.outbox import MAX_AGE_S, Entry, Outbox, uptime_s
from brain_events._queue.process_dir import LOCK, ProcessDir, abandoned_dirs, dead_dirs, open_root

ADOPTED_AT_ONCE = 500


class Adoption:
    """Moves files into an `Outbox`. Used under the worker's lock, as `Outbox` is."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._newer: set[str] = set()  # files of a later version, which stay where they are

    def adopt(self) -> bool:
        """Move at most `ADOPTED_AT_ONCE` batches of dead processes here; return whether more may be left."""
        outbox, room = self._outbox, ADOPTED_AT_ONCE
        try:
            os.close(open_root(outbox.root))
        except FileNotFoundError:
            return False
        except OSError as error:
            outbox.notices.warn("disk", "the outbox cannot be used, events stay in memory: %s", error)
            return False
        try:
            for directory in dead_dirs(outbox.root, outbox.tag):
                if room <= 0 or not outbox.is_writable():
                    return room <= 0
                room = self._adopt_directory(directory, room)
            if room <= 0:
                return True
            for directory in abandoned_dirs(outbox.root, time.time() - MAX_AGE_S):
                self._expire_directory(directory)
        finally:
            outbox.entries = deque(sorted(outbox.entries, key=lambda entry: entry.created))
        return False

    def _adopt_directory(self, directory: ProcessDir, room: int) -> int:
        """Move up to `room` files; return the remaining room."""
        names = self._names(directory)
        for name in _premature_halves(names):
            with suppress(OSError):
                os.unlink(directory.file(name))
            names.remove(name)
        for name in names:
            if directory.file(name) in self._newer:
                continue
            if room <= 0 or not self._outbox.is_writable():
                break
            room -= 1
            try:
                self._adopt_file(directory.file(name), name)
            except OSError as error:
                self._outbox.notices.warn("adopt", "%s is left where it is: %s", directory.file(name), error)
        self._outbox.sync()  # before the directory that they came from is removed
        return room

    def _adopt_file(self, path: str, name: str) -> None:
        if name.endswith(".tmp"):  # the process died while it wrote this file
            os.unlink(path)
            return
        outbox = self._outbox
        try:
            header, count = _inspect(path, outbox.destination)
        except NewerError as error:  # after a downgrade, or while other processes are already upgraded
            text = "%s and similar files are left where they are, for a later version of brain-events: %s"
            if not self._newer:
                outbox.notices.warn("newer", text, path, error)
            self._newer.add(path)
            outbox.newer += 1
            return
        except DamagedError as error:
            outbox.adopted += 1  # the file held at least one event
            outbox.give_up_damaged(outbox.add(Entry(path, UUID(int=0), 1, 0, 0.0)), error)
            return
        size_bytes = os.stat(path, follow_symlinks=False).st_size
        new_path = outbox.home().file(f"{header.key}.batch")
        if os.path.exists(new_path) and os.stat(new_path).st_size == size_bytes:
            os.unlink(path)  # a power loss has kept both the old and the new name of a moved file
            return
        os.rename(path, new_path)
        outbox.adopted += count
        expires_at = uptime_s() + MAX_AGE_S - max(time.time() - header.created, 0.0)
        outbox.entries.append(outbox.add(Entry(new_path, header.key, count, size_bytes, header.created, expires_at)))

    def _expire_directory(self, directory: ProcessDir) -> None:
        """Remove files that were not adopted in time, for any destination: no application sends there any more."""
        before, expired = time.time() - MAX_AGE_S, 0
        for name in self._names(directory):
            path = directory.file(name)
            with suppress(OSError):
                if os.stat(path, follow_symlinks=False).st_mtime < before:
                    count = _count(path, name)
                    os.unlink(path)
                    expired += count
        if expired:
            self._outbox.adopted += expired
            self._outbox.lost["expired"] += expired
            text = "%d events in %s were dropped: they waited for more than 5 days, and no process sent them"
            self._outbox.notices.warn("abandoned", text, expired, directory.path)

    def _names(self, directory: ProcessDir) -> list[str]:
        try:
            return sorted(name for name in os.listdir(directory.path) if name != LOCK)
        except OSError as error:  # removed meanwhile, or not readable by this user
            self._outbox.notices.warn("adopt", "%s is left where it is: %s", directory.path, error)
            return []


def _premature_halves(names: list[str]) -> set[str]:
    """Return the halves of batches that still exist themselves.

    The process died before it sent the halves, so the whole batch can be sent instead. The idempotency keys of a batch
    and its halves begin with the same 64 bits.
    """
    families: dict[str, dict[str, str]] = {}
    for name in names:
        key = name.partition(".")[0]
        families.setdefault(key[:18], {})[key] = name
    halves = set()
    for family in families.values():
        for key in family if len(family) > 1 else ():
            with suppress(ValueError):  # not a UUID
                halves |= {family[half] for half in map(str, half_keys(UUID(key))) if half in family}
    return halves


def _inspect(path: str, destination: str | None = None) -> tuple[Header, int]:
    """Return the header of a file and the number of its events.

    Raises:
        DamagedError: The file cannot be read, or its name or `destination` differ from its header.
        OSError: The disk failed.
    """
    header, count = batch_file.inspect(path)
    has_its_name = path.endswith((f"/{header.key}.batch", f"/{header.key}.part"))
    if not has_its_name or destination not in {None, header.destination}:
        raise DamagedError(f"the header has key {header.key} and destination {header.destination}")
    return header, count


def _count(path: str, name: str) -> int:
    try:
        return 0 if name.endswith(".tmp") else _inspect(path)[1]
    except DamagedError:
        return 1  # at least
