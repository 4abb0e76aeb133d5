"""Answers and their budget: what a read reserves, what it holds, and when that is released."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from brain_collector.errors import Unavailable
from brain_collector.http.admission import Budget
from brain_collector.http.answer_budget import FREE_BYTES, MEMORY_FACTOR, Answering, hold, reserve
from brain_collector.http.client_connection import NO_CONNECTION
from brain_collector.http.scope import begin_request, context_of
from brain_collector.settings import Settings

pytestmark = pytest.mark.anyio

LARGE = 2 * FREE_BYTES


class Unread:
    """The connection of a client that has not read its response yet."""

    def __init__(self) -> None:
        self.disconnected = asyncio.get_running_loop().create_future()
        self.done: Callable[[], None] = lambda: None
        self.decline_body, self.abort_response = NO_CONNECTION.decline_body, NO_CONNECTION.abort_response

    def when_sent(self, done: Callable[[], None]) -> None:
        self.done = done


def a_budget() -> Budget:
    return Budget(MEMORY_FACTOR * LARGE, Settings(admission_wait_s=0.01))


def a_request(connection: Unread) -> Request:
    request = Request({"type": "http", "headers": []})
    begin_request(request.scope, connection)
    return request


async def test_a_read_reserves_what_its_answer_may_take_and_then_holds_its_size_until_it_is_read() -> None:
    budget, connection = a_budget(), Unread()
    request = a_request(connection)
    with Answering(budget, context_of(request.scope)):
        await reserve(request, LARGE)
        assert budget.reserved == MEMORY_FACTOR * LARGE
        await hold(request, Response(b"x" * LARGE))
        assert budget.reserved == LARGE
    assert budget.reserved == LARGE
    connection.done()
    assert budget.reserved == 0


async def test_a_small_answer_holds_nothing() -> None:
    budget = a_budget()
    request = a_request(Unread())
    with Answering(budget, context_of(request.scope)):
        await reserve(request, LARGE)
        await hold(request, Response(b"x" * FREE_BYTES))
        assert budget.reserved == 0


async def test_a_cached_answer_waits_for_its_own_size_only() -> None:
    budget = a_budget()
    first, second = a_request(Unread()), a_request(Unread())
    with Answering(budget, context_of(first.scope)), Answering(budget, context_of(second.scope)):
        await reserve(first, LARGE)
        with pytest.raises(Unavailable):
            await hold(second, Response(b"x" * LARGE))
        await hold(first, Response(b"x" * LARGE))
        await hold(second, Response(b"x" * LARGE))
        assert budget.reserved == 2 * LARGE


async def test_a_streamed_answer_keeps_what_it_reserved() -> None:
    budget = a_budget()
    request = a_request(Unread())
    with Answering(budget, context_of(request.scope)):
        await reserve(request, LARGE)
        await hold(request, StreamingResponse([b"x"]))
        assert budget.reserved == MEMORY_FACTOR * LARGE


async def test_a_request_that_fails_releases_what_it_reserved() -> None:
    budget, connection = a_budget(), Unread()
    request = a_request(connection)
    with pytest.raises(ValueError, match="broken"), Answering(budget, context_of(request.scope)):
        await reserve(request, LARGE)
        raise ValueError("broken")
    connection.done()
    assert budget.reserved == 0
