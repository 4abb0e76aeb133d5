"""The open resources that request handlers use; the lifespan creates them once."""

from typing import NamedTuple

from starlette.requests import Request

from brain_collector.access.key_table import KeyTable
from brain_collector.access.rate_limit import RateLimit
from brain_collector.cache import Cache
from brain_collector.health.availability import Availability
from brain_collector.health.job_states import JobStates
from brain_collector.health.own_events import OwnEvents
from brain_collector.health.ping import Ping
from brain_collector.http.admission import Budget
from brain_collector.http.body_threads import BodyThreads
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.rejected_lines import RejectedLineWriter
from brain_collector.ingest.writer import Writer
from brain_collector.metrics import Metrics
from brain_collector.read.export import Exports
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_collector.tail.reader import Tail


class Resources(NamedTuple):
    """The open resources of one collector."""

    settings: Settings
    limits: Limits
    budget: Budget
    body_threads: BodyThreads
    session_budget: Budget
    answers: Budget
    rate_limit: RateLimit
    store: Store
    writer: Writer
    cache: Cache
    own_events: OwnEvents
    ping: Ping
    availability: Availability
    job_states: JobStates
    keys: KeyTable
    rejected_lines: RejectedLineWriter
    metrics: Metrics
    tail: Tail
    exports: Exports


def resources_of(request: Request) -> Resources:
    """Return the resources of the application that handles this request."""
    resources: Resources = request.scope["state"]["resources"]
    return resources
