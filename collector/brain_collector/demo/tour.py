"""The tour of the demo: requests to the shop, then the events that arrived in the collector, printed and checked."""

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
    """The demo failed."""


def tour(url: str, api_key: str | None, visits: int, say: Callable[[str], None]) -> None:
    """Run the shop against the collector at `url`, send it requests, and print what arrived.

    Raises:
        DemoError: the shop failed, or an event did not arrive exactly once.
    """
    say(f"A shop, the demo's application, receives {visits} requests ...")
    counts = _run_shop(url, api_key, visits)
    with urllib3.PoolManager() as pool:
        get = _getter(pool, url, api_key)
        stats = get("/api/events/stats")
        stored = _shop_events(get)
        _print(stats, stored, say)
    say(f"The shop recorded {counts['logged']} events: {counts['delivered']} delivered, {len(stored)} in Postgres.")
    if not counts["logged"] == counts["delivered"] == len(stored) == len({event["id"] for event in stored}):
        raise DemoError(f"some events did not arrive exactly once: the SDK counted {counts}, {len(stored)} are stored")


def _run_shop(url: str, api_key: str | None, visits: int) -> dict[str, Any]:
    environ = {**os.environ, "BRAIN_EVENTS_URL": url, "BRAIN_EVENTS_API_KEY": api_key or ""}
    process = subprocess.Popen(  # noqa: S603 - a module of ours
        SHOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    )
    with process:
        assert process.stdout is not None
        shop_url = process.stdout.readline().strip()
        if not shop_url:
            raise DemoError(f"the shop did not start; to see why, run: {' '.join(SHOP)}")
        _send_requests(shop_url, visits)
        rest, _ = process.communicate()  # the end of its standard input closes the shop
    counts: dict[str, Any] = msgspec.json.decode(rest)
    return counts


def _send_requests(shop_url: str, visits: int) -> None:
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
        response = pool.request("GET", url + path, headers=headers)
        if response.status != 200:
            text = response.data.decode(errors="replace")[:200]
            raise DemoError(f"GET {path} returned {response.status}: {text}")
        body = msgspec.json.decode(response.data)
        return (body, response.headers.get("Link", "")) if path.startswith("/api/events?") else body

    return get


def _shop_events(get: Callable[[str], Any]) -> list[dict[str, Any]]:
    """Return all events of the shop; each page names the next one in its Link header."""
    events: list[dict[str, Any]] = []
    path = f"/api/events?source={SOURCE}&limit=200"
    while path:
        page, link = get(path)
        events += page
        path = link.partition("<")[2].partition(">")[0]
    return events


def _print(stats: dict[str, Any], stored: list[dict[str, Any]], say: Callable[[str], None]) -> None:
    say("\nEvents that arrived, by type:")
    for event_type, n in sorted(stats["events_by_type"].items(), key=lambda item: -item[1]):
        say(f"  {n:6}  {event_type}")
    if others := stats.get("events_of_other_types"):
        say(f"  {others:6}  (other types)")
    say("\nThe newest events of the shop:")
    for event in stored[:6]:
        message = event["message"].partition("\n")[0][:80]
        say(f"  {event['timestamp'][11:19]}  {event['severity']:<8} {event['event_type']:<16} {message}")
    by_severity = ", ".join(f"{n} {severity}" for severity, n in stats["events_by_severity"].items())
    say(f"\nStatistics: {stats['total_events']} events ({by_severity}), {stats['recent_events']} in the last 24 hours.")
