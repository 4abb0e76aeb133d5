"""Adoption: batches that dead processes left in the outbox come to this one; what nobody will ever send is removed."""

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
from brain_events._queue.process_dir import LOCK, ProcessDir, abandoned, dead

ADOPTED_AT_ONCE = 500


class Adoption:
    """Takes files into an `Outbox`; used under the worker's lock, as that is."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._newer: set[str] = set()  # files that stay where they are

    def adopt(self) -> bool:
        """Move batches of dead processes here, up to a number at once; return whether there may be more."""
        outbox, room = self._outbox, ADOPTED_AT_ONCE
        try:
            for found in dead(outbox.root, outbox.tag):
                if room <= 0 or not outbox.usable():
                    return room <= 0
                room = self._adopt_directory(found, room)
            if room <= 0:
                return True
            for found in abandoned(outbox.root, time.time() - MAX_AGE_S):
                self._expire_directory(found)
        finally:
            outbox.entries = deque(sorted(outbox.entries, key=lambda entry: entry.created))
        return False

    def _adopt_directory(self, found: ProcessDir, room: int) -> int:
        """Move up to `room` files; return how much room is left."""
        names = self._names(found)
        for name in _early_halves(names):
            with suppress(OSError):
                os.unlink(found.file(name))
            names.remove(name)
        for name in names:
            if found.file(name) in self._newer:
                continue
            if room <= 0 or not self._outbox.usable():
                break
            room -= 1
            try:
                self._adopt_file(found.file(name), name)
            except OSError as error:
                self._outbox.notices.warn("adopt", "%s stays where it is: %s", found.file(name), error)
        self._outbox.sync()  # before the directory that they came from is removed
        return room

    def _adopt_file(self, path: str, name: str) -> None:
        if name.endswith(".tmp"):  # was being written when its process died
            os.unlink(path)
            return
        outbox = self._outbox
        try:
            header, count = _examine(path, outbox.destination)
        except NewerError as error:  # after a downgrade; or other processes have been upgraded before this one
            text = "%s and the like stay where they are, for a later version of brain-events: %s"
            if not self._newer:
                outbox.notices.warn("newer", text, path, error)
            self._newer.add(path)
            outbox.newer += 1
            return
        except DamagedError as error:
            outbox.adopted += 1  # at least one event was in it
            outbox.lose(outbox.take_in(Entry(path, UUID(int=0), 1, 0, 0.0)), "damaged", error)
            return
        size_bytes = os.stat(path, follow_symlinks=False).st_size
        ours = outbox.home().file(f"{header.key}.batch")
        if os.path.exists(ours) and os.stat(ours).st_size == size_bytes:
            os.unlink(path)  # a power loss has kept the name of before a move, and that of after it
            return
        os.rename(path, ours)
        outbox.adopted += count
        expires_at = uptime_s() + MAX_AGE_S - max(time.time() - header.created, 0.0)
        outbox.entries.append(outbox.take_in(Entry(ours, header.key, count, size_bytes, header.created, expires_at)))

    def _expire_directory(self, found: ProcessDir) -> None:
        """Remove what nobody has adopted in time, whatever its destination: no application sends there any more."""
        before, expired = time.time() - MAX_AGE_S, 0
        for name in self._names(found):
            path = found.file(name)
            with suppress(OSError):
                if os.stat(path, follow_symlinks=False).st_mtime < before:
                    count = _count(path, name)
                    os.unlink(path)
                    expired += count
        if expired:
            self._outbox.adopted += expired
            self._outbox.lost["expired"] += expired
            text = "%d events in %s waited for more than 5 days, and no process has sent them; given up"
            self._outbox.notices.warn("abandoned", text, expired, found.path)

    def _names(self, found: ProcessDir) -> list[str]:
        try:
            return sorted(name for name in os.listdir(found.path) if name != LOCK)
        except OSError as error:  # removed meanwhile, or not for us to look into
            self._outbox.notices.warn("adopt", "%s stays where it is: %s", found.path, error)
            return []


def _early_halves(names: list[str]) -> set[str]:
    """Return the halves whose whole is there still: the process died before it sent them, and the whole may be taken.

    They begin with the same 64 bits.
    """
    alike: dict[str, dict[str, str]] = {}
    for name in names:
        key = name.partition(".")[0]
        alike.setdefault(key[:18], {})[key] = name
    found = set()
    for group in alike.values():
        for key in group if len(group) > 1 else ():
            with suppress(ValueError):  # no key
                found |= {group[half] for half in map(str, half_keys(UUID(key))) if half in group}
    return found


def _examine(path: str, destination: str | None = None) -> tuple[Header, int]:
    """Return the header of a file that another process left, and its events. Raises `DamagedError`, `OSError`."""
    header = batch_file.decode_header(batch_file.read(path, batch_file.HEADER_BYTES))
    is_named_so = path.endswith((f"/{header.key}.batch", f"/{header.key}.part"))
    if not is_named_so or destination not in {None, header.destination}:
        raise DamagedError(f"key {header.key} for {header.destination} under another name")
    return header, header.seal.count if header.seal else batch_file.decode(batch_file.read(path)).count


def _count(path: str, name: str) -> int:
    try:
        return 0 if name.endswith(".tmp") else _examine(path)[1]
    except DamagedError:
        return 1  # at least
