"""Made-up events, such as the services of a shop would log: an endless sequence, repeatable by its seed."""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from brain_events.wire import Event

_ITEMS: Final = ("lamp", "chair", "desk", "shelf", "rug")
_ROUTES: Final = ("/items/{id}", "/items", "/cart", "/checkout", "/login")
_HOSTS: Final = ("web-1", "web-2", "web-3")
_TRACEBACK: Final = (
    "Traceback (most recent call last):\n"
    '  File "/srv/shop/payments.py", line 88, in charge\n'
    "    answer = provider.charge(card, amount)\n"
    "TimeoutError: the payment provider did not answer in 5 s"
)

EventMaker = Callable[[random.Random], Event]


def _http_request(chance: random.Random) -> Event:
    route = chance.choice(_ROUTES)
    status = chance.choices((200, 201, 304, 404, 500), (80, 6, 6, 6, 2))[0]
    duration_ms = round(chance.lognormvariate(3, 0.8), 1)
    details: dict[str, Any] = {"method": "POST" if route == "/checkout" else "GET", "route": route, "status": status}
    details |= {"duration_ms": duration_ms, "host": chance.choice(_HOSTS), "user": {"id": chance.randrange(1_000)}}
    severity = "error" if status == 500 else "warning" if duration_ms > 100 else "info"
    return Event("http_request", severity, f"{details['method']} {route} {status}", details, "shop")


def _order_placed(chance: random.Random) -> Event:
    items = [{"sku": chance.choice(_ITEMS), "n": chance.randint(1, 3)} for _ in range(chance.randint(1, 3))]
    order = f"o-{chance.randrange(100_000)}"
    details = {"order": order, "items": items, "amount_eur": round(chance.uniform(9, 900), 2)}
    return Event("order_placed", "info", f"order {order} was placed", details, "shop")


def _stock_low(chance: random.Random) -> Event:
    item, left = chance.choice(_ITEMS), chance.randint(0, 3)
    return Event("stock_low", "warning", f"only {left} of {item} left", {"sku": item, "left": left}, "warehouse")


def _payment_failed(chance: random.Random) -> Event:
    details = {"order": f"o-{chance.randrange(100_000)}", "exception": _TRACEBACK, "attempt": chance.randint(1, 3)}
    return Event("payment_failed", "error", "the payment provider did not answer", details, "payments")


def _job_done(chance: random.Random) -> Event:
    job = chance.choice(("send_invoices", "reindex", "expire_carts"))
    details = {"job": job, "rows": chance.randrange(5_000), "duration_s": round(chance.uniform(0.2, 40), 2)}
    return Event("job_done", "info", f"{job} is done", details, "worker")


def _deployment(chance: random.Random) -> Event:
    version = f"1.{chance.randrange(9)}.{chance.randrange(30)}"
    details = {"version": version, "environment": "production"}
    return Event("deployment", "info", f"the shop {version} is live", details, "deploy")


def _disk_full(chance: random.Random) -> Event:
    host = chance.choice(_HOSTS)
    return Event("disk_full", "critical", f"{host} has no room left on /var", {"host": host, "free_bytes": 0}, "node")


_WEIGHTS: Final[dict[EventMaker, int]] = {
    _http_request: 700,
    _order_placed: 120,
    _job_done: 90,
    _stock_low: 50,
    _payment_failed: 30,
    _deployment: 6,
    _disk_full: 4,
}


def samples(seed: int | None = None) -> Iterator[Event]:
    """Yield events without end; the same seed yields the same events."""
    chance = random.Random(seed)  # noqa: S311 - made-up events
    makers, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    while True:
        make_event = chance.choices(makers, weights)[0]
        yield make_event(chance)
