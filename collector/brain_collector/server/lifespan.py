"""The lifespan: opens connections, starts long-lived tasks and stops them in order. Nothing else starts such tasks.

The death of a task that others rely on stops the process: uvicorn alone would continue to serve without it. A job that
fails is tried again.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

from brain_collector import VERSION
from brain_collector.access.key_table import KeyTable
from brain_collector.access.keyring import Keyring
from brain_collector.access.rate_limit import RateLimit
from brain_collector.api import session
from brain_collector.api.resources import Resources
from brain_collector.cache import CacheScope, open_cache
from brain_collector.health.availability import Availability
from brain_collector.health.canary import Canary
from brain_collector.health.job_states import JobStates
from brain_collector.health.own_events import OwnEvents
from brain_collector.health.ping import Ping
from brain_collector.http.admission import Budget
from brain_collector.http.body_threads import BodyThreads
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.rejected_lines import INTERVAL_S, RejectedLineWriter
from brain_collector.ingest.writer import Writer
from brain_collector.jobs.epoch_watch import EpochWatch
from brain_collector.jobs.loop import attempt, every
from brain_collector.jobs.scheduler import Scheduler
from brain_collector.metrics import Metrics
from brain_collector.read.export import Exports
from brain_collector.read.store import Store
from brain_collector.schema import EngineState
from brain_collector.server import allocator
from brain_collector.settings import Settings
from brain_collector.tail.reader import Tail

logger: Final = logging.getLogger(__name__)


class Engines(Protocol):
    """The embedded engines."""

    @property
    def states(self) -> list[EngineState]:
        """The state of each engine."""

    async def watch(self) -> None:
        """Restart engines that die, until cancelled."""


@asynccontextmanager
async def opened(
    settings: Settings, engines: Engines | None, keyring: Keyring, metrics: Metrics
) -> AsyncIterator[Resources]:
    """Yield the open resources, with every task running.

    Each part uses those that were opened or started before it, so the exit stack ends them in reverse order:

    1. Connections are opened: cache, reads, jobs, rejected lines, API keys.
    2. The database is prepared once, the cache is told which one it is, and the API keys are read, before the first
       request.
    3. Tasks start: engines, jobs, tail, writers, and last own events, which are written by the writers.
    4. At the end the shutdown event is logged, own events and then the writers finish what is waiting, streams end,
       jobs are aborted (the next start repeats them), and connections are closed.
    """
    async with AsyncExitStack() as stack:
        resources, scheduler = _open(stack, settings, engines, keyring, metrics)
        stop = asyncio.Event()
        for name, work in (("maintain", scheduler.maintenance.run), ("keys", resources.keys.refresh)):
            await attempt(name, work, resources.job_states, stop)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if engines is not None:
            watching = tasks.create_task(_critical("engines", engines.watch()))
            stack.callback(watching.cancel)
        _start_loops(stack, tasks, resources, scheduler, stop)
        _start_writers(stack, tasks, resources)
        resources.own_events.log("system_startup", "info", "The collector started", version=VERSION)
        stack.callback(resources.own_events.log, "system_shutdown", "info", "The collector is stopping")
        stack.callback(resources.writer.drain)
        yield resources


def _open(
    stack: AsyncExitStack, settings: Settings, engines: Engines | None, keyring: Keyring, metrics: Metrics
) -> tuple[Resources, Scheduler]:
    """Open everything that has a connection (they connect at their first use); the stack closes them."""
    redis_url = None if settings.redis_url == "none" else settings.redis_url
    cache = open_cache(redis_url, metrics, patience_s=settings.cache_deadline_s)
    stack.push_async_callback(cache.close)
    store = Store(settings)
    stack.push_async_callback(store.close)
    own_events = OwnEvents(interval_s=settings.health_interval_s, retry_s=settings.retry_after_s, metrics=metrics)
    availability = Availability(own_events, lambda: engines.states if engines else [])
    job_states = JobStates(metrics)
    writer = Writer(settings, availability, lambda: cache.invalidate(CacheScope.LIST), metrics)
    epoch_watch = EpochWatch(cache, own_events, metrics, [store.abandon, writer.abandon])
    scheduler = Scheduler(settings, cache, availability, Canary(own_events, metrics), job_states, epoch_watch)
    stack.push_async_callback(scheduler.close)
    rejected_lines = RejectedLineWriter(settings, own_events.record_dropped_lines)
    stack.push_async_callback(rejected_lines.close)
    keys = KeyTable(settings, keyring)
    stack.push_async_callback(keys.close)
    body_threads = BodyThreads()
    stack.callback(body_threads.close)
    resources = Resources(
        settings=settings,
        limits=_limits(settings),
        budget=Budget(settings.max_pending_bytes, settings),
        body_threads=body_threads,
        session_budget=Budget(session.MAX_PENDING_BYTES, settings),
        answers=Budget(settings.max_answer_bytes, settings),
        rate_limit=RateLimit(settings, cache.evaluate),
        store=store,
        writer=writer,
        cache=cache,
        own_events=own_events,
        ping=Ping(scheduler.monitor.is_database_responding),
        availability=availability,
        job_states=job_states,
        keys=keys,
        rejected_lines=rejected_lines,
        metrics=metrics,
        tail=Tail(store, settings),
        exports=Exports(store, settings),
    )
    return resources, scheduler


def _limits(settings: Settings) -> Limits:
    return Limits(
        event_bytes=settings.max_event_bytes,
        details_depth=settings.max_details_depth,
        batch_events=settings.max_batch_events,
        details_keys=settings.max_details_keys,
        details_values=settings.max_details_values,
        key_chars=settings.max_details_key_chars,
    )


def _start_loops(
    stack: AsyncExitStack, tasks: asyncio.TaskGroup, resources: Resources, scheduler: Scheduler, stop: asyncio.Event
) -> None:
    """Start the tail and every periodic task; the stack aborts them."""
    keys, rejected_lines, states = resources.keys, resources.rejected_lines, resources.job_states
    flush = partial(attempt, "rejected_lines", rejected_lines.flush, states, stop)
    loops = {
        **scheduler.loops(stop),
        "keys": every(keys.interval_s, partial(attempt, "keys", keys.refresh, states, stop), stop),
        "rejected_lines": every(lambda: INTERVAL_S, flush, stop),
        "tail": resources.tail.run(),
        "allocator": every(lambda: allocator.TRIM_INTERVAL_S, allocator.trim, stop),
    }
    for name, loop in loops.items():
        tasks.create_task(_critical(name, loop))
    stack.callback(keys.abort)
    stack.callback(scheduler.abort)
    stack.callback(stop.set)
    stack.callback(resources.tail.close)


def _start_writers(stack: AsyncExitStack, tasks: asyncio.TaskGroup, resources: Resources) -> None:
    """Start the writers, and own events; the stack lets each finish what is waiting."""
    writer, own_events = resources.writer, resources.own_events
    writing = [tasks.create_task(_critical(f"writer-{n}", writer.run())) for n in range(resources.settings.writers)]
    stack.push_async_callback(_ended, writing)
    stack.callback(writer.close)
    recording = tasks.create_task(_critical("own_events", own_events.run(writer.submit)))
    stack.push_async_callback(_ended, [recording])
    stack.callback(own_events.close)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _critical(name: str, work: Awaitable[Any]) -> None:
    """Run a task without which the collector must not continue."""
    try:
        await work
    except Exception:
        logger.critical("the task %r died; the collector shuts down", name, exc_info=True)
        signal.raise_signal(signal.SIGTERM)
        raise
