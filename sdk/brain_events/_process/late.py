"""Deliver events that are logged after the exit hook: by a later hook, or when `logging` shuts down."""

import sys
from contextlib import suppress
from typing import Any

from brain_events._delivery.worker import INTERRUPTED_S
from brain_events._queue.stats import Stats
from brain_events.client import Client

ATTEMPTS = 100
"""Maximum number of attempts to close, each of which a Ctrl-C can interrupt before it has begun."""
LATE_S = 0.2
"""Maximum time to deliver one event, in seconds; then it goes to the outbox."""


class Late(Client):
    """Replaces the process-wide client after the exit hook, and delivers each event before `log` returns."""

    def __init__(self, closed: Client) -> None:
        super().__init__(closed._config, closed._transport)  # noqa: SLF001 -- its base class
        self._closed_client = closed
        self._closed = True  # it holds no events, so nothing warns of it

    def log(self, *args: Any, **kwargs: Any) -> None:
        super().log(*args, **kwargs)
        close_and_report(self, LATE_S)
        self._open()
        self._closed = True

    def successor(self) -> Client:
        """Return a client with the same settings that delivers in the background again."""
        return Client(self._config, self._transport)

    def stats(self) -> Stats:
        """Return the account of the events that were logged before the exit hook."""
        return self._closed_client.stats()


def close_and_report(client: Client, timeout_s: float) -> None:
    """Close `client`, and report lost events on stderr, since no code will call `stats` any more."""
    is_delivered = False
    try:
        is_delivered = client.close(timeout_s)
    except BaseException:  # a Ctrl-C, perhaps before `close` had begun; if it had, another call returns at once
        for _ in range(ATTEMPTS):
            with suppress(BaseException):  # another Ctrl-C, just before `close` holds signals back
                client.close(INTERRUPTED_S)
                break
        raise
    finally:  # also after a Ctrl-C
        if not is_delivered:
            _report_losses(Client.stats(client))


def _report_losses(stats: Stats) -> None:
    lost = {reason: n for reason, n in stats.dropped.items() if reason not in {"before_send", "limited"}}
    if stats.in_memory:  # held by a worker that hangs on a disk
        lost["unsent"] = lost.get("unsent", 0) + stats.in_memory
    if not lost:
        return
    write_line(f"brain-events: {sum(lost.values())} of {stats.logged} events were lost: {lost}")


def write_line(text: str) -> None:
    """Write a line to stderr, if there is one."""
    try:
        sys.stderr.write(text + "\n")
    except (AttributeError, OSError, ValueError):  # stderr may be missing or closed
        return
