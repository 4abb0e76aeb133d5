"""For tests: a transport that keeps batches in memory, in place of a collector."""

import threading
from collections import deque
from uuid import UUID

import msgspec

from brain_events._batch import Batch, unseal
from brain_events._transport import Answer
from brain_events.wire import BatchAnswer, Event


class MemoryTransport:
    """A collector of one process: stores what it is sent, each key once, unless told to answer otherwise.

    `answers` holds what to say next, instead of storing: an `Answer`, or an exception to raise.
    """

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = deque(answers)
        self.attempts: list[Batch] = []
        self._stored: dict[UUID, Batch] = {}
        self._lock = threading.Lock()

    def send(self, batch: Batch, timeout_s: float) -> Answer:  # noqa: ARG002 -- memory answers at once
        with self._lock:
            self.attempts.append(batch)
            if self.answers:
                answer = self.answers.popleft()
                if isinstance(answer, Exception):
                    raise answer
                return answer
            duplicate = batch.key in self._stored
            self._stored[batch.key] = batch
        return accepted(batch.count, duplicate=duplicate)

    def close(self) -> None: ...

    @property
    def events(self) -> list[Event]:
        """Return every stored event, in order."""
        with self._lock:
            lines = [line for batch in self._stored.values() for line in unseal(batch)]
        return [msgspec.json.decode(line, type=Event) for line in lines]


def accepted(count: int, *, duplicate: bool = False) -> Answer:
    """Return the answer of a collector that has stored all of `count` events."""
    receipt = BatchAnswer(count, count, 0, duplicate, [], errors_truncated=False)
    return Answer(200, "application/json", msgspec.json.encode(receipt))
