"""Find a directory on tmpfs for the journal of the default mode.

Any other file system can be full when a page that is mapped there is first written, which would end the process by
SIGBUS.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


class NoTmpfsError(Exception):
    """There is no usable tmpfs; the text gives the reason."""


def find(candidates: Iterable[str]) -> str:
    """Return the first candidate that is a writable directory on tmpfs.

    Raises:
        NoTmpfsError: There is none.
    """
    reasons = []
    for candidate in candidates:
        path = os.path.realpath(candidate)
        if not os.access(path, os.W_OK | os.X_OK):
            reasons.append(f"{candidate} is not a writable directory")
        elif (kind := _file_system(path)) != "tmpfs":
            reasons.append(f"{candidate} is not on tmpfs but on {kind or 'an unknown file system'}")
        else:
            return path
    raise NoTmpfsError("; ".join(reasons))


def _file_system(path: str) -> str | None:
    """Return the type of the file system that `path` is on; None if it is not known."""
    found, kind = "", None
    try:
        with _MOUNTS.open(encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields, _, options = line.partition(" - ")
                mount = fields.split(" ")[4].replace("\\040", " ")
                # Of several mounts on one directory, the last one is visible.
                if len(mount) >= len(found) and f"{path}/".startswith(f"{mount.rstrip('/')}/"):
                    found, kind = mount, options.split(" ")[0]
    except (OSError, IndexError):  # another operating system
        return None
    return kind
