"""One thing that the doctor has found: what happened, the value, and what to do."""

from typing import Any, Literal

import msgspec

Level = Literal["ok", "info", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """`what` is a sentence with the value in it, `value` the same for a program; `do` is empty if there is nothing."""

    check: str
    level: Level
    what: str
    value: Any = None
    do: str = ""


def size(n_bytes: float) -> str:
    """Return a number of bytes for a person."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    raise AssertionError


def age(seconds: float) -> str:
    """Return a time for a person."""
    for unit, length_s in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
