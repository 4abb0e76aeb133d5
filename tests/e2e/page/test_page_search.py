"""What a search, a click and an address become, and what the page says when there is nothing to show."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.support.browser import Tab
from tests.support.page import rows, search
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("severity:error", [("severity", "error")]),
        ("type:a type:b", [("event_type", "a"), ("event_type", "b")]),
        ('source:"my shop" severity_min:warning', [("source", "my shop"), ("severity_min", "warning")]),
        ("severity:error severity_min:info", [("severity", "error"), ("severity_min", "info")]),
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
    with httpx.Client(base_url=view.url, timeout=PATIENCE_S) as client:
        assert client.get("/api/events", params=httpx.QueryParams(tuple(parameters))).status_code == 200


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("severity:bad", "severity:bad is not a severity. The severities are info, warning, error, critical"),
        ("colour:red", 'Unknown field colour.*quote it: "colour:red"'),
        ("severity:error severity:info", "severity appears more than once"),
        ("-source:shop", "only words can be excluded"),
        ('"a phrase', "Missing closing quote"),
        ("source:", "source: needs a value"),
        ("word " * 60, "exceed 256 characters"),
    ],
)
def test_what_is_wrong_with_a_search_is_said_and_nothing_is_asked(view: Tab, text: str, problem: str) -> None:
    page = view.open()
    expect(rows(page).first).to_be_visible()
    search(page, text)

    expect(page.locator(".problems")).to_contain_text(re.compile(problem))
    assert [each for each in asked(view, "/api/events") if each] == []

    view.requests.clear()
    page = view.open(f"#events?{urlencode({'q': text})}")
    expect(page.locator(".middle .empty")).to_have_text("Correct the search to see events.")
    assert [url for url in view.requests if "/api/events" in url] == []


def last(view: Tab, path: str) -> list[tuple[str, str]]:
    view.page.wait_for_timeout(20)  # the requests are told while Playwright waits
    found = asked(view, path)
    return found[-1] if found else []


def asked(view: Tab, path: str) -> list[list[tuple[str, str]]]:
    """Return the parameters of each request to a path, without those of the time range."""
    found = [urlsplit(url) for url in view.requests]
    parameters = [parse_qsl(parts.query, keep_blank_values=True) for parts in found if parts.path == path]
    return [[pair for pair in each if pair[0] not in {"from", "to"}] for each in parameters]


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
    expect(page.locator(".middle .empty")).to_contain_text("No matching events in the last 24 hours.")

    search(page, "details." + "a." * 40 + "a:1")
    expect(page.locator(".middle > .failed")).to_contain_text("the maximum is 32")
    view.complaints.clear()  # Chromium notes the 422
