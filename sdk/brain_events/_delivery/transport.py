"""The seam to the network: a `Transport` sends a sealed batch and returns the `Response`."""

from typing import Protocol

import msgspec

from brain_events._queue.batch import Batch


class Response(msgspec.Struct, frozen=True):
    """The response to one request."""

    status: int
    content_type: str = ""
    body: bytes = b""
    retry_after_s: float = 0.0


class Transport(Protocol):
    """Delivers batches. Used by one thread at a time, except that a closing thread may leave a hung one behind."""

    def send(self, batch: Batch, timeout_s: float) -> Response:
        """Post `batch` once and return the response within `timeout_s`; any exception means that none arrived."""

    def close(self) -> None:
        """Close the connections; a later `send` may open new ones."""
