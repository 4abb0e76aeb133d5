"""The client's connection, for what ASGI cannot express: detect a disconnect, decline a body, force a close."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol


class ClientConnection(Protocol):
    """The connection of a request."""

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """Done when the client has disconnected. `receive()` reports that too, but requests and consumes the body."""

    def decline_body(self) -> None:
        """Never request the body from a client that waits for that (`Expect: 100-continue`): the request is refused."""

    def abort_response(self) -> None:
        """Close the connection immediately, in the middle of the response."""

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call `done` when the client has read the response up to a small rest, or has disconnected."""


class _NoConnection:
    """The connection of a request from another server or a test: it never disconnects."""

    @property
    def disconnected(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def decline_body(self) -> None:
        pass

    def abort_response(self) -> None:
        pass

    def when_sent(self, done: Callable[[], None]) -> None:
        done()


NO_CONNECTION: Final = _NoConnection()
