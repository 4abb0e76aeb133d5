"""Record what happens to a Python application: events, in the background, to a collector.

Reading order, which is the way of one event: `client` -> `_event` -> `_buffer` or `_journal` -> `_worker`
-> `_delivery` -> `_queue` -> `_batch` -> `_outbox` -> `_http` -> `_answer`. The adapters `structlog`, `stdlib`
and `asgi` stand before `client`; `wire` is the contract with the collector.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from brain_events._process.default import aflush, close, flush, init, log_system_event, stats
from brain_events._queue.stats import Stats
from brain_events.client import Client
from brain_events.config import Config
from brain_events.context import bind, bound, clear, unbind
from brain_events.errors import BrainEventsError, ConfigError
from brain_events.wire import Event

if TYPE_CHECKING:
    from brain_events.asgi import EventsMiddleware
    from brain_events.stdlib import EventsHandler
    from brain_events.structlog import EventsProcessor

__all__ = [
    "BrainEventsError",
    "Client",
    "Config",
    "ConfigError",
    "Event",
    "EventsHandler",
    "EventsMiddleware",
    "EventsProcessor",
    "Stats",
    "aflush",
    "bind",
    "bound",
    "clear",
    "close",
    "flush",
    "init",
    "log_system_event",
    "stats",
    "unbind",
]

_ADAPTERS = {"EventsHandler": "stdlib", "EventsMiddleware": "asgi", "EventsProcessor": "structlog"}


def __getattr__(name: str) -> Any:
    """Import an adapter at its first use."""
    if name in _ADAPTERS:
        return getattr(import_module(f"brain_events.{_ADAPTERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
