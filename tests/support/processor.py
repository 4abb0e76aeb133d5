"""How much processor time a process takes, from /proc."""

import os
from pathlib import Path


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far, in user and in system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
