"""How much memory a process takes, from /proc."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec


class Growth(msgspec.Struct):
    """The memory of a process over a block, in MiB: before it, at its peak (known at the end), and after it."""

    before: int
    peak: int = 0
    after: int = 0

    @property
    def at_peak(self) -> int:
        """By how much it grew at most."""
        return self.peak - self.before


@contextmanager
def growth_of(pid: int) -> Iterator[Growth]:
    """Measure the resident memory of a process during the block."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the peak begins at the present size
    growth = Growth(before=_mebibytes(pid, "VmRSS"))
    yield growth
    growth.peak, growth.after = _mebibytes(pid, "VmHWM"), _mebibytes(pid, "VmRSS")


def resident_mebibytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _mebibytes(pid, "VmRSS")


def _mebibytes(pid: int, field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) // 1024
