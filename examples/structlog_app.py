"""structlog: events are still printed, and also sent. Sends `stock_low`, `log` and `payment_failed`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 python examples/structlog_app.py
"""

import structlog

import brain_events

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        brain_events.EventsProcessor(),  # after processors that add fields, before those that render
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.dev.ConsoleRenderer(),
    ],
)
log = structlog.get_logger()

if __name__ == "__main__":
    brain_events.init(source="example-structlog")

    log.warning("three left in stock", event_type="stock_low", article="lamp", left=3)

    with structlog.contextvars.bound_contextvars(basket="b-5"):
        log.info("basket opened")  # without event_type: a `log` event

    try:
        _ = 49.9 / 0
    except ZeroDivisionError:
        log.exception("the bank's response is invalid", event_type="payment_failed")
