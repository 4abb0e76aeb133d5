"""One finding of the doctor: the fact, its value, and what to do about it."""

from typing import Any, Literal

import msgspec

Level = Literal["ok", "info", "wrong"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check: `what` is for a person, `value` for a program, `do` the remedy, or empty."""

    check: str
    level: Level
    what: str
    value: Any = None
    do: str = ""


def size(n_bytes: float) -> str:
    """Return a number of bytes as text for a person."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024 or unit == "GiB":
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    raise AssertionError


def age(seconds: float) -> str:
    """Return a duration as text for a person."""
    for unit, length_s in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
