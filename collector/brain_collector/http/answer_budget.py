"""A memory budget for the responses to reads, which hold their part until the clients have read them.

A read reserves the memory for its response before it asks the database, and waits for it as a body does
(`admission.py`). So clients that request much and read nothing hold a bounded part of the memory.
"""

import asyncio
from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from brain_collector.http.admission import Budget, Reservation
from brain_collector.http.scope import RequestContext, context_of

MEMORY_FACTOR: Final = 4
"""Memory for a response while it is made (received from the database, decoded, encoded), per byte of it."""
FREE_BYTES: Final = 64 * 2**10
"""Size up to which a response does not count: the sockets hold that much, and probes must never wait."""


class Answering:
    """A block in which a request may reserve memory for its response; it is released when the response is sent."""

    def __init__(self, budget: Budget, context: RequestContext) -> None:
        self._context = context
        self._answer = context.answer = Reservation(budget, context.caller.name)

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, *_error: object) -> None:
        """End the block: the client may still have to read the response."""
        if self._answer.held:
            self._context.connection.when_sent(partial(self._answer.resize, 0))


async def reserve(request: Request, max_bytes: int) -> None:
    """Reserve the memory for a response of at most `max_bytes`, before it is made.

    The request keeps its turn even if its client disconnects: others may wait for the same response.

    Raises:
        Unavailable: the memory is not free in time.
    """
    answer = context_of(request.scope).answer
    if answer is not None:
        await answer.wait_for(MEMORY_FACTOR * max_bytes, asyncio.get_running_loop().create_future())


async def hold(request: Request, response: Response) -> None:
    """Hold the memory of the response itself from now on; a streamed one keeps the memory that it has reserved.

    Raises:
        Unavailable: the memory is not free in time.
        ClientDisconnect: the client disconnected while the request waited.
    """
    context = context_of(request.scope)
    answer, body = context.answer, getattr(response, "body", None)
    if answer is None or body is None:
        return
    n_bytes = len(body) if len(body) > FREE_BYTES else 0
    if n_bytes and not answer.held:  # from the cache, or made without a reservation
        await answer.wait_for(n_bytes, context.connection.disconnected)
    else:
        answer.resize(n_bytes)
