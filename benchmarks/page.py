"""The dashboard's live tail in a real browser: the regularity of its frames while events arrive at several rates.

    pip install -e '.[embedded]' --group bench && python benchmarks/page.py

Needs a Chromium (BRAIN_TEST_BROWSER, or one on PATH). The browser has no window and no GPU, and shares the cores with
the collector, its engines and the sender. When the measurement starts, the page has its maximum of 10,000 rows.
"""

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from ingest import collector, running_engines
from playwright.sync_api import Page, sync_playwright
from report import Column, Figures, about, print_about, table

PACKAGES = ("brain-events", "playwright")
RATES = [0, 50, 200, 500, 1_000, 5_000]
BATCHES_PER_S = 10
COLUMNS = [
    Column("frames/s", "fps"),
    Column("p50 ms", "p50_ms"),
    Column("p95 ms", "p95_ms"),
    Column("p99 ms", "p99_ms"),
    Column("over 50 ms", "late", "{:.0f}"),
    Column("of", "frames", "{:.0f}"),
]
FRAMES = """(seconds) => new Promise((resolve) => {
    const durations = [];
    let last = performance.now();
    const end = last + seconds * 1000;
    const measure = (now) => {
        durations.push(now - last);
        last = now;
        now < end ? requestAnimationFrame(measure) : resolve(durations);
    };
    requestAnimationFrame(measure);
})"""


def batch(n: int) -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    severities = ["info", "info", "info", "warning", "error"]
    return [
        {
            "event_type": f"type-{number % 7}",
            "severity": severities[number % len(severities)],
            "message": f"what happened the {number}th time, in the usual words",
            "source": f"service-{number % 5}",
            "details": {"number": number, "user": {"id": number % 50}},
            "timestamp": now,
        }
        for number in range(n)
    ]


@contextmanager
def sending(url: str, rate: int) -> Iterator[None]:
    """Send `rate` events a second, in ten batches."""
    stop = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            due = time.monotonic()
            while not stop.wait(max(0.0, due - time.monotonic())):
                due += 1 / BATCHES_PER_S
                client.post("/api/events/batch", json=batch(rate // BATCHES_PER_S)).raise_for_status()

    sender = threading.Thread(target=send)
    if rate:
        sender.start()
    yield
    stop.set()
    if rate:
        sender.join()


def frames(page: Page, seconds: float) -> Figures:
    durations_ms = sorted(page.evaluate(FRAMES, seconds))
    n = len(durations_ms)
    return {
        "fps": 1_000 * n / sum(durations_ms),
        "p50_ms": durations_ms[n // 2],
        "p95_ms": durations_ms[int(n * 0.95)],
        "p99_ms": durations_ms[int(n * 0.99)],
        "late": sum(duration_ms > 50 for duration_ms in durations_ms),
        "frames": n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="measure each rate for a second: only to check that it runs"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    args = parser.parse_args()
    seconds = 1.0 if args.quick else 15.0
    browser_path = os.environ.get("BRAIN_TEST_BROWSER") or shutil.which("chromium")
    if browser_path is None:
        print("No Chromium found: set BRAIN_TEST_BROWSER, or add chromium to PATH.", file=sys.stderr)
        return
    results: dict[str, list[Figures]] = {}
    with (
        running_engines() as (engines, _),
        collector(engines.database_url.replace("/postgres?", "/migrated?"), engines.redis_url) as (_, url),
        sync_playwright() as playwright,
    ):
        httpx.post(f"{url}/api/events/batch", json=batch(1_000)).raise_for_status()
        browser = playwright.chromium.launch(executable_path=browser_path)
        environment = about(1, PACKAGES, browser=browser.version, seconds=seconds)
        print_about("Dashboard benchmark", environment)
        page = browser.new_page(viewport={"width": 1440, "height": 860})
        page.goto(url)
        page.wait_for_selector(".tail.live")
        for _ in range(10):
            httpx.post(f"{url}/api/events/batch", json=batch(1_000)).raise_for_status()
        page.locator(".end", has_text="10,000 events").wait_for()
        for rate in RATES:
            with sending(url, rate):
                page.wait_for_timeout(1_000)
                results[f"{rate:,} events/s"] = [frames(page, seconds)]
        browser.close()
    print(table("The live tail", COLUMNS, results, ours=""))
    if args.json:
        args.json.write_text(json.dumps({"about": environment, "results": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
