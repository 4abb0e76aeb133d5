"""Many threads and many tasks at once: no event is lost, and each batch has them in the order of their calls."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec

from brain_events import Stats
from tests.support import sink as sinks

THREADS, TASKS, EACH_THREAD, EACH_TASK = 200, 10_000, 2_500, 50
ALL = THREADS * EACH_THREAD + TASKS * EACH_TASK
APPLICATION = """
import asyncio, sys, threading, brain_events, msgspec

threads, tasks, each_thread, each_task = map(int, sys.argv[1:])
brain_events.init(source="crowd", max_buffer_bytes=2**28)  # as fast as they can: more than leaves meanwhile

def log(name, number):
    brain_events.log_system_event("crowd", "info", name, {"number": number})

def work(name):
    for number in range(each_thread):
        log(name, number)

async def task(name):
    for number in range(each_task):
        log(name, number)
        await asyncio.sleep(0)

async def main():
    await asyncio.gather(*(task(f"task-{n}") for n in range(tasks)))

crowd = [threading.Thread(target=work, args=[f"thread-{n}"]) for n in range(threads)]
for thread in crowd:
    thread.start()
for thread in crowd:
    thread.join()
asyncio.run(main())
brain_events.flush(120)
print(msgspec.json.encode(brain_events.stats()).decode())
"""


def test_a_million_events_of_200_threads_and_10_000_tasks_arrive_in_order(tmp_path: Path) -> None:
    with sinks.serve() as sink:
        done = subprocess.run(
            [sys.executable, "-c", APPLICATION, *map(str, (THREADS, TASKS, EACH_THREAD, EACH_TASK))],
            env={**os.environ, "BRAIN_EVENTS_URL": sink.url, "BRAIN_EVENTS_SPOOL_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            check=True,
        )
        account = msgspec.json.decode(done.stdout, type=Stats)
        assert (account.logged, account.delivered, account.dropped) == (ALL, ALL, {})

        seen: Counter[str] = Counter()
        for batch in sink.stored.values():  # as they arrived, one request after the other
            for event in batch.events:
                assert event.details == {"number": seen[event.message]}, event.message
                seen[event.message] += 1
        assert Counter(seen.values()) == {EACH_THREAD: THREADS, EACH_TASK: TASKS}
