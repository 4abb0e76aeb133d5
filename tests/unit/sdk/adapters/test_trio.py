"""The SDK in applications on trio: waiting happens in the event loop of the caller."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from brain_events import Client, EventsMiddleware
from brain_events.testing import MemoryTransport
from tests.support.sdk import fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])]


async def test_aflush_waits_in_the_loop_that_it_is_called_from(client: Client, memory: MemoryTransport) -> None:
    client.log("a", "info", "1")

    assert await client.aflush(PATIENCE_S)
    assert [event.message for event in memory.events] == ["1"]


async def test_aflush_gives_up_in_time() -> None:
    with fast_client(transport=MemoryTransport(*[OSError("away")] * 10_000)) as client:
        client.log("a", "info", "1")
        assert not await client.aflush(0.05)
        client.close(0.01)


@pytest.mark.parametrize("end", ["complete", "failed"])
async def test_the_end_of_an_application_is_forwarded_and_delivered(
    client: Client, memory: MemoryTransport, end: str
) -> None:
    async def application(
        _scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        for stage in ("startup.complete", f"shutdown.{end}"):
            await receive()
            await send({"type": f"lifespan.{stage}"})

    async def receive() -> dict[str, Any]:
        return {}

    sent = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        if message["type"].startswith("lifespan.shutdown"):
            assert [event.event_type for event in memory.events] == ["system_startup", "system_shutdown"]

    await EventsMiddleware(application, client=client)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", f"lifespan.shutdown.{end}"]


async def test_the_process_wide_client_does_so_too(sink: Sink, anyio_backend: str) -> None:
    script = f"""
        import anyio, brain_events
        brain_events.init()
        brain_events.log_system_event("a", "info", "")
        print(anyio.run(brain_events.aflush, 60, backend={anyio_backend!r}))
    """
    assert run_script(script, sink.url).stdout == "True\n"
