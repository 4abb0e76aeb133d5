"""A real browser before the page. It reaches the collector and nothing else; whatever it complains of is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.support.waiting import PATIENCE_S

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).parents[2] / "dashboard/node_modules/axe-core/axe.min.js"
SERIOUS = {"serious", "critical"}
SIZE: ViewportSize = {"width": 1440, "height": 860}
CSP_ON_CONSOLE = """
addEventListener("securitypolicyviolation", (it) => console.error("CSP", it.violatedDirective, it.blockedURI));
"""
LOST_CONNECTION = "net::ERR_"
"""What Chromium writes on the console when a request fails, which is no fault of the page while a collector is away."""

expect.set_options(timeout=PATIENCE_S * 1_000)


def chromium() -> str:
    """Return the browser: BRAIN_TEST_BROWSER, else the system's; without either, skip."""
    found = os.environ.get("BRAIN_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"there is no browser: neither BRAIN_TEST_BROWSER nor {', '.join(NAMES)} (apt install chromium)")
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run it; names are not resolved, so that only the loopback can be reached."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        )
        yield browser
        browser.close()


class Tab:
    """A page of the collector at `url`, with its complaints, and the requests that it made."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.foreign: list[str] = []
        context.on("request", self._note)
        context.add_init_script(CSP_ON_CONSOLE)
        self.page = self._watched(context.new_page())
        self._context = context

    def open(self, fragment: str = "") -> Page:
        """Go to a view; return the page."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{fragment}")
        return self.page

    def has_no_complaints(self, *, collector_was_away: bool = False) -> None:
        """Nothing foreign was asked for, and nothing is on the console."""
        complaints = [each for each in self.complaints if not (collector_was_away and LOST_CONNECTION in each)]
        assert (self.foreign, complaints) == ([], []), (self.foreign, complaints)  # pytest shows no values from here

    def axe(self) -> list[str]:
        """Return the serious findings of axe-core, which comes in from outside: the page's policy stays as it is."""
        assert AXE.is_file(), f"there is no {AXE}: run `npm ci` in dashboard/"
        session = self._context.new_cdp_session(self.page)
        session.send("Runtime.evaluate", {"expression": AXE.read_text()})
        said: dict[str, Any] = session.send(
            "Runtime.evaluate",
            {"expression": "axe.run().then((it) => it.violations)", "awaitPromise": True, "returnByValue": True},
        )
        session.detach()
        return [
            f"{finding['id']}: {node['target']} {node['failureSummary']}"
            for finding in said["result"]["value"]
            if finding["impact"] in SERIOUS
            for node in finding["nodes"]
        ]

    def _watched(self, page: Page) -> Page:
        page.set_default_timeout(PATIENCE_S * 1_000)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._asked)
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _asked(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _note(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.requests.append(request.url)
        if parts.scheme not in {"about", "data", "blob"} and not request.url.startswith(f"{self.url}/"):
            self.foreign.append(request.url)


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """Open a tab in a profile of its own."""
    context = browser.new_context(viewport=SIZE, **options)
    try:
        yield Tab(context, url)
    finally:
        context.close()
