"""The list of all metrics, and `Metrics`, which counts them: one instance, with its own registry, per application.

Counters and histograms are updated as things happen, once per request or transaction and never once per event.
A metric with `at_scrape` is read when `/metrics` is requested (`api/metrics.py`). Label values are bounded: routes are
templates, and reasons and results are constants of this code.
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
    """One metric; its name includes its unit. `at_scrape`: read at each scrape, and left out while it is unknown."""

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
    "Requests handled. `route` is a template such as `/api/events/{id}`, or `none` if the request was refused before "
    "routing; `status` is `none` if the client disconnected before the response.",
    "method",
    "route",
    "status",
)
REQUEST_SECONDS: Final = _histogram(
    "request_seconds", "Time from the headers of a request to the end of its response.", _SECONDS, "method", "route"
)
CONNECTIONS_REFUSED: Final = _counter(
    "connections_refused",
    "Connections and requests refused before routing. With a response: `request_malformed`, `head_too_large` and "
    "`head_too_slow` (the error codes), `crowded` (503: every connection has a request in progress) and `full` (503, "
    "without reading the request: the reserve is in use too). Closed without a response: `shed` (idle, to make room), "
    "`silent` (sent nothing in time) and `heads_too_large` (heads that arrive in parts are too large together). Closed "
    "after a response: `rest_too_large` (the client continued to send). `brain_collector_requests_total` includes only "
    "`crowded`, `rest_too_large`, and requests that fail in the middle of a body.",
    "reason",
)
EVENTS_ACCEPTED: Final = _counter(
    "events_accepted", "Events committed for clients, without the collector's own events."
)
EVENTS_REJECTED: Final = _counter("events_rejected", "Events rejected, by error code.", "reason")
BATCH_EVENTS: Final = _histogram(
    "batch_events", "Number of events in a batch; its count is the number of batches.", _ROWS
)
DUPLICATES: Final = _counter(
    "duplicates", "Requests whose idempotency key and body were stored before; nothing of them was stored again."
)
KEYS_TAKEN: Final = _counter(
    "idempotency_keys_taken",
    "Requests whose idempotency key another caller had used for another body; they were stored.",
)
PENDING_BYTES: Final = _gauge(
    "pending_bytes", "Bytes held for the request bodies in progress; decoded bodies count three times."
)
PENDING_BYTES_LIMIT: Final = _gauge(
    "pending_bytes_limit", "Maximum of `brain_collector_pending_bytes` (the setting `max_pending_bytes`)."
)
WAITING_REQUESTS: Final = _gauge(
    "waiting_requests", "Requests that wait for admission, until enough pending bytes are free."
)
ANSWER_BYTES: Final = _gauge(
    "answer_bytes", "Bytes held for responses to reads that are being made, or that clients have not read yet."
)
ANSWER_BYTES_LIMIT: Final = _gauge(
    "answer_bytes_limit", "Maximum of `brain_collector_answer_bytes` (the setting `max_answer_bytes`)."
)
WAITING_READS: Final = _gauge(
    "waiting_reads", "Reads that wait until enough of the maximum of `brain_collector_answer_bytes` is free."
)
SHARES_REFUSED: Final = Metric(
    f"{PREFIX}shares_refused_total",
    "counter",
    "Requests refused because a maximum that callers share was reached: `pending_bytes`, `waiting_requests`, "
    "`read_connections`, `exports` or `streams`. Reason `caller`: the caller holds its share (the setting "
    "`caller_share`); `total`: all callers together hold the maximum.",
    ("maximum", "reason"),
    at_scrape=True,
)
WRITER_QUEUE: Final = _gauge("writer_queue", "Requests whose events no writer has taken yet.")
GROUP_ROWS: Final = _histogram("group_rows", "Number of events in a committed transaction.", _ROWS)
COMMIT_SECONDS: Final = _histogram(
    "commit_seconds", "Time from the first statement of a transaction to the end of its commit.", _SECONDS
)
RETRIES: Final = _counter(
    "transaction_retries",
    "Transactions retried: `conflict` (deadlock or serialization failure), `partition` (a day had no partition), "
    "`connection` (it was lost).",
    "reason",
)
CACHE_REQUESTS: Final = _counter(
    "cache_requests",
    "Cache lookups, by scope (`events`: lists and statistics, `event`: single events) and result; `bypass`: the cache "
    "was unavailable or might be stale.",
    "scope",
    "result",
)
CACHE_UP: Final = _gauge("cache_up", "1 while the cache responds, otherwise 0.")
DATABASE_UP: Final = _gauge("database_up", "1 while the database accepts writes, otherwise 0.")
EPOCH_CHANGES: Final = _counter(
    "epoch_changes", "Changes of the database to another one (failover, restore) that this collector noticed."
)
READ_CONNECTIONS: Final = _gauge("read_connections", "Database connections for reads in use.")
READ_CONNECTIONS_LIMIT: Final = _gauge(
    "read_connections_limit", "Maximum number of database connections for reads (the setting `read_connections`)."
)
ENGINE_UP: Final = _gauge(
    "engine_up", "1 while the embedded engine runs, otherwise 0; absent if none is embedded.", "engine"
)
ENGINE_RESTARTS: Final = Metric(
    f"{PREFIX}engine_restarts_total",
    "counter",
    "Restarts of the embedded engine after it died.",
    ("engine",),
    at_scrape=True,
)
FOLD_LAG: Final = _gauge("fold_lag_seconds", "Time since any collector last folded the journal of counts.")
UNINDEXED: Final = _gauge(
    "search_unindexed_events",
    "Events that are not in the search index yet, so searches scan them; up to 2048 is normal.",
)
JOURNAL_ROWS: Final = _gauge(
    "journal_rows", "Rows of the journal of counts that wait to be folded; 100000 means that many or more."
)
UNINDEXABLE: Final = _gauge(
    "search_unindexable_events",
    "Events that could not be indexed, so every search looks at them; 1000 means that many or more.",
)
JOB_FAILURES: Final = _counter(
    "job_failures",
    "Failed runs of background jobs, without those that failed because the database was unavailable; the log and "
    "`/health` say why.",
    "job_name",  # Prometheus itself labels every sample with `job`
)
PARTITION_AHEAD: Final = _gauge(
    "partition_ahead_seconds",
    "Time until the end of the last day that has a partition; less than 172800 (2 days) requires action.",
)
DATA_FREE: Final = _gauge(
    "data_dir_free_bytes", "Free space of the file system of the data directory; absent if no engine is embedded."
)
DATA_SIZE: Final = _gauge(
    "data_dir_size_bytes", "Size of the file system of the data directory; absent if no engine is embedded."
)
OWN_EVENTS_WAITING: Final = _gauge("own_events_waiting", "The collector's own events that are not stored yet.")
OWN_EVENTS_DROPPED: Final = _counter(
    "own_events_dropped", "Own events dropped because the database was unavailable for too long."
)
CANARY_EVENTS: Final = _counter(
    "canary_events",
    "Own health checks read back after they were acknowledged: `found`, `acked_not_found` (lost: raise an alarm), "
    "`doubled` (stored twice: raise an alarm), `deleted` (by a client: no alarm).",
    "result",
)
CANARY_CHECKS: Final = _counter("canary_checks", "Rounds of reading own health checks back; it must keep increasing.")
BUILD: Final = _gauge(
    "build_info", "Always 1; the labels are the versions of the collector and of Python.", "version", "python"
)

METRICS: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    CONNECTIONS_REFUSED,
    EVENTS_ACCEPTED,
    EVENTS_REJECTED,
    BATCH_EVENTS,
    DUPLICATES,
    KEYS_TAKEN,
    PENDING_BYTES,
    PENDING_BYTES_LIMIT,
    WAITING_REQUESTS,
    ANSWER_BYTES,
    ANSWER_BYTES_LIMIT,
    WAITING_READS,
    SHARES_REFUSED,
    WRITER_QUEUE,
    GROUP_ROWS,
    COMMIT_SECONDS,
    RETRIES,
    CACHE_REQUESTS,
    CACHE_UP,
    DATABASE_UP,
    EPOCH_CHANGES,
    READ_CONNECTIONS,
    READ_CONNECTIONS_LIMIT,
    ENGINE_UP,
    ENGINE_RESTARTS,
    FOLD_LAG,
    JOURNAL_ROWS,
    UNINDEXED,
    UNINDEXABLE,
    JOB_FAILURES,
    PARTITION_AHEAD,
    DATA_FREE,
    DATA_SIZE,
    OWN_EVENTS_WAITING,
    OWN_EVENTS_DROPPED,
    CANARY_EVENTS,
    CANARY_CHECKS,
    BUILD,
)
"""Every metric, in the order of the reference. prometheus_client adds `process_*`."""


class Reading(NamedTuple):
    """The current value of a metric with `at_scrape`."""

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
        """Increase a counter by n."""
        self._counter(metric.name, *labels).inc(n)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        self._histogram(metric.name, *labels).observe(value)

    def _find_counter(self, name: str, *labels: str) -> Counter:
        return self._counters[name].labels(*labels) if labels else self._counters[name]

    def _find_histogram(self, name: str, *labels: str) -> Histogram:
        return self._histograms[name].labels(*labels) if labels else self._histograms[name]

    def text(self, readings: Iterable[Reading]) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(_Families(self._registry, readings))


class _Families(Collector):
    """The metrics of the registry and the current readings, as one collector."""

    def __init__(self, registry: CollectorRegistry, readings: Iterable[Reading]) -> None:
        self._registry = registry
        self._readings = readings

    def collect(self) -> Iterator[Any]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, value, labels in self._readings:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = families.setdefault(metric.name, kind(metric.name, metric.help, labels=metric.labels))
            family.add_metric(labels, value)
        return chain(map(_without_created, self._registry.collect()), families.values())


def _without_created(family: Any) -> Any:
    """Leave out the time at which each counter was created, which prometheus_client adds as a gauge of its own."""
    family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    return family
