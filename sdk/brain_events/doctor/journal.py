"""The doctor's check of the journal of the default mode: whether there is one, and whether events were left in it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from brain_events._queue import memory_journal, tmpfs
from brain_events._queue.batch_file import DamagedError, inspect
from brain_events._queue.process_dir import open_root
from brain_events.config import Config
from brain_events.doctor.finding import Finding, size
from brain_events.doctor.outbox import state_of


def examine(config: Config) -> Iterator[Finding]:
    """Yield the findings about the journal."""
    directories = config.journal_dirs()
    if not directories:
        if not config.durable:
            what = "there is no journal: kill -9 loses events that are not sent yet"
            yield Finding("journal", "info", what, do="set spool_dir and journal_dir, or durable, if that matters")
        return
    try:
        root = memory_journal.root(tmpfs.find(directories))
    except tmpfs.NoTmpfsError as error:
        what = f"there is no journal, so kill -9 loses events that are not sent yet: {error}"
        do = "set BRAIN_EVENTS_JOURNAL_DIR to a directory on tmpfs, or BRAIN_EVENTS_DURABLE to 1"
        yield Finding("journal", "info", what, ", ".join(directories), do)
        return
    try:
        os.close(open_root(root))
    except FileNotFoundError:
        yield Finding("journal", "ok", f"{root} will be created when it is needed", root)
        return
    except OSError as error:
        do = "set BRAIN_EVENTS_JOURNAL_DIR to a directory on tmpfs to which only this user can write"
        yield Finding("journal", "wrong", f"the journal is not used, so kill -9 loses events: {error}", root, do)
        return
    state = os.statvfs(root)
    free = state.f_bavail * state.f_frsize
    usable = free - int(state.f_blocks * state.f_frsize * memory_journal.FREE_SHARE)
    level: Literal["ok", "info"] = "ok" if usable >= config.journal_max_bytes else "info"
    what = (
        f"{root} is used; {size(max(usable, 0))} are available, and a process may use {size(config.journal_max_bytes)}"
    )
    do = "" if level == "ok" else "make that tmpfs larger: beyond it kill -9 loses events that are not sent yet"
    yield Finding("journal", level, what, free, do)
    processes, events = _left(root, memory_journal.tag(config.url.rstrip("/"), str(config.outbox_dir())))
    if events:
        what = f"{events} events of {processes} ended processes wait in {root}"
        do = "the next process of this user with the same url and spool_dir adopts them when it logs its first event"
        yield Finding("journal", "info", what, events, do)


def _left(root: str, tag: str) -> tuple[int, int]:
    """Return the number of ended processes that have left events for this collector, and of these events."""
    processes = events = 0
    for entry in os.scandir(root):
        if not entry.name.startswith(f"{tag}-") or state_of(entry.path) != "ended":
            continue
        with suppress(FileNotFoundError):  # adopted meanwhile
            paths = [path.path for path in os.scandir(entry.path) if path.name.endswith(".part")]
            found = sum(map(_count, paths))
            processes += found > 0
            events += found
    return processes, events


def _count(path: str) -> int:
    try:
        return inspect(path)[1]
    except (DamagedError, OSError):
        return 0
