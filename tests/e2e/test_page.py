"""The page in a real browser, on a real collector: search, the live tail, what it shows of hostile events, access.

BRAIN_TEST_SCREENSHOTS names a directory that the pictures go to; `docs` makes the one of the README.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.e2e.browser import Tab, running_browser, tab
from tests.e2e.prefix import below
from tests.e2e.process import PATIENCE_S, CollectorProcess, collector_process, wait_until
from tests.integration.engines import scratch_dir

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

expect.set_options(timeout=PATIENCE_S * 1_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file."""
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
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


def asked(view: Tab, path: str) -> list[list[tuple[str, str]]]:
    """Return the parameters of each request to a path, without those of the time range."""
    found = [urlsplit(url) for url in view.requests]
    parameters = [parse_qsl(parts.query, keep_blank_values=True) for parts in found if parts.path == path]
    return [[pair for pair in each if pair[0] not in {"from", "to"}] for each in parameters]


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


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("severity:error", [("severity", "error")]),
        ("type:a type:b", [("event_type", "a"), ("event_type", "b")]),
        ('source:"my shop" severity_min:warning', [("source", "my shop"), ("severity_min", "warning")]),
        ("details.user.id:42", [("details.user.id", "42")]),
        (r"details.k8s\.io/pod:web-1", [(r"details.k8s\.io/pod", "web-1")]),
        (r"details.a\ b\:c:x", [("details.a b:c", "x")]),
        (r'details.a:"say \"hi\" \\ bye"', [("details.a", r'say "hi" \ bye')]),
        ("details.a:", [("details.a", "")]),
    ],
)
def test_a_search_becomes_parameters(view: Tab, text: str, parameters: list[tuple[str, str]]) -> None:
    page = view.open()
    expect(rows(page).first).to_be_visible()
    search(page, text)

    for path in ("/api/events", "/api/events/stream", "/api/events/histogram"):
        wait_until(lambda path=path: [p for p in last(view, path) if p[0] != "by"] == parameters, f"{path} was asked")
    with httpx.Client(base_url=view.url) as client:
        assert client.get("/api/events", params=httpx.QueryParams(tuple(parameters))).status_code == 200


def last(view: Tab, path: str) -> list[tuple[str, str]]:
    view.page.wait_for_timeout(20)  # the requests are told while Playwright waits
    found = asked(view, path)
    return found[-1] if found else []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("severity:bad", "severity:bad is none of info, warning, error, critical"),
        ("colour:red", 'There is no field colour.*in quotes: "colour:red"'),
        ("severity:error severity:info", "severity stands twice"),
        ("severity:error severity_min:info", "cannot stand together"),
        ("-source:shop", "only words can be excluded"),
        ('"a phrase', "A quote is not closed"),
        ("source:", "source: needs a value"),
        ("word " * 60, "more than 256 characters"),
    ],
)
def test_what_is_wrong_with_a_search_is_said_and_nothing_is_asked(view: Tab, text: str, problem: str) -> None:
    page = view.open()
    expect(rows(page).first).to_be_visible()
    before = len(asked(view, "/api/events"))
    search(page, text)

    expect(page.locator(".problems")).to_contain_text(re.compile(problem))
    assert len(asked(view, "/api/events")) == before


def test_the_whole_path(browser: Browser, collector: CollectorProcess) -> None:
    """Search, a row, its details, a filter out of them, the tail, a collector that goes and comes back, a link."""
    post(collector, [made(number, minutes_ago=number) for number in range(400)])
    with tab(browser, collector.url, permissions=["clipboard-read", "clipboard-write"]) as live:
        page = live.open()
        expect(page.locator(".tail")).to_have_text("Live")
        search(page, "severity:error")
        expect(page.locator(".end")).to_have_text("50 events; that is all of this time range.")
        for key in "jjkj":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        drawer = page.get_by_role("complementary", name="Event")
        expect(drawer).to_contain_text("card_declined")
        expect(rows(page).nth(1)).to_have_attribute("aria-selected", "true")

        drawer.get_by_role("button", name="Copy JSON").click()
        expect(page.locator(".toast")).to_contain_text("on the clipboard")
        copied = msgspec.json.decode(page.evaluate("navigator.clipboard.readText()"))
        assert copied == collector.get(f"/api/events/{copied['id']}")

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
        expect(page.locator(".toast")).to_contain_text("on the clipboard")
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
    post(collector, [made(number, minutes_ago=1 + number) for number in range(300)])
    page = live.open()
    expect(page.locator(".tail")).to_have_text("Live")
    rows(page).first.hover()
    page.mouse.wheel(0, 1_000)
    pill = page.locator(".pill")
    wait_until(lambda: page.evaluate("document.querySelector('.scroller').scrollTop") > 900, "it has scrolled")
    expect(page.locator(".end")).to_have_text("200 events; scroll for more.")
    before = at_top(page)

    for _ in range(5):
        post(collector, [made(number) for number in range(40)])
    expect(pill).to_have_text("200 new")
    assert at_top(page) == before

    pill.click()
    expect(pill).to_be_hidden()
    expect(page.locator(".end")).to_contain_text("400 events")
    newest = collector.get("/api/events?limit=1")[0]["id"]
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

    wait_until(lambda: at_top(page)[0] == before[0], "the same row is up")


