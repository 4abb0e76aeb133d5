"""The connection of a request, as far as ASGI has no words for it: whether it is gone, and how to end it."""

import asyncio
from typing import Final, Protocol

from starlette.types import Scope

LINE: Final = "brain_collector.line"
"""Where a scope has it."""


class Line(Protocol):
    """The connection that a request came by."""

    @property
    def left(self) -> asyncio.Future[None]:
        """Done when it is gone. `receive()` tells that, too, but takes the body, and asks for it."""

    def forgo_body(self) -> None:
        """Do not ask for the body: a client that waits to be asked (`Expect: 100-continue`) is refused."""

    def cut(self) -> None:
        """End it at once, in the middle of its answer."""


class _Unknown:
    """The line of a request that came by no connection of ours: it never ends."""

    @property
    def left(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def forgo_body(self) -> None:
        pass

    def cut(self) -> None:
        pass


def line_of(scope: Scope) -> Line:
    """Return the line of a request."""
    found: Line = scope.get(LINE, _UNKNOWN)
    return found


_UNKNOWN: Final = _Unknown()
