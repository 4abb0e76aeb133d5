"""Runs as `python -I -S launch.py PARENT SIGNAL UID GID ARGV...` and executes ARGV, which ends when PARENT ends.

This is a separate program because a `preexec_fn` is unsafe in a process with threads: the child can hang between
fork and exec, and the parent with it (docs.python.org/3/library/subprocess.html#subprocess.Popen).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2): the kernel sends this signal when the thread that started this process ends


def main(parent_pid: int, stop_signal: int, uid: int, gid: int, argv: list[str]) -> None:
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec would inherit that
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, stop_signal)  # after the change of uid, which would clear it
    if os.getppid() != parent_pid:
        sys.exit("the process that started this one has ended")
    try:
        os.execv(argv[0], argv)  # noqa: S606 - the supervisor's own argv
    except OSError as error:
        sys.exit(f"cannot run {argv[0]} as uid {uid}: {error.strerror}")


if __name__ == "__main__":
    parent, stop, user, group = map(int, sys.argv[1:5])
    main(parent, stop, user, group, sys.argv[5:])
