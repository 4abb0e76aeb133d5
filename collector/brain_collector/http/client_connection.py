"""The client's connection, for what ASGI cannot express: detect a disconnect, decline a body, force a close."""

import asyncio
from typing import Final, Protocol


class ClientConnection(Protocol):
    """The connection that a request came by."""

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """Done when the client is gone. `receive()` tells that too, but consumes the body, and asks for it."""

    def decline_body(self) -> None:
        """Do not ask for the body: a client that waits to be asked (`Expect: 100-continue`) is refused."""

    def cut(self) -> None:
        """Close it at once, in the middle of its response."""


class _NoConnection:
    """Stands in for the connection of a request that came by none of ours: it never ends."""

    @property
    def disconnected(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def decline_body(self) -> None:
        pass

    def cut(self) -> None:
        pass


NO_CONNECTION: Final = _NoConnection()
