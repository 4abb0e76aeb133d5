"""brain-events with its defaults."""

import brain_events
from brain_events import log_system_event
from subjects import Target


def start(target: Target) -> None:
    brain_events.init(url=target.url, source="shop", spool_dir=target.spool_dir)


def flat(n: int) -> None:
    details = {"n": n, "order": "o-5512", "amount": 19.9, "paid": True, "country": "DE"}
    log_system_event("order_paid", "info", "order was paid", details)


def nested(n: int) -> None:
    details = {"n": n, "order": {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}}
    log_system_event("order_paid", "info", "order was paid", details)


def failed(n: int) -> None:
    log_system_event("payment_failed", "error", "no charge", {"n": n, "order": "o-5512"}, exc_info=True)


def bound():
    return brain_events.bound(customer="c-77", region="eu")


def flush() -> None:
    brain_events.flush(60)


def middleware(app):
    return brain_events.EventsMiddleware(app)
