"""Every metric there is, in one list, and what counts them: one `Metrics` (so one registry) an application.

Counters and histograms are fed as things happen, once a request or a transaction and never once an event.
Everything with `at_scrape` is read when `/metrics` is asked (`api/metrics.py`). Label values are bounded: routes are
templates, reasons and results come from this code.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any, Final, Literal, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

PREFIX: Final = "brain_collector_"
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS: Final = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class Metric(msgspec.Struct, frozen=True):
    """One metric. A unit stands in its name; `at_scrape`: read when asked for, and left out when it is not known."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    at_scrape: bool = False


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}_total", "counter", help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}", "histogram", help, labels, buckets)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}", "gauge", help, labels, at_scrape=True)


REQUESTS: Final = _counter(
    "requests",
    "Requests answered. `route` is a template such as `/api/events/{id}`, or `none` where the request was refused "
    "before it had one; `status` is `none` where the client left before an answer.",
    "method",
    "route",
    "status",
)
REQUEST_SECONDS: Final = _histogram(
    "request_seconds", "Time from a request's head to the end of its answer.", _SECONDS, "method", "route"
)
CONNECTIONS_REFUSED: Final = _counter(
    "connections_refused",
    "What the door turned away: `request_malformed`, `head_too_large`, `head_too_slow` (the problem's code), `crowded` "
    "(every connection works; 503), `full` (also the reserve is taken; 503, unheard); without an answer `shed` (it "
    "waited, and made room) and `silent` (it said nothing in time). Of these only `crowded` is in `requests`, and what "
    "fails in the middle of a body.",
    "reason",
)
EVENTS_ACCEPTED: Final = _counter("events_accepted", "Events committed for clients.")
EVENTS_REJECTED: Final = _counter("events_rejected", "Events refused, by the code of their error.", "reason")
BATCH_EVENTS: Final = _histogram("batch_events", "Events in a batch; the count is the number of batches.", _ROWS)
DUPLICATES: Final = _counter("duplicates", "Requests under a known idempotency key, answered with the first answer.")
PENDING_BYTES: Final = _gauge("pending_bytes", "Bytes of request bodies at work.")
PENDING_BYTES_LIMIT: Final = _gauge("pending_bytes_limit", "The most of them that are taken (`max_pending_bytes`).")
WAITING_REQUESTS: Final = _gauge("waiting_requests", "Requests that wait until there is room for their bodies.")
WRITER_QUEUE: Final = _gauge("writer_queue", "Submissions that no writer has taken yet.")
GROUP_ROWS: Final = _histogram("group_rows", "Events in one committed transaction.", _ROWS)
COMMIT_SECONDS: Final = _histogram("commit_seconds", "Time of one transaction, from its first statement.", _SECONDS)
RETRIES: Final = _counter(
    "transaction_retries",
    "Transactions begun again: `conflict` (deadlock, serialization), `partition` (a day was missing), "
    "`connection` (it had died).",
    "reason",
)
CACHE_REQUESTS: Final = _counter(
    "cache_requests",
    "Look-ups by scope (`events`: lists and statistics, `event`: single ones) and result; `bypass`: the cache could "
    "not be trusted or asked.",
    "scope",
    "result",
)
CACHE_UP: Final = _gauge("cache_up", "1 while the cache answers.")
DATABASE_UP: Final = _gauge("database_up", "1 while the database takes writes.")
READ_CONNECTIONS: Final = _gauge("read_connections", "Database connections for reads that are in use.")
READ_CONNECTIONS_LIMIT: Final = _gauge("read_connections_limit", "The most of them (`read_connections`).")
ENGINE_UP: Final = _gauge("engine_up", "1 while the embedded engine runs; absent where nothing is embedded.", "engine")
ENGINE_RESTARTS: Final = Metric(
    f"{PREFIX}engine_restarts_total",
    "counter",
    "Times the embedded engine died and was started again.",
    ("engine",),
    at_scrape=True,
)
FOLD_LAG: Final = _gauge("fold_lag_seconds", "Time since any collector folded the journal of counts.")
UNINDEXED: Final = _gauge(
    "search_unindexed_events", "Events that a search has to look through itself; up to 2048 wait on purpose."
)
JOURNAL_ROWS: Final = _gauge("journal_rows", "Rows of the journal that wait to be folded; 100000 is that or more.")
DAYS_AHEAD: Final = _gauge("partition_days_ahead", "Whole days after today that have a partition. 0 is an emergency.")
DATA_FREE: Final = _gauge("data_dir_free_bytes", "Disk left for the embedded engines; absent where none are embedded.")
DATA_SIZE: Final = _gauge("data_dir_size_bytes", "Size of that file system.")
OWN_EVENTS_WAITING: Final = _gauge("own_events_waiting", "Own events that are not stored yet.")
OWN_EVENTS_DROPPED: Final = _counter("own_events_dropped", "Own events dropped while the database was away for long.")
CANARY_EVENTS: Final = _counter(
    "canary_events",
    "Own health checks read back after their acknowledgement: `found`, `acked_not_found` (lost: an alarm), `doubled` "
    "(stored twice: an alarm), `deleted` (by a client; no alarm).",
    "result",
)
CANARY_CHECKS: Final = _counter("canary_checks", "Times they were read back; it must grow.")
BUILD: Final = _gauge("build_info", "Always 1.", "version", "python")

