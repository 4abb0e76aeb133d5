"""How much a test tries where more finds more: examples and rounds.

BRAIN_TEST_EFFORT=10 makes ten times as many of them.
"""

import os

EFFORT = float(os.environ.get("BRAIN_TEST_EFFORT", "1"))


def times(n: int) -> int:
    """Return `n` at the effort of this run, at least 1."""
    return max(1, round(n * EFFORT))
