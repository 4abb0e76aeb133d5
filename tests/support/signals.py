"""Signals as a process in the foreground of a terminal has them, however the tests were started.

`nohup`, and `&` in a script, start a process with SIGHUP, or SIGINT and SIGQUIT, ignored. A process that is started
inherits that, also over `exec`, and Python then installs no handler that raises KeyboardInterrupt. Signals that are
blocked are inherited alike.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

INHERITED: Final = sorted(signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP})
"""Signals whose dispositions a child inherits. Python ignores SIGPIPE and SIGXFSZ itself; `subprocess` resets them."""


def undo_inherited() -> None:
    """Give every signal that is ignored its default again, for this process and those that it starts.

    Of SIGHUP, the child's default is restored, and this process stays alive when its terminal is closed: that was
    asked for. A handler of Python does both, since `exec` resets handlers but keeps what is ignored.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in INHERITED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _WHEN_IGNORED.get(number, signal.SIG_DFL))


def _stay_alive(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


_WHEN_IGNORED: Final[dict[int, Callable[[int, FrameType | None], object]]] = {
    signal.SIGHUP: _stay_alive,
    signal.SIGINT: signal.default_int_handler,
}
