"""A browser, and collectors to look at with it."""

from collections.abc import Iterator
from math import pi, sin

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Tab, running_browser, tab
from tests.support.engines import scratch_dir
from tests.support.page import made, post
from tests.support.process import CollectorProcess, collector_process


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this folder: none after them, since it has a loop running in the main thread."""
    with running_browser() as found:
        yield found


@pytest.fixture(scope="package")
def seeded(browser: Browser) -> Iterator[CollectorProcess]:
    """A collector that has the events of a day; nobody sends it more."""
    with scratch_dir() as path, collector_process(path / "data") as found:
        day = (number / 1_000 for number in range(1_000))
        post(found, [made(number, minutes_ago=1_400 * (x + sin(4 * pi * x) / 20)) for number, x in enumerate(day)])
        yield found


@pytest.fixture
def view(browser: Browser, seeded: CollectorProcess) -> Iterator[Tab]:
    """A tab on the collector that has events; in the end it must have no complaints."""
    with tab(browser, seeded.url) as found:
        yield found
        found.has_no_complaints()


@pytest.fixture
def live(browser: Browser, collector: CollectorProcess) -> Iterator[Tab]:
    """A tab on a collector of the test's own."""
    with tab(browser, collector.url) as found:
        yield found
