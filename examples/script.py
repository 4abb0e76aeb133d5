"""A plain script. Sends `deployment`, `order_paid` and `import_failed`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 python examples/script.py
"""

import brain_events
from brain_events import bound, log_system_event


def import_prices(lines: list[str]) -> int:
    """Return the sum of the prices; raise for a line that is not a number."""
    return sum(int(line) for line in lines)


if __name__ == "__main__":
    brain_events.init(source="example-script")

    log_system_event("deployment", "info", "version 1.4.2 is live", {"version": "1.4.2", "hosts": ["web-1", "web-2"]})

    with bound(customer="c-77"):  # added to the details of every event logged inside
        log_system_event("order_paid", "info", "order 1001 is paid", {"order": 1001, "amount_eur": 49.9})

    try:
        import_prices(["12", "7", "free"])
    except ValueError:
        log_system_event("import_failed", "error", "the price list has a bad line", exc_info=True)

    # Events are delivered automatically at exit. To know the result, wait for it:
    print("all delivered" if brain_events.flush() else "not delivered yet", brain_events.stats())