METRICS: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    CONNECTIONS_REFUSED,
    EVENTS_ACCEPTED,
    EVENTS_REJECTED,
    BATCH_EVENTS,
    DUPLICATES,
    PENDING_BYTES,
    PENDING_BYTES_LIMIT,
    WAITING_REQUESTS,
    WRITER_QUEUE,
    GROUP_ROWS,
    COMMIT_SECONDS,
    RETRIES,
    CACHE_REQUESTS,
    CACHE_UP,
    DATABASE_UP,
    READ_CONNECTIONS,
    READ_CONNECTIONS_LIMIT,
    ENGINE_UP,
    ENGINE_RESTARTS,
    FOLD_LAG,
    JOURNAL_ROWS,
    UNINDEXED,
    DAYS_AHEAD,
    DATA_FREE,
    DATA_SIZE,
    OWN_EVENTS_WAITING,
    OWN_EVENTS_DROPPED,
    CANARY_EVENTS,
    CANARY_CHECKS,
    BUILD,
)
"""Every metric, in the order of the reference. prometheus_client adds the `process_*` ones."""


class Reading(NamedTuple):
    """The value that a metric with `at_scrape` has now."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


class Metrics:
    """The counters and histograms of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters = {
            metric.name: Counter(metric.name, metric.help, metric.labels, registry=self._registry)
            for metric in METRICS
            if metric.kind == "counter" and not metric.at_scrape
        }
        self._histograms = {
            metric.name: Histogram(
                metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry
            )
            for metric in METRICS
            if metric.kind == "histogram"
        }
        ProcessCollector(registry=self._registry)
        self._counter = cache(self._find_counter)
        self._histogram = cache(self._find_histogram)

    def add(self, metric: Metric, *labels: str, n: float = 1) -> None:
        """Count n more."""
        self._counter(metric.name, *labels).inc(n)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        self._histogram(metric.name, *labels).observe(value)

    def _find_counter(self, name: str, *labels: str) -> Counter:
        return self._counters[name].labels(*labels) if labels else self._counters[name]

    def _find_histogram(self, name: str, *labels: str) -> Histogram:
        return self._histograms[name].labels(*labels) if labels else self._histograms[name]

    def text(self, readings: Iterable[Reading]) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(_Families(self._registry, readings))


class _Families(Collector):
    """What the registry counted and what was read just now, as one registry."""

    def __init__(self, registry: CollectorRegistry, readings: Iterable[Reading]) -> None:
        self._registry = registry
        self._readings = readings

    def collect(self) -> Iterator[Any]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, value, labels in self._readings:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = families.setdefault(metric.name, kind(metric.name, metric.help, labels=metric.labels))
            family.add_metric(labels, value)
        return chain(self._registry.collect(), families.values())
