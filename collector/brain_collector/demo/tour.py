"""The demo's visitors: they walk through the shop, then what arrived in the collector is shown and checked."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import urllib3

from brain_collector.errors import CollectorError

SHOP: Final = (sys.executable, "-m", "brain_collector.demo.shop")
SOURCE: Final = "demo-shop"


class DemoError(CollectorError):
    """The demo did not come to its end."""


def tour(url: str, api_key: str | None, visits: int, say: Callable[[str], None]) -> None:
    """Run the shop against the collector at `url`, visit it, and say what arrived.

    Raises:
        DemoError: the shop did not run, or not every event of it arrived exactly once.
    """
    say(f"The shop opens; {visits} visitors come by.")
    emitted = _run_shop(url, api_key, visits)
    with urllib3.PoolManager() as pool:
        get = _getter(pool, url, api_key)
        stats = get("/api/events/stats")
        stored = _all_of_shop(get)
        _show(stats, stored, say)
    say(f"The shop logged {emitted['logged']} events: {emitted['delivered']} delivered, {len(stored)} in Postgres.")
    if not emitted["logged"] == emitted["delivered"] == len(stored) == len({event["id"] for event in stored}):
        raise DemoError(f"not every event arrived exactly once: {emitted}, {len(stored)} stored")


def _run_shop(url: str, api_key: str | None, visits: int) -> dict[str, Any]:
    environ = {**os.environ, "BRAIN_EVENTS_URL": url, "BRAIN_EVENTS_API_KEY": api_key or ""}
    process = subprocess.Popen(  # noqa: S603 - a module of ours
        SHOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    )
    with process:
        assert process.stdout is not None
        shop_url = process.stdout.readline().strip()
        if not shop_url:
            raise DemoError(f"the shop did not start; try it by hand: {' '.join(SHOP)}")
        _visit(shop_url, visits)
        rest, _ = process.communicate()  # the end of its standard input closes the shop
    found: dict[str, Any] = msgspec.json.decode(rest)
    return found


def _visit(shop_url: str, visits: int) -> None:
    paths = [
        ("GET", "/items/1"),
        ("POST", "/items/2/buy"),
        ("GET", "/items/3"),
        ("GET", "/items/9"),
        ("GET", "/nowhere"),
    ]
    with urllib3.PoolManager(retries=False) as pool:
        for visit in range(visits):
            method, path = paths[visit % len(paths)]
            pool.request(method, shop_url + path)
        pool.request("GET", shop_url + "/crash")


def _getter(pool: urllib3.PoolManager, url: str, api_key: str | None) -> Callable[[str], Any]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def get(path: str) -> Any:
        answer = pool.request("GET", url + path, headers=headers)
        if answer.status != 200:
            raise DemoError(f"GET {path} answered {answer.status}: {answer.data.decode(errors='replace')[:200]}")
        found = msgspec.json.decode(answer.data)
        return (found, answer.headers.get("Link", "")) if path.startswith("/api/events?") else found

    return get


def _all_of_shop(get: Callable[[str], Any]) -> list[dict[str, Any]]:
    """Follow the Link header to the end."""
    found: list[dict[str, Any]] = []
    path = f"/api/events?source={SOURCE}&limit=200"
    while path:
        page, link = get(path)
        found += page
        path = link.partition("<")[2].partition(">")[0]
    return found


def _show(stats: dict[str, Any], stored: list[dict[str, Any]], say: Callable[[str], None]) -> None:
    say("\nWhat arrived, by type:")
    for event_type, n in sorted(stats["events_by_type"].items(), key=lambda item: -item[1]):
        say(f"  {n:6}  {event_type}")
    say("\nThe latest of the shop:")
    for event in stored[:6]:
        message = event["message"].partition("\n")[0][:80]
        say(f"  {event['timestamp'][11:19]}  {event['severity']:<8} {event['event_type']:<16} {message}")
    by_severity = ", ".join(f"{n} {severity}" for severity, n in stats["events_by_severity"].items())
    say(f"\nStatistics: {stats['total_events']} events ({by_severity}), {stats['recent_events']} in the last 24 hours.")