def at_end(page: Page) -> bool:
    left = """() => {
        const list = document.querySelector(".scroller");
        return list.scrollHeight - list.clientHeight - list.scrollTop;
    }"""
    return bool(page.evaluate(left) <= 4)


def test_a_pause_holds_what_comes(live: Tab, collector: CollectorProcess) -> None:
    post(collector, [made(number, minutes_ago=1) for number in range(20)])
    page = live.open()
    expect(page.locator(".tail")).to_have_text("Live")
    shown = page.locator(".end").inner_text()
    page.keyboard.press("p")
    expect(page.locator(".tail")).to_have_text("Paused")
    post(collector, [made(number) for number in range(7)])

    expect(page.locator(".pill")).to_have_text("7 new")
    assert page.locator(".end").inner_text() == shown
    page.keyboard.press("p")
    expect(page.locator(".pill")).to_be_hidden()
    expect(page.locator(".tail")).to_have_text("Live")
    expect(page.locator(".end")).not_to_have_text(shown)


def test_a_flood_is_shown_whole_and_few_rows_are_in_the_document(live: Tab, collector: CollectorProcess) -> None:
    page = live.open("#events?q=source:flood")
    expect(page.locator(".tail")).to_have_text("Live")
    for burst in range(40):
        post(collector, [made(burst * 100 + number, source="flood") for number in range(100)])

    expect(page.locator(".end")).to_contain_text("4,000 events")
    assert rows(page).count() < 100
    live.has_no_complaints()


def test_all_pages_of_a_list_come_by_scrolling(view: Tab) -> None:
    page = view.open("#events?q=source:shop")
    expect(rows(page).first).to_be_visible()
    page.locator(".scroller").hover()

    def is_at_the_end() -> bool:
        page.mouse.wheel(0, 5_000)
        return "that is all" in page.locator(".end").inner_text()

    wait_until(is_at_the_end, "the last page is there")
    expect(page.locator(".end")).to_have_text("250 events; that is all of this time range.")
    assert rows(page).count() < 100


def test_facets_filter_and_let_go(view: Tab) -> None:
    page = view.open()
    box = page.get_by_role("searchbox")
    types = page.get_by_role("region", name="Type")
    types.get_by_role("button", name="stock_low").click()
    expect(box).to_have_value("type:stock_low")
    types.get_by_role("button", name="payment_failed").click()
    expect(box).to_have_value("type:stock_low type:payment_failed")
    page.get_by_role("region", name="Severity").get_by_role("button", name="error").click()
    expect(page.locator(".note")).to_have_text("125 events")
    types.get_by_role("button", name="stock_low").click()
    expect(box).to_have_value("type:payment_failed severity:error")
    page.go_back()
    expect(box).to_have_value("type:stock_low type:payment_failed severity:error")


def test_dragging_over_the_histogram_takes_a_range(view: Tab) -> None:
    page = view.open()
    chart = page.get_by_role("img", name="events from").locator(".u-over")
    place = chart.bounding_box()
    assert place is not None
    y = place["y"] + 20
    page.mouse.move(place["x"] + 300, y)
    page.mouse.down()
    page.mouse.move(place["x"] + 500, y, steps=5)
    page.mouse.up()

    expect(page.get_by_role("textbox", name="From (UTC)")).to_be_visible()
    assert "from=" in page.url
    assert "to=" in page.url
    expect(page.locator(".tail")).to_have_text("Fixed range")


def test_an_event_is_shown_in_its_context(view: Tab) -> None:
    page = view.open("#events?q=severity:critical")
    rows(page).nth(3).click()
    id = rows(page).nth(3).get_attribute("data-id")
    page.get_by_role("button", name="Show in context").click()

    expect(page.get_by_role("searchbox")).to_have_value("")
    expect(page.locator(f"#event-{id}")).to_be_in_viewport()
    expect(page.locator(f"#event-{id}")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".tail")).to_have_text("Fixed range")


