"""What every request handler works with; made once, by the lifespan."""

from typing import NamedTuple

from starlette.requests import Request

from brain_collector.availability import Availability
from brain_collector.budget import Budget
from brain_collector.cache import Cache
from brain_collector.export import Exports
from brain_collector.key_table import KeyTable
from brain_collector.metrics import Metrics
from brain_collector.quarantine import Quarantine
from brain_collector.quota import Quota
from brain_collector.selflog import SelfLog
from brain_collector.settings import Settings
from brain_collector.store import Store
from brain_collector.tail import Tail
from brain_collector.validate import Limits
from brain_collector.writer import Writer


class Resources(NamedTuple):
    """The open resources of one collector."""

    settings: Settings
    limits: Limits
    budget: Budget
    quota: Quota
    store: Store
    writer: Writer
    cache: Cache
    selflog: SelfLog
    availability: Availability
    keys: KeyTable
    quarantine: Quarantine
    metrics: Metrics
    tail: Tail
    exports: Exports


def resources(request: Request) -> Resources:
    """Return the resources of the application that serves this request."""
    found: Resources = request.scope["state"]["resources"]
    return found
