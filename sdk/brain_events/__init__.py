"""Log the events of a Python application, and deliver them to a collector in the background.

To follow one event through the code, read in this order: `client`, `_record.event`, `_queue.buffer` (in durable mode
`_queue.journal`), `_delivery.worker`, `_delivery.delivery`, `_queue.queue`, `_queue.batch`, `_queue.outbox`,
`_delivery.http`, `_delivery.verdict`. The adapters `structlog`, `stdlib` and `asgi` call the client; `wire` is the
contract with the collector.
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
    """Import an adapter when it is first used."""
    if name in _ADAPTERS:
        return getattr(import_module(f"brain_events.{_ADAPTERS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