def test_the_address_is_the_view(view: Tab) -> None:
    page = view.open()
    expect(rows(page).first).to_be_visible()
    page.locator("summary", has_text="Columns").click()
    page.get_by_role("textbox", name="Path into the details").fill("user.id")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("checkbox", name="Source").uncheck()
    page.get_by_role("button", name="Newest first").click()
    page.get_by_role("button", name="UTC").click()
    page.get_by_label("Time range").select_option("6h")
    search(page, "type:payment_failed")
    rows(page).last.click()
    expect(page.locator(".drawer")).to_be_visible()
    again = view.open(page.url.removeprefix(f"{view.url}/"))

    expect(again.get_by_role("columnheader")).to_have_text(["Time", "Severity", "Type", "user.id", "Message"])
    expect(again.get_by_role("button", name="Oldest first")).to_be_visible()
    expect(again.get_by_label("Time range")).to_have_value("6h")
    expect(again.get_by_role("searchbox")).to_have_value("type:payment_failed")
    expect(again.locator(".drawer")).to_be_visible()
    expect(again.locator(".top [aria-pressed=true]")).to_be_visible()


def test_loading_empty_and_broken_do_not_look_alike(view: Tab) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    view.page.route(re.compile(r"/api/events\?"), hold)
    page = view.open("#events?q=source:nobody")
    expect(page.locator(".middle .loading")).to_have_text("Loading events…")
    for route in held:
        route.continue_()
    page.unroute_all()
    expect(page.locator(".middle .empty")).to_contain_text("No events match in the last 24 hours.")

    search(page, "details." + "a." * 40 + "a:1")
    expect(page.locator(".middle > .failed")).to_contain_text("keys deep")
    view.complaints.clear()  # Chromium notes the 422


def test_hostile_events_are_text(live: Tab, collector: CollectorProcess) -> None:
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    hostile = made(
        5,
        event_type=attack[:50],
        source="javascript:alert(3)",
        message=attack + '"><svg/onload=alert(4)>\u202e',
        details={
            attack: {attack: attack},
            "__proto__": {"polluted": 1},
            "link": "javascript:alert(5)",
            "n": 12345678901234567890123,
        },
    )
    post(collector, [hostile])
    page = live.open("#events?column=time&column=message&column=details.link&column=source&column=type")
    row = rows(page).filter(has_text="<img src=x")
    expect(row).to_have_count(1)
    row.click()
    drawer = page.locator(".drawer")
    expect(drawer).to_contain_text("12345678901234567890123")
    expect(drawer).to_contain_text("javascript:alert(5)")
    drawer.get_by_role("button", name=f"Filter by details.{attack[:4]}").first.click(force=True)
    expect(page.get_by_role("searchbox")).to_have_value(re.compile("details."))
    expect(row).to_have_count(1)
    for name in ("Statistics", "Health", "Events"):
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        expect(page.locator("main")).to_be_visible()

    assert page.locator("main img, main script, [href^=javascript]").count() == 0
    assert page.evaluate("({}).polluted === undefined")
    live.has_no_complaints()


def test_a_key_is_asked_for_and_kept_from_scripts(browser: Browser) -> None:
    with (
        scratch_dir() as path,
        collector_process(path / "data", BRAIN_COLLECTOR_API_KEY="s3cret-key-of-a-test") as collector,
        tab(browser, collector.url) as locked,
    ):
        page = locked.open("#statistics?q=severity:error")
        expect(page.get_by_label("API key")).to_be_visible()
        assert locked.axe() == []
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("API key").fill("s3cret-key-of-a-test")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("region", name="Types")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert locked.foreign == []


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


def test_it_works_below_any_path(browser: Browser, seeded: CollectorProcess) -> None:
    with below("/ops/brain", seeded.url) as url, tab(browser, url) as view:
        page = view.open()
        expect(rows(page).first).to_be_visible()
        expect(page.locator(".tail")).to_have_text("Live")
        page.locator(".scroller").hover()
        page.mouse.wheel(0, 3_000)
        expect(page.locator(".end")).not_to_have_text(re.compile("^100 events"))
        rows(page).nth(12).click()
        expect(page.locator(".drawer .fields")).to_be_visible()
        view.has_no_complaints()


def pictures(otherwise: Path) -> Path:
    found = Path(os.environ.get("BRAIN_TEST_SCREENSHOTS", otherwise))
    found.mkdir(parents=True, exist_ok=True)
    return found
