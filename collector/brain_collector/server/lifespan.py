"""Opens what the collector works with, starts its tasks, and ends them in the right order. Nothing else starts any.

At the end: own shutdown event, own log flushed, writers drained, loops ended, connections closed. A task that
dies takes the process down: both uvicorn and granian would go on serving without it.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol

from brain_collector import VERSION
from brain_collector.access.key_table import KeyTable
from brain_collector.access.keyring import Keyring
from brain_collector.access.rate_limit import RateLimit
from brain_collector.api.resources import Resources
from brain_collector.cache import CacheScope, open_cache
from brain_collector.health.availability import Availability
from brain_collector.health.canary import Canary
from brain_collector.health.own_events import OwnEvents
from brain_collector.http.admission import Budget
from brain_collector.ingest.rejected_lines import INTERVAL_S, RejectedLines
from brain_collector.ingest.submission import Stored, Submission
from brain_collector.ingest.validate import Limits
from brain_collector.ingest.writer import Writer
from brain_collector.jobs.scheduler import Scheduler, every
from brain_collector.metrics import Metrics
from brain_collector.read.export import Exports
from brain_collector.read.store import Store
from brain_collector.schema import EngineState
from brain_collector.settings import Settings
from brain_collector.tail.reader import Tail

logger: Final = logging.getLogger(__name__)


class Engines(Protocol):
    """The embedded engines, where there are any."""

    @property
    def states(self) -> list[EngineState]:
        """How each of them fares."""

    async def watch(self) -> None:
        """Start again what dies, until cancelled."""


@asynccontextmanager
async def opened(
    settings: Settings, engines: Engines | None, keyring: Keyring, metrics: Metrics | None = None
) -> AsyncIterator[Resources]:
    """Yield the open resources, every task running."""
    metrics = metrics or Metrics()
    async with AsyncExitStack() as stack:
        cache = open_cache(
            None if settings.redis_url in {None, "none"} else settings.redis_url,
            patience_s=settings.cache_deadline_s,
            metrics=metrics,
        )
        stack.push_async_callback(cache.close)
        store = Store(settings)
        stack.push_async_callback(store.close)

        async def submit(submission: Submission) -> Stored:
            return await writer.submit(submission)

        own_events = OwnEvents(
            submit, interval_s=settings.health_interval_s, retry_s=settings.retry_after_s, metrics=metrics
        )
        availability = Availability(own_events, lambda: engines.states if engines else [])
        writer = Writer(settings, availability, lambda: cache.invalidate(CacheScope.LIST), metrics)
        background = Scheduler(settings, cache, availability, Canary(own_events, metrics))
        stack.push_async_callback(background.close)
        rejected_lines = RejectedLines(settings, own_events.unkept)
        stack.push_async_callback(rejected_lines.close)
        await background.maintain()
        keys = KeyTable(settings, keyring)
        stack.push_async_callback(keys.close)
        await keys.refresh()

        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if engines is not None:
            watching = tasks.create_task(_critical("engines", engines.watch()))
            stack.callback(watching.cancel)
        for name, loop in background.loops(stop := asyncio.Event()).items():
            tasks.create_task(_critical(name, loop))
        tasks.create_task(_critical("keys", every(keys.interval_s, keys.refresh, stop)))
        stack.callback(keys.abort)
        tasks.create_task(_critical("rejected_lines", every(lambda: INTERVAL_S, rejected_lines.flush, stop)))
        stack.callback(background.abort)
        stack.callback(stop.set)
        tail = Tail(store, settings)
        tasks.create_task(_critical("tail", tail.run()))
        stack.callback(tail.close)
        writing = [tasks.create_task(_critical(f"writer-{n}", writer.run())) for n in range(settings.writers)]
        stack.push_async_callback(_ended, writing)
        stack.callback(writer.close)
        logging_self = tasks.create_task(_critical("own_events", own_events.run()))
        stack.push_async_callback(_ended, [logging_self])
        stack.callback(own_events.close)

        own_events.log("system_startup", "info", "The collector started", version=VERSION)
        stack.callback(own_events.log, "system_shutdown", "info", "The collector is stopping")
        stack.callback(writer.drain)
        limits = Limits(
            event_bytes=settings.max_event_bytes,
            details_depth=settings.max_details_depth,
            batch_events=settings.max_batch_events,
            details_keys=settings.max_details_keys,
            key_chars=settings.max_details_key_chars,
        )
        budget = Budget(settings)
        rate_limit = RateLimit(settings, cache.evaluate)
        yield Resources(
            settings,
            limits,
            budget,
            rate_limit,
            store,
            writer,
            cache,
            own_events,
            availability,
            keys,
            rejected_lines,
            metrics,
            tail,
            Exports(store, settings),
        )


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _critical(name: str, work: Awaitable[Any]) -> None:
    """Run a task that the collector cannot do without."""
    try:
        await work
    except Exception:
        logger.critical("the task %r died; the collector stops", name, exc_info=True)
        signal.raise_signal(signal.SIGTERM)
        raise
