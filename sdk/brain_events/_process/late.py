"""After the exit hook: a later hook, or what `logging` flushes at its own shutdown, may still log."""

import sys
from contextlib import suppress
from typing import Any

from brain_events._delivery.worker import INTERRUPTED_S
from brain_events._queue.stats import Stats
from brain_events.client import Client

ATTEMPTS = 100
"""At closing, while a Ctrl-C comes each time before it has begun."""
LATE_S = 0.2
"""For each event: then it goes to the outbox."""


class Late(Client):
    """Stands where the process-wide client was: delivers each event before `log` returns, since nobody will later."""

    def __init__(self, closed: Client) -> None:
        super().__init__(closed._config, closed._transport)  # noqa: SLF001 -- our base class
        self._before = closed
        self._closed = True  # it holds nothing that could be lost

    def log(self, *args: Any, **kwargs: Any) -> None:
        super().log(*args, **kwargs)
        close_and_tell(self, LATE_S)
        self._open()
        self._closed = True

    def stats(self) -> Stats:
        """Return where the events are that were logged in time."""
        return self._before.stats()


def close_and_tell(client: Client, timeout_s: float) -> None:
    """Deliver what is left; if that fails, say so on stderr, since nobody will ask for `stats` any more."""
    is_delivered = False
    try:
        is_delivered = client.close(timeout_s)
    except BaseException:  # a Ctrl-C, perhaps before it had begun; else this is done at once
        for _ in range(ATTEMPTS):
            with suppress(BaseException):  # the next one, in the moment before it is held back
                client.close(INTERRUPTED_S)
                break
        raise
    finally:  # after a Ctrl-C, too
        if not is_delivered:
            _tell(Client.stats(client))


def _tell(figures: Stats) -> None:
    lost = {reason: n for reason, n in figures.dropped.items() if reason != "before_send"}
    if figures.in_memory:  # a worker that hangs on a disk has it
        lost["unsent"] = lost.get("unsent", 0) + figures.in_memory
    if not lost:
        return
    line = f"brain-events: {sum(lost.values())} of {figures.logged} events were lost: {lost}\n"
    try:
        sys.stderr.write(line)
    except (AttributeError, OSError, ValueError):  # there may be no stderr, or a closed one
        return
