"""The doctor's check of the outbox: whether it is usable, and which batches wait there. It only reads."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from brain_events._queue.batch_file import DamagedError, NewerError, inspect
from brain_events._queue.outbox import MAX_AGE_S
from brain_events._queue.process_dir import LOCK, open_root
from brain_events.config import Config
from brain_events.doctor.finding import Finding, age, size

MIN_FREE_BYTES = 64 * 1024 * 1024
LATE_S = 24 * 3600.0
"""Batches that wait longer than this, in seconds, probably need help."""
MAX_SHOWN = 5

State = Literal["alive", "ended", "not ours"]


class Waiting(msgspec.Struct):
    """The batches that wait for one destination, of all processes in one state."""

    pids: set[str]
    batches: int = 0
    events: int = 0
    size_bytes: int = 0
    oldest_s: float = 0.0


def examine(config: Config) -> Iterator[Finding]:
    """Yield the findings about the outbox."""
    root = config.outbox_dir()
    if root is None:
        what = "there is no outbox: events that cannot be delivered are kept in memory only"
        do = "" if config.spool_dir is None else "this user has no home directory: set BRAIN_EVENTS_SPOOL_DIR"
        yield Finding("spool", "info" if config.spool_dir is None else "wrong", what, do=do)
        return
    try:
        yield from _directory(root)
        yield from _space(root, config.spool_max_bytes)
        if root.is_dir():
            yield from _contents(root, config.url.rstrip("/"))
            yield from _set_aside(root)
    except OSError as error:
        do = f"run this command as the user of the application, or correct the permissions of {root}"
        yield Finding("spool", "wrong", f"{root} cannot be read: {error.strerror or error}", str(root), do)


def _directory(root: Path) -> Iterator[Finding]:
    if not root.exists():
        above = _existing(root)
        if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
            yield Finding("spool", "ok", f"{root} will be created when it is needed", str(root))
        else:
            do = f"create {root} for this user, or set BRAIN_EVENTS_SPOOL_DIR to a writable directory"
            yield Finding("spool", "wrong", f"{root} cannot be created: {above} is not writable", str(root), do)
        return
    if not root.is_dir():
        do = "remove it, or set BRAIN_EVENTS_SPOOL_DIR to a directory"
        yield Finding("spool", "wrong", f"{root} is not a directory", str(root), do)
        return
    if not os.access(root, os.W_OK | os.X_OK | os.R_OK):
        owner = root.stat().st_uid
        do = f"it belongs to uid {owner}: chown it to the application's user, or set BRAIN_EVENTS_SPOOL_DIR"
        yield Finding("spool", "wrong", f"{root} is not writable by uid {os.geteuid()}", str(root), do)
        return
    try:
        os.close(open_root(str(root)))
    except OSError as error:
        do = (
            f"as the user of the application, chmod 700 {root}, or set BRAIN_EVENTS_SPOOL_DIR to a new directory inside"
        )
        yield Finding("permissions", "wrong", f"the outbox is not used: {error}", str(root), do)
        return
    mode = root.stat().st_mode & 0o777
    if mode & 0o077:
        what = f"{root} has mode {mode:03o}: other users may list it (the directory of each process has mode 700)"
        yield Finding("permissions", "info", what, f"{mode:03o}", f"chmod 700 {root}")
    else:
        yield Finding("spool", "ok", f"{root} is writable, and only this user has access", str(root))


def _space(root: Path, max_bytes: int) -> Iterator[Finding]:
    state = os.statvfs(_existing(root))
    free = state.f_bavail * state.f_frsize
    what = f"{size(free)} are free; the outbox of a process may use {size(max_bytes)} (spool_max_bytes)"
    if free < MIN_FREE_BYTES or (state.f_files and not state.f_favail):
        what = f"only {size(free)} and {state.f_favail} files are free on the disk of {root}"
        yield Finding("space", "wrong", what, free, "free disk space, or set BRAIN_EVENTS_SPOOL_DIR to another disk")
    else:
        do = "" if free >= max_bytes else "lower spool_max_bytes or free space: on a full disk events stay in memory"
        yield Finding("space", "info" if do else "ok", what, free, do)


def _contents(root: Path, destination: str) -> Iterator[Finding]:
    groups: dict[tuple[str, State], Waiting] = {}
    unreadable: list[str] = []
    newer: list[str] = []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.count("-") == 2 and entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):  # delivered meanwhile
                _read_directory(entry.path, groups, unreadable, newer)
    if not groups and not unreadable and not newer:
        yield Finding("waiting", "ok", "no batch waits on disk", 0)
    for (url, state), waiting in sorted(groups.items()):
        yield _waiting(url, state, waiting, ours=url == destination)
    if newer:
        what = f"{len(newer)} files were written by a later version of this package: {', '.join(newer[:MAX_SHOWN])}"
        do = "only a process with that version can send them: install it again within 5 days, or they are dropped"
        yield Finding("waiting", "wrong", what, len(newer), do)
    if unreadable:
        what = f"{len(unreadable)} files cannot be read as batches: {', '.join(unreadable[:MAX_SHOWN])}"
        do = "the next process that adopts them moves them to damaged/: keep a copy to inspect them"
        yield Finding("damaged", "wrong", what, len(unreadable), do)


def _read_directory(
    path: str, groups: dict[tuple[str, State], Waiting], unreadable: list[str], newer: list[str]
) -> None:
    """Add the batches of one process to `groups`, and the paths of files that cannot be read to the lists."""
    state = state_of(path)
    pid = path.rsplit("-", 2)[1]
    if state == "not ours":
        waiting = groups.setdefault(("another user", state), Waiting(set()))
        waiting.pids.add(pid)
        return
    for name in os.listdir(path):  # noqa: PTH208 -- there can be 25,000
        if name == LOCK or name.endswith(".tmp"):
            continue
        try:
            header, count = inspect(f"{path}/{name}")
            size_bytes = Path(f"{path}/{name}").stat().st_size
        except FileNotFoundError:
            continue
        except NewerError:
            newer.append(f"{path}/{name}")
            continue
        except (DamagedError, OSError) as error:
            unreadable.append(f"{path}/{name} ({error})")
            continue
        waiting = groups.setdefault((header.destination, state), Waiting(set()))
        waiting.pids.add(pid)
        waiting.batches += 1
        waiting.events += count
        waiting.size_bytes += size_bytes
        waiting.oldest_s = max(waiting.oldest_s, time.time() - header.created)


def state_of(path: str) -> State:
    """Return whether the process of a directory is alive, by its lock. A brief shared lock disturbs no process."""
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


def _waiting(url: str, state: State, waiting: Waiting, *, ours: bool) -> Finding:
    pids = ", ".join(sorted(waiting.pids)[:MAX_SHOWN]) + (", ..." if len(waiting.pids) > MAX_SHOWN else "")
    if state == "not ours":
        return Finding(
            "waiting", "info", f"batches of another user wait (process {pids}); only that user can send them", pids
        )
    what = (
        f"{waiting.batches} batches with {waiting.events} events ({size(waiting.size_bytes)}) wait for {url}, of "
        f"{'running' if state == 'alive' else 'ended'} processes ({pids}), the oldest for {age(waiting.oldest_s)}"
    )
    if state == "alive":
        do = "they are sent when the collector can be reached; that process logs the problem (logger brain_events)"
    elif ours:
        do = "the next process of this user with this url adopts them when it logs its first event"
    else:
        do = f"only a process whose url is {url} sends them: start one, or delete them if that collector is gone"
    if waiting.oldest_s >= MAX_AGE_S:
        do = "older than 5 days, they are dropped: the collector may have forgotten their idempotency keys. " + do
    level: Literal["info", "wrong"] = "wrong" if waiting.oldest_s >= LATE_S else "info"
    return Finding("waiting", level, what, msgspec.structs.asdict(waiting) | {"state": state, "destination": url}, do)


def _set_aside(root: Path) -> Iterator[Finding]:
    """Yield findings about the files that were set aside for a person to inspect."""
    for name, why in (("damaged", "could not be read"), ("rejected", "were rejected by the collector")):
        if not (root / name).is_dir():
            continue
        states = [path.stat() for path in (root / name).iterdir()]
        if states:
            total, newest_s = sum(state.st_size for state in states), time.time() - max(s.st_mtime for s in states)
            what = f"{len(states)} files ({size(total)}) in {root / name} {why}, the newest {age(newest_s)} ago"
            do = "inspect them (a header line, then NDJSON, compressed if `encoding` is gzip), then delete them"
            yield Finding(name, "wrong", what, len(states), do)


def _existing(path: Path) -> Path:
    return next(above for above in (path, *path.parents) if above.exists())
