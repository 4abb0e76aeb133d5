"""The end of a process, and waiting for the last answer: the promises in the table of `_outbox`, one by one."""

import asyncio
import threading
from pathlib import Path

import pytest

from brain_events import Client
from brain_events.testing import MemoryTransport
from tests.support.sdk import NEXT, fast_client, run_script
from tests.support.sink import Sink
from tests.support.waiting import PATIENCE_S

LOG = """
    import os, brain_events
    brain_events.init(request_timeout_s=3600)
    for n in range(3):
        brain_events.log_system_event("a", "info", str(n))
"""


def stored(sink: Sink) -> list[str]:
    return sorted(event.message for event in sink.events if event.event_type == "a")


@pytest.mark.parametrize("trouble", ["hang", (503, {}, b""), (401, {}, b""), (503, {"Retry-After": "3600"}, b"")])
@pytest.mark.parametrize("durable", ["0", "1"])
def test_what_cannot_be_sent_at_exit_is_sent_by_the_next_process(sink: Sink, trouble: str, durable: str) -> None:
    sink.always = trouble
    done = run_script(LOG, sink.url, BRAIN_EVENTS_DURABLE=durable)
    assert "were lost" not in done.stderr
    assert sink.events == []
    sink.always = None
    sink.stopping.set()
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


def test_without_an_outbox_it_is_lost_and_one_line_says_so(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    done = run_script(LOG, sink.url, BRAIN_EVENTS_SPOOL_DIR="none")
    assert "brain-events: 3 of 3 events were lost: {'unsent': 3}\n" in done.stderr


def test_an_exception_ends_a_process_as_an_exit_does(sink: Sink) -> None:
    sink.always = (503, {}, b"")
    run_script(LOG + "    raise SystemError", sink.url)
    sink.always = None
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


def test_in_an_outage_default_mode_has_all_but_the_last_moments_on_disk(sink: Sink) -> None:
    sink.always = (401, {}, b"")
    run_script(
        LOG + "    while brain_events.stats().spooled < 3: pass\n    os.kill(os.getpid(), 9)",
        sink.url,
    )
    sink.always = None
    run_script(NEXT, sink.url)
    assert stored(sink) == ["0", "1", "2"]


def test_exit_without_an_outbox_hangs_no_longer_than_its_budget(sink: Sink) -> None:
    sink.always = "hang"
    script = (
        LOG
        + """
    print(brain_events.close(0.5))  # and not after the hour that a request may take
    """
    )
    assert run_script(script, sink.url, BRAIN_EVENTS_SPOOL_DIR="none").stdout == "False\n"


def test_an_event_logged_after_the_interpreter_can_start_no_thread_is_delivered(sink: Sink) -> None:
    """On 3.12 a thread cannot be started in an exit hook: the closing thread delivers."""
    done = run_script(
        """
        import atexit, brain_events
        brain_events.init()
        atexit.register(brain_events.log_system_event, "a", "info", "first and last")
        """,
        sink.url,
    )
    assert done.stderr == ""
    assert stored(sink) == ["first and last"]


def test_a_closed_client_says_whether_all_is_delivered_and_stats_where_the_rest_is(tmp_path: Path) -> None:
    client = fast_client(transport=MemoryTransport(*[OSError()] * 1000), spool_dir=str(tmp_path))
    client.log("a", "info", "")
    assert not client.close(0.2)
    assert not client.close(0.2)
    assert (client.stats().spooled, client.stats().in_memory, client.stats().dropped) == (1, 0, {})


def test_aflush_waits_without_holding_up_the_loop(memory: MemoryTransport) -> None:
    async def main() -> tuple[bool, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        with fast_client(transport=memory, interval_s=3600) as client:
            memory.answers.extend([OSError()] * 10)
            for n in range(100):
                client.log("a", "info", str(n))
            done = await client.aflush()
        ticking.cancel()
        return done, ticks

    done, ticks = asyncio.run(main())
    assert done
    assert ticks > 1
    assert len(memory.events) == 100


def test_aflush_is_false_when_it_takes_longer() -> None:
    client = fast_client(transport=MemoryTransport(*[OSError()] * 100_000))
    client.log("a", "info", "")
    assert not asyncio.run(client.aflush(timeout_s=0.05))
    client.close(0)


def test_the_facade_waits_too(sink: Sink) -> None:
    done = run_script(
        """
        import asyncio, brain_events
        async def main():
            early = await brain_events.aflush(0.1)
            brain_events.init()
            brain_events.log_system_event("a", "info", "")
            return early, await brain_events.aflush()
        print(asyncio.run(main()))
        """,
        sink.url,
    )
    assert done.stdout == "(True, True)\n", done.stderr


def test_flush_ends_when_other_threads_go_on_logging(client: Client) -> None:
    stop = threading.Event()

    def log_on() -> None:
        while not stop.is_set():
            client.log("other", "info", "")

    thread = threading.Thread(target=log_on)
    thread.start()
    try:
        client.log("a", "info", "")
        assert client.flush(PATIENCE_S)
    finally:
        stop.set()
        thread.join()
