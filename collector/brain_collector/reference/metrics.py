"""Makes docs/metrics.md out of the lists in the code.

Made by `python -m brain_collector.reference.metrics > docs/metrics.md`.
"""

import sys
from typing import Final

from brain_collector.health.own_events import OWN_EVENTS
from brain_collector.metrics import METRICS

_TEXT: Final = """# Metrics and own events

<!-- made by `python -m brain_collector.reference.metrics`; a test holds this page against the code -->

`GET /metrics` answers in Prometheus' text format; it needs the API key, where there is one. Each collector counts for
itself. Counters start at 0 with the process. A metric that is not known (no embedded engine, no database reached yet)
is left out.

| metric | type | labels | meaning |
|---|---|---|---|
{metrics}
| `process_*` | | | CPU, memory, file descriptors and start time of the process, from prometheus_client. |

Worth an alarm: `brain_collector_database_up == 0`, any growth of
`brain_collector_canary_events_total{{result=~"acked_not_found|doubled"}}`, no growth of
`brain_collector_canary_checks_total`, `brain_collector_partition_days_ahead < 2`,
`brain_collector_fold_lag_seconds > 60`, `brain_collector_data_dir_free_bytes`
running low, growth of `brain_collector_own_events_dropped_total`.

## Own events

The collector's own events have `source` = `collector`. While the database is away they go to stdout as JSON, and are
stored when it is back.

| event type | meaning |
|---|---|
{events}
"""


def render() -> str:
    """Return the page."""
    metrics = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    events = [f"| `{name}` | {meaning} |" for name, meaning in OWN_EVENTS.items()]
    return _TEXT.format(metrics="\n".join(metrics), events="\n".join(events))


if __name__ == "__main__":
    sys.stdout.write(render())
