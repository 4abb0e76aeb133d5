"""A position in the commit order, and its form in `id:` and `Last-Event-ID`."""

import re
from typing import Final, NamedTuple

from brain_collector.errors import ParameterInvalid

MAX_ID: Final = 2**63 - 1
PATTERN: Final = r"^(([0-9]{1,19}-)?[0-9]{1,19}-[0-9]{1,19})?$"
"""Of a parameter, which may be empty: then a stream begins now."""
_TOKEN: Final = re.compile(r"(?:([0-9]{1,19})-)?([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


class Position(NamedTuple):
    """A position in commit order: everything up to this event of this transaction of this epoch."""

    epoch: int
    xid: int
    id: int

    def __str__(self) -> str:
        """Return the form used in `id:` and `Last-Event-ID`; in epoch 0, it is that of releases without epochs."""
        return f"{self.epoch}-{self.xid}-{self.id}" if self.epoch else f"{self.xid}-{self.id}"


def end_of(epoch: int) -> Position:
    """Return the position after everything of this epoch."""
    return Position(epoch, 2**63 - 1, MAX_ID)


def after_transaction(epoch: int, xid: int) -> Position:
    """Return the position after all events of a transaction, and of all before it."""
    return Position(epoch, xid, MAX_ID)


def parse(token: str) -> Position:
    """Return the position that a `Last-Event-ID` names.

    Raises:
        ParameterInvalid: it is malformed.
    """
    match = _TOKEN.fullmatch(token)
    numbers = [int(number or 0) for number in match.groups()] if match else []
    if not numbers or max(numbers) > MAX_ID:
        raise ParameterInvalid(f"Last-Event-ID is {token[:80]!r}; send an `id:` of this stream, or omit the header")
    return Position(*numbers)
