"""More comes than the collector can take, for long: what is lost is known to the event, and nothing urgent is lost."""

import time
from collections import Counter

import msgspec

from brain_events import Stats
from brain_events.testing.faulty import FaultyCollector
from tests.support.sdk import run_script

ROUNDS, LOGGED_A_ROUND, URGENT_A_ROUND = 15, 5_000, 20
# The buffer has room for about 500 events, 100 of them `error` and `critical` only; the collector gets as many at once.
PRODUCER = f"""
    import time, brain_events, msgspec
    from brain_events._delivery import drop_report
    drop_report.REPORT_INTERVAL_S = 0.1
    brain_events.init(interval_s=0.01, spool_dir=None, max_event_bytes=1024, max_buffer_bytes=100_000)

    def look(logged):
        stats = brain_events.stats()
        elsewhere = stats.rejected + stats.spooled + stats.in_memory + sum(stats.dropped.values())
        assert stats.logged == stats.delivered + elsewhere == logged, stats
        return stats

    n = 0
    for _ in range({ROUNDS}):
        delivered = brain_events.stats().delivered
        for number in range({LOGGED_A_ROUND}):
            urgent = number % ({LOGGED_A_ROUND} // {URGENT_A_ROUND}) == 100
            severity = ("error", "critical")[n % 2] if urgent else ("info", "warning")[n % 2]
            brain_events.log_system_event("storm", severity, str(n), {{"more": "x" * 80}})
            n += 1
        while look(n).delivered == delivered:
            time.sleep(0.001)
    assert brain_events.flush(120)
    report = brain_events._process.default._current._worker.delivery._report
    while report._reported != look(n).dropped | {{name: 0 for name in report._reported if name not in look(n).dropped}}:
        time.sleep(0.01)
    print(msgspec.json.encode(look(n)).decode())
"""


def test_at_ten_times_the_rate_of_the_collector_only_what_is_not_urgent_is_lost_and_every_loss_is_told() -> None:
    with FaultyCollector() as collector:
        collector.tell = lambda _line: time.sleep(0.05)  # it is slow
        done = run_script(PRODUCER, collector.url)
        assert done.returncode == 0, done.stderr
        stats = msgspec.json.decode(done.stdout, type=Stats)
        found = Counter(event.severity for event in collector.events if event.event_type == "storm")
        told = [event.details or {} for event in collector.events if event.event_type == "sdk_report"]
        numbers = [event.message for event in collector.events if event.event_type == "storm"]
    assert stats.logged == ROUNDS * LOGGED_A_ROUND >= 10 * stats.delivered
    assert found["error"] + found["critical"] == ROUNDS * URGENT_A_ROUND
    assert len(numbers) == len(set(numbers)) == stats.delivered
    assert stats.dropped == {"buffer_full": stats.logged - stats.delivered}
    assert len(told) > 1
    assert sum(report["dropped"].pop("buffer_full") for report in told) == stats.dropped["buffer_full"]
    assert [report["dropped"] for report in told] == [{}] * len(told)
