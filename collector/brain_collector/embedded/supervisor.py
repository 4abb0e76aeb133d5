"""Keeps one program running as a direct child: starts it, notices its end, restarts it with backoff, stops it.

Only `stop` blocks. `step` is called several times a second: at the start by a plain loop, later by a task of the event
loop. Polling does not depend on an event loop, a thread or a SIGCHLD handler; uvicorn, uvloop and the tests each have
their own.
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

from brain_collector.embedded.private_file import open_private

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 8 * 1024 * 1024
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0
SETTLED_AFTER_S = 10.0
"""After running this long, a program is restarted with the first backoff."""

_LAUNCH = Path(__file__).with_name("launch.py")


class Owner(msgspec.Struct, frozen=True):
    """The user that an engine runs as, and that owns its files."""

    name: str
    uid: int
    gid: int


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A program to run, and how to prepare and check it.

    `clear` prepares a start; it returns False while a predecessor still uses the data.
    `ready` returns whether the process with this pid accepts connections.
    `obstacle` returns, after a failure, the reason why the next start would fail too; None if there is none.
    """

    name: str
    argv: tuple[str, ...]
    owner: Owner
    log: Path
    stop_signal: signal.Signals
    clear: Callable[[], bool]
    ready: Callable[[int], bool]
    obstacle: Callable[[], str | None] = lambda: None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as /health shows it; `last_exit` is a return code, negative for the signal that ended it."""

    name: str
    running: bool
    pid: int | None
    restarts: int
    last_exit: int | None
    waits_for: str | None


def spawn(argv: tuple[str, ...], log: Path, owner: Owner, stop_signal: signal.Signals) -> "subprocess.Popen[bytes]":
    """Start `argv` as `owner` in its own session; on Linux, the kernel stops it if this process dies."""
    # The parent-death signal is sent when the *thread* that spawned the process ends: prctl(2).
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("engines must be started from the main thread: they end with the thread that starts them")
    launch = (sys.executable, "-I", "-S", str(_LAUNCH))
    identity = (str(os.getpid()), str(int(stop_signal)), str(owner.uid), str(owner.gid))
    with open(log, "ab", opener=open_private) as output:
        return subprocess.Popen(  # noqa: S603 - a fixed argv, no shell
            (*launch, *identity, *argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},  # PGPORT and other variables are for clients
            start_new_session=True,  # the terminal's Ctrl-C goes to this process only
        )


class Supervised:
    """One program under supervision: call `step` until it is `ready`, keep calling it, then call `stop`."""

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
        """Record an exit; start the program when its backoff is over and nothing prevents the start."""
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._record_exit(code)
        elif time.monotonic() >= self._start_due and not self._is_blocked() and self.program.clear():
            self._start()
        bound_log(self.program.log)

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.program.stop_signal)

    def stop(self, patience_s: float) -> None:
        """Stop the program by its stop signal, after `patience_s` by SIGQUIT, then by SIGKILL; twice is safe."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, wait_s in ((self.program.stop_signal, patience_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, None)):
            process.send_signal(number)
            try:
                self._last_exit = process.wait(wait_s)
            except subprocess.TimeoutExpired:
                logger.warning("%s (pid %d) does not stop on %s", self.program.name, process.pid, number.name)
            else:
                return

    def _is_blocked(self) -> bool:
        """Return whether an obstacle would make the next start fail, after a failure; log it once."""
        obstacle = self.program.obstacle() if self._last_exit else None
        if obstacle and self._waits_for is None:
            logger.error("%s is not restarted yet: %s", self.program.name, obstacle)
        self._waits_for = obstacle
        return obstacle is not None

    def _start(self) -> None:
        program = self.program
        self._started_at = time.monotonic()
        try:
            self._process = spawn(program.argv, program.log, program.owner, program.stop_signal)
        except OSError as error:  # no memory or process slots at the moment: treated as an exit
            logger.warning("%s cannot be started: %s", program.name, error)
            self._back_off()
        else:
            self._starts += 1

    def _record_exit(self, code: int) -> None:
        self._process, self._last_exit = None, code
        self.exits += 1
        self._back_off()
        logger.warning(
            "%s ended with code %d and is restarted in %.1f s; its log: %s",
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
    """Move the content of a log that exceeds the limit to `<name>.1`; its writers append, so they start over."""
    try:
        if log.stat().st_size <= MAX_LOG_BYTES:
            return
        with contextlib.suppress(OSError):  # without space for a copy, truncating it is even more urgent
            shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)
    except OSError:
        return


def last_lines(log: Path, count: int = 8) -> str:
    """Return the end of a log, to show below an error."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
