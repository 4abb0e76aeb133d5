"""Bound fields and traces: whose they are, and how long they last."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from brain_events import Client, bind, bound, clear, unbind
from brain_events._record.trace import parse_traceparent
from brain_events.context import BOUND
from brain_events.testing import MemoryTransport
from tests.support.sdk import run_script
from tests.support.waiting import PATIENCE_S

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


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
    assert client.flush(PATIENCE_S)
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


def test_to_thread_inherits_and_what_it_binds_stays_there(client: Client, memory: MemoryTransport) -> None:
    def work() -> None:
        bind(inner=1)
        client.log("inside", "info", "")

    async def main() -> None:
        with bound(outer=1):
            await asyncio.to_thread(work)
            client.log("outside", "info", "")

    asyncio.run(main())
    assert client.flush(PATIENCE_S)
    assert [event.details for event in memory.events] == [{"outer": 1, "inner": 1}, {"outer": 1}]


def test_bound_can_be_left_in_another_task_than_it_was_entered_in() -> None:
    def generate() -> Iterator[None]:
        with bound(a=1):
            yield

    async def step(generator: Iterator[None]) -> Any:
        next(generator, None)
        return BOUND.get()

    async def main() -> list[Any]:
        generator = generate()
        return [await asyncio.create_task(step(generator)) for _ in range(2)]

    assert asyncio.run(main()) == [{"a": 1}, None]


def test_a_field_may_have_any_name_and_any_value(client: Client, memory: MemoryTransport) -> None:
    with bound(self=1, **{"a b": {1}, "password": "hunter2"}):
        client.log("t", "info", "")
    assert client.flush(PATIENCE_S)
    assert memory.events[0].details == {"self": 1, "a b": [1], "password": "[scrubbed]"}


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-brings", True),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-01-more", False),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01.more", False),
        (f"ff-{TRACE_ID}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID.upper()}-{SPAN_ID}-01", False),
        (f"00-{'0' * 32}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID}-{'0' * 16}-01", False),
        (f"00-{TRACE_ID[1:]}-{SPAN_ID}-01", False),
        (f" 00-{TRACE_ID}-{SPAN_ID}-01", False),
        (f"00-{TRACE_ID}-{SPAN_ID}", False),
        ("", False),
    ],
)
def test_a_traceparent_is_read_as_the_w3c_says(header: str, *, ids: bool) -> None:
    assert parse_traceparent(header.encode()) == ({"trace_id": TRACE_ID, "span_id": SPAN_ID} if ids else {})


def test_the_current_span_is_in_the_details_and_wins_over_what_is_bound(
    client: Client, memory: MemoryTransport
) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), is_remote=False)
    with bound(trace_id="of the caller", user="ann"):
        with trace.use_span(trace.NonRecordingSpan(context)):
            for details in (None, {"a": 1}, {"a": 1}, {"span_id": "given"}):
                client.log("inside", "info", "", details)
        client.log("outside", "info", "")
    assert client.flush(PATIENCE_S)
    ids = {"trace_id": TRACE_ID, "user": "ann", "span_id": SPAN_ID}
    assert [event.details for event in memory.events] == [
        ids,
        ids | {"a": 1},
        ids | {"a": 1},
        ids | {"span_id": "given"},
        {"trace_id": "of the caller", "user": "ann"},
    ]


def test_opentelemetry_is_not_imported_and_may_be_broken() -> None:
    done = run_script("""
        import sys, types, brain_events
        from brain_events.testing import MemoryTransport
        memory = MemoryTransport()
        brain_events.init("http://127.0.0.1:9", transport=memory, spool_dir=None)
        brain_events.log_system_event("a", "info", "")
        print(any(name.startswith("opentelemetry") for name in sys.modules))
        sys.modules["opentelemetry.trace"] = types.ModuleType("opentelemetry.trace")
        brain_events.log_system_event("a", "info", "")
        brain_events.log_system_event("a", "info", "", {"b": 1})
        sys.modules["opentelemetry.trace"] = None
        brain_events.log_system_event("a", "info", "")
        print(brain_events.flush(120), [event.details for event in memory.events])
    """)
    assert done.stdout == "False\nTrue [None, None, {'b': 1}, None]\n", done.stderr
