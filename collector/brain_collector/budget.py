"""How many bytes the collector holds for requests that are not answered yet; beyond the limit it takes no more."""

from collections.abc import Iterator
from contextlib import contextmanager

from brain_collector.errors import Unavailable


class Budget:
    """The bytes of all bodies between their first byte and their answer: received, inflated, decoded, being written."""

    def __init__(self, max_bytes: int, *, retry_after_s: int) -> None:
        self.max_bytes = max_bytes
        self.retry_after_s = retry_after_s
        self.held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Yield what one request takes its bytes through; they are given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.taken


class Share:
    """The part of the budget that one request holds."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, n: int) -> None:
        """Take n more bytes, or give them back (n < 0).

        Raises:
            Unavailable: others hold too much already; one request alone is bounded by the limits of a body.
        """
        budget = self._budget
        others = budget.held - self.taken
        if n > 0 and others and budget.held + n > budget.max_bytes:
            raise Unavailable(
                f"{budget.held:,} bytes of other requests are being worked on; "
                f"send it again in {budget.retry_after_s} s, with the same Idempotency-Key",
                retry_after_s=budget.retry_after_s,
            )
        budget.held += n
        self.taken += n
