"""The limits of an event, and the rejection of an event that exceeds one or is invalid in another way."""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from brain_collector.errors import FieldError
from brain_events.wire import DETAILS_KEY_MAX_CHARS, DETAILS_MAX_KEYS, DETAILS_MAX_VALUES

Check = Callable[[], None]
"""Raises if the work on a body must end, because of the time that it takes or because nobody waits for it any more."""


def no_check() -> None:
    """Let the work run to its end."""


class Limits(NamedTuple):
    """Limits of an event: its size, as JSON and as Postgres prints it; the depth, keys and values of its details.

    `batch_events` is the maximum number of events in a batch.
    """

    event_bytes: int
    details_depth: int
    batch_events: int = 10_000
    details_keys: int = DETAILS_MAX_KEYS
    details_values: int = DETAILS_MAX_VALUES
    key_chars: int = DETAILS_KEY_MAX_CHARS


class EventRejected(Exception):  # noqa: N818 - an outcome
    """The event is invalid; `errors` has at least one entry."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors[0].detail)
        self.errors = list(errors)


def reject(pointer: str, code: str, detail: str) -> NoReturn:
    """Raise `EventRejected` with one error."""
    raise EventRejected(FieldError(pointer, code, detail))
