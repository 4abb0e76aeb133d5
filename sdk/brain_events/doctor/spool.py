"""The doctor's look at the outbox on disk: can it be used, and what waits in it, whose and how long. It only reads."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from brain_events._queue import batch_file
from brain_events._queue.batch_file import DamagedError, NewerError
from brain_events._queue.outbox import MAX_AGE_S
from brain_events._queue.process_dir import LOCK
from brain_events.config import Config
from brain_events.doctor.finding import Finding, age, size

MIN_FREE_BYTES = 64 * 1024 * 1024
LATE_S = 24 * 3600.0
"""What waits longer will hardly be sent by itself."""
SHOWN = 5

State = Literal["alive", "ended", "not ours"]


class Waiting(msgspec.Struct):
    """What waits for one destination, of processes in one state."""

    pids: set[str]
    batches: int = 0
    events: int = 0
    size_bytes: int = 0
    oldest_s: float = 0.0


def examine(config: Config) -> Iterator[Finding]:
    """Yield what is found in the spool directory."""
    root = config.outbox_dir()
    if root is None:
        what = "there is no spool directory: what cannot be delivered is in memory only"
        do = "" if config.spool_dir is None else "this user has no home: set BRAIN_EVENTS_SPOOL_DIR"
        yield Finding("spool", "info" if config.spool_dir is None else "wrong", what, do=do)
        return
    try:
        yield from _directory(root)
        yield from _space(root, config.spool_max_bytes)
        if root.is_dir():
            yield from _contents(root, config.url.rstrip("/"))
            yield from _aside(root)
    except OSError as error:
        do = f"run this as the user of the application, or correct the permissions of {root}"
        yield Finding("spool", "wrong", f"{root} cannot be looked at: {error.strerror or error}", str(root), do)


def _directory(root: Path) -> Iterator[Finding]:
    if not root.exists():
        above = _existing(root)
        if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
            yield Finding("spool", "ok", f"{root} will be made when it is needed", str(root))
        else:
            do = f"make {root} for this user, or set BRAIN_EVENTS_SPOOL_DIR to a directory that it can write to"
            yield Finding("spool", "wrong", f"{root} cannot be made: {above} is not writable", str(root), do)
        return
    if not root.is_dir():
        do = "remove it, or set BRAIN_EVENTS_SPOOL_DIR to a directory"
        yield Finding("spool", "wrong", f"{root} is no directory", str(root), do)
        return
    if not os.access(root, os.W_OK | os.X_OK | os.R_OK):
        do = (
            f"chown it to the user of the application, or set BRAIN_EVENTS_SPOOL_DIR (it is uid {root.stat().st_uid}'s)"
        )
        yield Finding("spool", "wrong", f"{root} is not writable by uid {os.geteuid()}", str(root), do)
        return
    mode = root.stat().st_mode & 0o777
    if mode & 0o077:
        what = f"{root} has mode {mode:03o}: others may see what waits there (each process's own directory is 700)"
        yield Finding("permissions", "info", what, f"{mode:03o}", f"chmod 700 {root}, unless several users share it")
    else:
        yield Finding("spool", "ok", f"{root} is writable, and this user's alone", str(root))


def _space(root: Path, max_bytes: int) -> Iterator[Finding]:
    state = os.statvfs(_existing(root))
    free = state.f_bavail * state.f_frsize
    what = f"{size(free)} are free there; a process may use {size(max_bytes)} (spool_max_bytes)"
    if free < MIN_FREE_BYTES or (state.f_files and not state.f_favail):
        what = f"only {size(free)} and {state.f_favail} files are free where {root} is"
        yield Finding("space", "wrong", what, free, "make room, or set BRAIN_EVENTS_SPOOL_DIR to another disk")
    else:
        do = "" if free >= max_bytes else "lower spool_max_bytes or make room: a full disk leaves events in memory"
        yield Finding("space", "info" if do else "ok", what, free, do)


def _contents(root: Path, destination: str) -> Iterator[Finding]:
    found: dict[tuple[str, State], Waiting] = {}
    unreadable: list[str] = []
    newer: list[str] = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.count("-") == 2 and entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):  # delivered meanwhile
                _look_into(entry.path, found, unreadable, newer)
    if not found and not unreadable and not newer:
        yield Finding("waiting", "ok", "no batch waits on disk", 0)
    for (where, state), waiting in sorted(found.items()):
        yield _waiting(where, state, waiting, ours=where == destination)
    if newer:
        what = f"{len(newer)} files are of a later version of this package: {', '.join(newer[:SHOWN])}"
        do = "only a process with that version sends them: install it again within 5 days, or they are given up"
        yield Finding("waiting", "wrong", what, len(newer), do)
    if unreadable:
        what = f"{len(unreadable)} files cannot be read as batches: {', '.join(unreadable[:SHOWN])}"
        do = "the next process that adopts them moves them to damaged/: keep a copy if you want to look at them"
        yield Finding("damaged", "wrong", what, len(unreadable), do)


def _look_into(path: str, found: dict[tuple[str, State], Waiting], unreadable: list[str], newer: list[str]) -> None:
    state = _state(path)
    pid = path.rsplit("-", 2)[1]
    if state == "not ours":
        waiting = found.setdefault(("another user", state), Waiting(set()))
        waiting.pids.add(pid)
        return
    for name in os.listdir(path):  # noqa: PTH208 -- there can be 25,000
        if name == LOCK or name.endswith(".tmp"):
            continue
        try:
            destination, count, n_bytes, created = _examine(f"{path}/{name}")
        except FileNotFoundError:
            continue
        except NewerError:
            newer.append(f"{path}/{name}")
            continue
        except (DamagedError, OSError) as error:
            unreadable.append(f"{path}/{name} ({error})")
            continue
        waiting = found.setdefault((destination, state), Waiting(set()))
        waiting.pids.add(pid)
        waiting.batches += 1
        waiting.events += count
        waiting.size_bytes += n_bytes
        waiting.oldest_s = max(waiting.oldest_s, time.time() - created)


def _examine(path: str) -> tuple[str, int, int, float]:
    """Return destination, number of events, size and time of a file; a journal has to be counted."""
    header = batch_file.decode_header(batch_file.read(path, batch_file.HEADER_BYTES))
    count = header.seal.count if header.seal else batch_file.decode(batch_file.read(path)).count
    return header.destination, count, Path(path).stat().st_size, header.created


def _state(path: str) -> State:
    """Tell whether the process of a directory lives: it then holds the lock. A shared one for a moment harms nobody."""
    try:
        lock = os.open(f"{path}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:
        return "not ours"
    except OSError:
        return "ended"
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return "alive"
    finally:
        os.close(lock)
    return "ended"


def _waiting(where: str, state: State, waiting: Waiting, *, ours: bool) -> Finding:
    pids = ", ".join(sorted(waiting.pids)[:SHOWN]) + (", ..." if len(waiting.pids) > SHOWN else "")
    if state == "not ours":
        return Finding(
            "waiting", "info", f"batches of another user wait (process {pids}); only that user's are sent", pids
        )
    what = (
        f"{waiting.batches} batches with {waiting.events} events ({size(waiting.size_bytes)}) wait for {where}, of "
        f"{'running' if state == 'alive' else 'ended'} processes ({pids}), the oldest for {age(waiting.oldest_s)}"
    )
    if state == "alive":
        do = "they are sent when the collector can be reached; the logger brain_events of that process says why not yet"
    elif ours:
        do = "the next process of this user that sends there takes them over with its first event"
    else:
        do = f"only a process whose url is {where} sends them: start one, or delete them if that collector is gone"
    if waiting.oldest_s >= MAX_AGE_S:
        do = "older than 5 days, they are given up: the collector may have forgotten their keys. " + do
    level: Literal["info", "wrong"] = "wrong" if waiting.oldest_s >= LATE_S else "info"
    return Finding("waiting", level, what, msgspec.structs.asdict(waiting) | {"state": state, "destination": where}, do)


def _aside(root: Path) -> Iterator[Finding]:
    """Look at what was set aside, for a person."""
    for name, why in (("damaged", "could not be read"), ("rejected", "were refused by the collector for good")):
        if not (root / name).is_dir():
            continue
        states = [path.stat() for path in (root / name).iterdir()]
        if states:
            total, newest_s = sum(state.st_size for state in states), time.time() - max(s.st_mtime for s in states)
            what = f"{len(states)} files ({size(total)}) in {root / name} {why}, the newest {age(newest_s)} ago"
            do = "look at them (a header line, then NDJSON, gzip where it says so), then delete them"
            yield Finding(name, "wrong", what, len(states), do)


def _existing(path: Path) -> Path:
    return next(above for above in (path, *path.parents) if above.exists())
