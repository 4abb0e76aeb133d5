"""The list and its live tail: nothing is lost, doubled or moved, through floods, pauses and a collector's end."""

import re

import msgspec
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Tab, tab
from tests.support.engines import scratch_dir
from tests.support.page import at_top, made, post, rows, search
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import wait_until

OF_THE_TEST = "#events?q=source:test"  # a collector has events of its own, as when its cache is slow

SHOW = """(state) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => state === "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_the_whole_path(browser: Browser, collector: CollectorProcess) -> None:
    """Search, a row, its details, a filter out of them, the tail, a collector that goes and comes back, a link."""
    post(collector, [made(number, minutes_ago=number) for number in range(400)])
    with tab(browser, collector.url, permissions=["clipboard-read", "clipboard-write"]) as live:
        page = live.open()
        expect(page.locator(".tail")).to_have_text("Live")
        search(page, "severity:error")
        expect(page.locator(".end")).to_have_text("50 events. No more in this time range.")
        for key in "jjkj":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        drawer = page.get_by_role("complementary", name="Event")
        expect(drawer).to_contain_text("card_declined")
        expect(rows(page).nth(1)).to_have_attribute("aria-selected", "true")

        drawer.get_by_role("button", name="Copy JSON").click()
        expect(page.locator(".toast")).to_have_text("Event copied.")
        copied = msgspec.json.decode(page.evaluate("navigator.clipboard.readText()"))
        assert copied == collector.get(f"/api/events/{copied['id']}")

        drawer.get_by_role("button", name="Copy curl").click()
        command = f"curl '{collector.url}/api/events/{copied['id']}'"
        wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == command, "the command is copied")

        number = copied["details"]["number"]
        drawer.get_by_role("button", name="Filter by details.number").click(force=True)
        expect(page.get_by_role("searchbox")).to_have_value(f"severity:error details.number:{number}")
        expect(rows(page)).to_have_count(1)

        post(collector, [made(5, details={"number": number}), made(5, details={"number": -1})])
        expect(rows(page)).to_have_count(2)

        collector.kill()
        expect(page.locator(".tail")).to_have_text("Reconnecting…")
        collector.start()
        post(collector, [made(5, details={"number": number})])
        expect(page.locator(".tail")).to_have_text("Live")
        expect(rows(page)).to_have_count(3)

        page.get_by_role("button", name="Copy link").click()
        expect(page.locator(".toast")).to_have_text("Link copied. Its time range is fixed.")
        link = page.evaluate("navigator.clipboard.readText()")
        post(collector, [made(5, details={"number": number})])
        expect(rows(page)).to_have_count(4)
        live.has_no_complaints(collector_was_away=True)

    assert "range=" not in link
    with tab(browser, collector.url) as other:
        page = other.open(link.removeprefix(f"{collector.url}/"))
        expect(rows(page)).to_have_count(3)
        expect(page.locator(".tail")).to_have_text("Fixed range")
        other.has_no_complaints()


def test_a_row_that_is_looked_at_stays_where_it_is(live: Tab, collector: CollectorProcess) -> None:
    post(collector, [made(number, minutes_ago=1 + number, source="test") for number in range(300)])
    page = live.open(OF_THE_TEST)
    expect(page.locator(".tail")).to_have_text("Live")
    rows(page).first.hover()
    page.mouse.wheel(0, 1_000)
    pill = page.locator(".pill")
    wait_until(lambda: page.evaluate("document.querySelector('.scroller').scrollTop") > 900, "it has scrolled")
    expect(page.locator(".end")).to_have_text("200 events loaded. Scroll to load more.")
    before = at_top(page)

    for _ in range(5):
        post(collector, [made(number, source="test") for number in range(40)])
    expect(pill).to_have_text("200 new events")
    assert at_top(page) == before

    pill.click()
    expect(pill).to_be_hidden()
    expect(page.locator(".end")).to_have_text(re.compile("^400 events"))
    newest = collector.get("/api/events?limit=1&source=test")[0]["id"]
    wait_until(lambda: at_top(page)[0] == f"event-{newest}", "the newest row is up")
    live.has_no_complaints()


def test_older_pages_above_move_no_row(view: Tab) -> None:
    page = view.open("#events?order=oldest")
    expect(rows(page).first).to_be_visible()
    scroller = page.locator(".scroller")
    wait_until(lambda: at_end(page), "the newest row is down")
    scroller.hover()
    page.mouse.wheel(0, -600)
    wait_until(lambda: not at_end(page), "it has scrolled")
    expect(page.locator(".end")).not_to_have_text(re.compile("^100 events"))
    before = at_top(page)
    for _ in range(3):
        page.mouse.wheel(0, -240)
        page.mouse.wheel(0, 240)

    wait_until(lambda: at_top(page) == before, "the same row is up, in the same place")


def at_end(page: Page) -> bool:
    left = """() => {
        const list = document.querySelector(".scroller");
        return list.scrollHeight - list.clientHeight - list.scrollTop;
    }"""
    return bool(page.evaluate(left) <= 4)


def test_a_pause_holds_what_comes(live: Tab, collector: CollectorProcess) -> None:
    post(collector, [made(number, minutes_ago=1, source="test") for number in range(20)])
    page = live.open(OF_THE_TEST)
    expect(page.locator(".tail")).to_have_text("Live")
    shown = page.locator(".end").inner_text()
    page.keyboard.press("p")
    expect(page.locator(".tail")).to_have_text("Paused")
    post(collector, [made(number, source="test") for number in range(7)])

    expect(page.locator(".pill")).to_have_text("7 new events")
    assert page.locator(".end").inner_text() == shown
    page.keyboard.press("p")
    expect(page.locator(".pill")).to_be_hidden()
    expect(page.locator(".tail")).to_have_text("Live")
    expect(page.locator(".end")).not_to_have_text(shown)


def test_a_flood_is_shown_whole_and_few_rows_are_in_the_document(live: Tab, collector: CollectorProcess) -> None:
    page = live.open(OF_THE_TEST)
    expect(page.locator(".tail")).to_have_text("Live")
    for burst in range(40):
        post(collector, [made(burst * 100 + number, source="test") for number in range(100)])

    expect(page.locator(".end")).to_have_text(re.compile("^4,000 events"))
    assert rows(page).count() < 100
    live.has_no_complaints()


def test_a_collector_that_is_killed_in_a_flood_costs_no_row(live: Tab, collector: CollectorProcess) -> None:
    page = live.open(OF_THE_TEST)
    expect(page.locator(".tail")).to_have_text("Live")
    for _ in range(2):
        post(collector, [made(number, source="test") for number in range(700)])
        collector.kill()
        collector.start()
        post(collector, [made(number, source="test") for number in range(700)])

    expect(page.locator(".end")).to_have_text(re.compile("^2,800 events"))
    live.has_no_complaints(collector_was_away=True)


def test_a_gap_in_the_stream_leaves_no_hole_in_the_list(browser: Browser) -> None:
    with (
        scratch_dir() as path,
        collector_process(path / "data", BRAIN_COLLECTOR_MAX_STREAM_LAG="200") as collector,
        tab(browser, collector.url) as live,
    ):
        post(collector, [made(number, minutes_ago=1, source="test") for number in range(10)])
        page = live.open(OF_THE_TEST)
        expect(page.locator(".end")).to_have_text(re.compile("^10 events"))
        collector.kill()
        collector.start()
        post(collector, [made(number, source="test") for number in range(1_200)])
        expect(page.locator(".end")).not_to_have_text(re.compile("^10 events"))
        scroll_to_the_end(page)

        expect(page.locator(".end")).to_have_text("1,210 events. No more in this time range.")
        live.has_no_complaints(collector_was_away=True)


def test_a_page_that_is_not_seen_lets_go_and_misses_nothing(live: Tab, collector: CollectorProcess) -> None:
    """A browser has six connections for a host: more tabs than that would block each other."""
    page = live.open(OF_THE_TEST)
    expect(page.locator(".tail")).to_have_text("Live")
    with page.expect_event("requestfailed", lambda request: "/stream" in request.url):
        page.evaluate(SHOW, "hidden")
    post(collector, [made(number, source="test") for number in range(300)])
    with page.expect_request(re.compile("/stream")) as again:
        page.evaluate(SHOW, "visible")

    assert "last-event-id" in again.value.headers
    expect(page.locator(".end")).to_have_text(re.compile("^300 events"))


def test_all_pages_of_a_list_come_by_scrolling(view: Tab) -> None:
    page = view.open("#events?q=source:shop")
    expect(rows(page).first).to_be_visible()
    scroll_to_the_end(page)

    expect(page.locator(".end")).to_have_text("250 events. No more in this time range.")
    assert rows(page).count() < 100


def scroll_to_the_end(page: Page) -> None:
    page.locator(".scroller").hover()

    def is_there() -> bool:
        page.mouse.wheel(0, 5_000)
        return "No more" in page.locator(".end").inner_text()

    wait_until(is_there, "the last page is there")
