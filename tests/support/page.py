"""Events to look at, and how a test looks at the page's list of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from playwright.sync_api import Locator, Page

from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S

KINDS = [
    ("http_request", "info", "GET /checkout 200"),
    ("order_placed", "info", "a lamp was ordered"),
    ("http_request", "info", "POST /api/orders 201"),
    ("stock_low", "warning", "only 2 of lamp left"),
    ("http_request", "info", "GET /items/{id} 200"),
    ("payment_failed", "error", "The card was declined"),
    ("order_paid", "info", "paid by card"),
    ("database_lost", "critical", "The database does not take writes"),
]
SOURCES = ["shop", "payments", "inventory", "worker-1"]


def made(number: int, *, minutes_ago: float = 0.0, **fields: Any) -> dict[str, Any]:
    kind, severity, message = KINDS[number % len(KINDS)]
    return {
        "event_type": kind,
        "severity": severity,
        "message": message,
        "source": SOURCES[number % len(SOURCES)],
        "details": {"number": number, "user": {"id": number % 50}, "provider": {"code": "card_declined"}},
        "timestamp": (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat(),
        **fields,
    }


def post(collector: CollectorProcess, events: list[dict[str, Any]]) -> None:
    answer = httpx.post(f"{collector.url}/api/events/batch", json=events, timeout=PATIENCE_S)
    assert answer.json()["accepted"] == len(events)


def rows(page: Page) -> Locator:
    return page.locator(".sheet [role=row]")


def search(page: Page, text: str) -> None:
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def at_top(page: Page) -> tuple[str, float]:
    """Return the id of the first row in sight, and where it stands."""
    found: list[Any] = page.evaluate(
        """() => {
            const top = document.querySelector(".heads").getBoundingClientRect().bottom;
            const rows = [...document.querySelectorAll(".sheet [role=row]")];
            const placed = rows.map((row) => [row.id, row.getBoundingClientRect()]);
            const seen = placed.filter(([, box]) => box.bottom > top + 1);
            seen.sort((one, other) => one[1].top - other[1].top);
            return [seen[0][0], seen[0][1].top];
        }"""
    )
    return found[0], found[1]
