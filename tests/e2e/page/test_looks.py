"""How the page looks to people with and without eyes: axe-core, and pictures.

BRAIN_TEST_SCREENSHOTS names a directory that the pictures go to; `docs` makes the one of the README.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import tab
from tests.support.page import rows
from tests.support.process import CollectorProcess

PAGES = {
    "events": ("#events", ".drawer .tree"),
    "statistics": ("#statistics?by=event_type", ".tables table"),
    "health": ("#health", ".card"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_have_no_serious_findings_of_axe(
    browser: Browser, seeded: CollectorProcess, tmp_path: Path, name: str, scheme: Any
) -> None:
    fragment, sign = PAGES[name]
    with tab(browser, seeded.url, color_scheme=scheme) as view:
        page = view.open(fragment)
        if name == "events":
            rows(page).nth(6).click()
        expect(page.locator(sign).first).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        assert view.axe() == []
        page.screenshot(path=pictures(tmp_path) / f"{name}-{scheme}.png")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert view.axe() == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        view.has_no_complaints()


def test_the_picture_in_the_readme(browser: Browser, seeded: CollectorProcess, tmp_path: Path) -> None:
    with tab(browser, seeded.url) as view:
        page = view.open("#events?column=time&column=severity&column=type&column=message")
        page.set_viewport_size({"width": 1200, "height": 660})
        rows(page).filter(has_text="payment_failed").first.click()
        expect(page.locator(".drawer .fields")).to_be_visible()
        page.mouse.move(0, 0)
        picture = pictures(tmp_path) / "dashboard.png"
        page.screenshot(path=picture)

    assert picture.stat().st_size < 200_000


def pictures(otherwise: Path) -> Path:
    found = Path(os.environ.get("BRAIN_TEST_SCREENSHOTS", otherwise))
    found.mkdir(parents=True, exist_ok=True)
    return found
