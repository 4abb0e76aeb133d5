"""Keeps one program running as our direct child: starts it, notices its end, starts it again with back-off, stops it.

Nothing here blocks but `stop`: `step` is called every fraction of a second, at start by a plain loop, later by a
task of the event loop. Polling ties the child to no event loop, no thread and no SIGCHLD handler, of which uvicorn,
uvloop and the tests each have their own.
"""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 8 * 1024 * 1024
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0
SETTLED_AFTER_S = 10.0
"""A program that ran this long starts again with the first back-off."""

_LAUNCH = Path(__file__).with_name("launch.py")


class Owner(msgspec.Struct, frozen=True):
    """The user an engine runs as, and who owns its files."""

    name: str
    uid: int
    gid: int


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how to tell that it works.

    `clear` makes way for a start: it returns False as long as a predecessor holds the data.
    `ready` tells whether the process with that pid accepts connections.
    `hindrance` says, after a failure, what would make the next start fail too; None: nothing is known.
    """

    name: str
    argv: tuple[str, ...]
    owner: Owner
    log: Path
    stop_signal: signal.Signals
    clear: Callable[[], bool]
    ready: Callable[[int], bool]
    hindrance: Callable[[], str | None] = lambda: None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as /health shows it; `last_exit` is a return code, negative for the signal that ended it."""

    name: str
    running: bool
    pid: int | None
    restarts: int
    last_exit: int | None
    waits_for: str | None


def spawn(argv: tuple[str, ...], log: Path, owner: Owner, stop_signal: signal.Signals) -> "subprocess.Popen[bytes]":
    """Start `argv` as `owner` in a session of its own, told by the kernel to stop should we die (Linux)."""
    # The parent-death signal comes when the *thread* that spawned ends: prctl(2).
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("engines are started from the main thread: their life hangs on the thread's")
    launch = (sys.executable, "-I", "-S", str(_LAUNCH))
    identity = (str(os.getpid()), str(int(stop_signal)), str(owner.uid), str(owner.gid))
    with open(log, "ab", opener=_open_private) as output:
        return subprocess.Popen(  # noqa: S603 - our own argv, no shell
            (*launch, *identity, *argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},  # PGPORT and its like are for clients
            start_new_session=True,  # the terminal's Ctrl-C is for us alone
        )


class Supervised:
    """One program under supervision. Make it, `step` it until it is `ready`, keep stepping, `stop` it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.exits = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._last_exit: int | None = None
        self._waits_for: str | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._started_at = 0.0
        self._start_due = 0.0

    @property
    def status(self) -> Status:
        process = self._process
        return Status(
            name=self.program.name,
            running=process is not None,
            pid=process.pid if process else None,
            restarts=max(0, self._starts - 1),
            last_exit=self._last_exit,
            waits_for=self._waits_for,
        )

    @property
    def ready(self) -> bool:
        return self._process is not None and self._process.poll() is None and self.program.ready(self._process.pid)

    def step(self) -> None:
        """Take note of an exit; start the program when its back-off is over and the way is clear."""
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._ended(code)
        elif time.monotonic() >= self._start_due and not self._hindered() and self.program.clear():
            self._start()
        bound_log(self.program.log)

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.program.stop_signal)

    def stop(self, patience_s: float) -> None:
        """Stop the program: politely, after `patience_s` at once (SIGQUIT), and at last by SIGKILL. Twice is safe."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, wait_s in ((self.program.stop_signal, patience_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, None)):
            process.send_signal(number)
            try:
                self._last_exit = process.wait(wait_s)
            except subprocess.TimeoutExpired:
                logger.warning("%s (pid %d) ignores %s", self.program.name, process.pid, number.name)
            else:
                return

    def _hindered(self) -> bool:
        """After a failure, wait for what would make the next start fail too, and say so once."""
        found = self.program.hindrance() if self._last_exit else None
        if found and self._waits_for is None:
            logger.error("%s is not started again yet: %s", self.program.name, found)
        self._waits_for = found
        return found is not None

    def _start(self) -> None:
        program = self.program
        self._started_at = time.monotonic()
        try:
            self._process = spawn(program.argv, program.log, program.owner, program.stop_signal)
        except OSError as error:  # no memory or process slots just now: an exit like any other
            logger.warning("%s cannot be started: %s", program.name, error)
            self._back_off()
        else:
            self._starts += 1

    def _ended(self, code: int) -> None:
        self._process, self._last_exit = None, code
        self.exits += 1
        self._back_off()
        logger.warning(
            "%s ended with %d and is started again in %.1f s; its log: %s",
            self.program.name,
            code,
            self._start_due - time.monotonic(),
            self.program.log,
        )

    def _back_off(self) -> None:
        now = time.monotonic()
        if now - self._started_at >= SETTLED_AFTER_S:
            self._backoff_s = FIRST_BACKOFF_S
        self._start_due = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)


def bound_log(log: Path) -> None:
    """Move what a log holds to `<name>.1` once it is over the limit; its writers append, so they go on at the top."""
    try:
        if log.stat().st_size <= MAX_LOG_BYTES:
            return
        with contextlib.suppress(OSError):  # no room for a copy is one more reason to make some
            shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)
    except OSError:
        return


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, to be shown beneath an error."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
