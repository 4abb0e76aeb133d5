"""The seam to the network: a `Transport` takes a sealed batch and brings back the `Answer`."""

from typing import Protocol

import msgspec

from brain_events._queue.batch import Batch


class Answer(msgspec.Struct, frozen=True):
    """What came back for one request, not yet judged."""

    status: int
    content_type: str = ""
    body: bytes = b""
    retry_after_s: float = 0.0


class Transport(Protocol):
    """Delivers batches. Used by one thread at a time, save that a closing thread may leave a hung one behind."""

    def send(self, batch: Batch, timeout_s: float) -> Answer:
        """Post `batch` once and return the answer within `timeout_s`; any exception means that none came."""

    def close(self) -> None:
        """Let go of connections; a later `send` may open them again."""
