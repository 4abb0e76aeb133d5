"""The seam between a client and the world outside: which transport it sends through, and which code sees its lines.

In an application nothing replaces the `Connector` of this module. `brain_events.testing` installs another one, so that
the clients of a test send nothing and show their events.
"""

from collections.abc import Callable

from brain_events._delivery.transport import Transport
from brain_events._queue.buffer import Buffer
from brain_events._record.limits import Limits
from brain_events.config import Config

PutLine = Callable[[bytes, str], None]
"""Takes one encoded event and its severity."""


class Connector:
    """Connects each client when it opens, and again in a forked child. This one leaves every client as it is."""

    def prepare(self, config: Config, transport: Transport | None) -> tuple[Config, Transport | None]:
        """Return the settings and the transport for a client that was made with these; None means HTTP."""
        return config, transport

    def observe(self, put_line: PutLine, buffer: Buffer, limits: Limits) -> PutLine:  # noqa: ARG002 -- for subclasses
        """Return the function that a client calls for each event, which must call `put_line`."""
        return put_line


_installed = [Connector()]


def install(connector: Connector) -> Connector:
    """Use `connector` for every client that opens from now on; return the connector used until now."""
    previous, _installed[0] = _installed[0], connector
    return previous


def installed() -> Connector:
    """Return the connector for a client that opens now."""
    return _installed[0]
