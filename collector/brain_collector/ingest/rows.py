"""Valid events as columns, from decoding to COMMIT."""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import NamedTuple


class Rows(NamedTuple):
    """Valid events as columns of equal length. `details` is JSON text."""

    types: list[str]
    severities: list[str]
    messages: list[str]
    details: list[str | None]
    sources: list[str | None]
    timestamps: list[datetime]

    @property
    def n(self) -> int:
        """The number of events; `len` counts the columns."""
        return len(self.types)

    def take(self, indexes: Iterable[int]) -> "Rows":
        """Return the rows at these indexes."""
        kept = list(indexes)
        types, severities, messages, details, sources, timestamps = self
        return Rows(
            [types[index] for index in kept],
            [severities[index] for index in kept],
            [messages[index] for index in kept],
            [details[index] for index in kept],
            [sources[index] for index in kept],
            [timestamps[index] for index in kept],
        )


def join_rows(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return Rows(*(list(chain.from_iterable(columns)) for columns in zip(*parts, strict=True)))
