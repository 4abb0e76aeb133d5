"""What the page says of the collector, and of what applications lost."""

from playwright.sync_api import expect

from tests.support.browser import Tab
from tests.support.page import made, post
from tests.support.process import CollectorProcess


def test_it_tells_how_the_collector_is_and_when_it_is_away(live: Tab, collector: CollectorProcess) -> None:
    page = live.open("#health")
    verdict = page.locator(".verdict h2")
    expect(verdict).to_have_text("Ready")
    for title in ("Database", "Cache", "Engines", "Canary", "Ingest", "Process"):
        expect(page.get_by_role("region", name=title, exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Database", exact=True)).to_contain_text("up")

    collector.kill()
    expect(verdict).to_have_text("Unreachable")
    expect(page.get_by_role("region", name="Database", exact=True)).to_be_visible()  # as it was seen last
    collector.start()
    expect(verdict).to_have_text("Ready")
    live.has_no_complaints(collector_was_away=True)


def test_it_tells_what_sdks_dropped(live: Tab, collector: CollectorProcess) -> None:
    dropped = made(3, event_type="sdk_report", message="120 events were dropped", source="shop")
    post(collector, [{**dropped, "details": {"dropped": {"memory": 100, "disk": 20}}}])
    page = live.open("#health")
    region = page.get_by_role("region", name="Dropped by SDKs")
    expect(region).to_contain_text("120 events were dropped: disk 20, memory 100")

    region.get_by_role("link", name="View all").click()
    expect(page.get_by_role("searchbox")).to_have_value("type:sdk_report")
    expect(page.locator(".sheet [role=row]")).to_have_count(1)
    live.has_no_complaints()
