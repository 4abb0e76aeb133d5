"""Bound fields: whose they are, and how long they last."""

import asyncio
import threading

from brain_events import Client, bind, bound, clear, unbind
from brain_events.context import BOUND
from brain_events.testing import MemoryTransport


def test_bind_lasts_until_unbind_or_clear() -> None:
    bind(a=1, b=2)
    bind(b=3, c=4)
    assert BOUND.get() == {"a": 1, "b": 3, "c": 4}
    unbind("a", "never bound")
    assert BOUND.get() == {"b": 3, "c": 4}
    clear()
    assert BOUND.get() is None


def test_tasks_and_threads_do_not_see_each_others_fields(client: Client, memory: MemoryTransport) -> None:
    async def task(n: int) -> None:
        with bound(task=n):
            await asyncio.sleep(0)
            client.log("inside", "info", str(n))

    async def main() -> None:
        await asyncio.gather(*(task(n) for n in range(10)))

    with bound(task="outer"):
        asyncio.run(main())
        thread = threading.Thread(target=client.log, args=("inside", "info", "thread"))
        thread.start()
        thread.join()
    assert client.flush()
    assert {event.message: event.details for event in memory.events} == {
        **{str(n): {"task": n} for n in range(10)},
        "thread": None,
    }


def test_bound_restores_even_when_it_is_left_by_an_exception() -> None:
    try:
        with bound(a=1):
            raise KeyError  # noqa: TRY301
    except KeyError:
        assert BOUND.get() is None
