"""Hostile events, keys, and paths of proxies."""

import re

import httpx
from playwright.sync_api import Browser, expect

from tests.support.browser import Tab, tab
from tests.support.engines import scratch_dir
from tests.support.page import made, post, rows
from tests.support.prefix_proxy import below
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S

KEY = "s3cret-key-of-a-test"


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
            "trace": "line\n" * 4_000,
        },
    )
    post(collector, [hostile])
    page = live.open("#events?column=time&column=message&column=details.link&column=source&column=type")
    row = rows(page).filter(has_text="<img src=x")
    expect(row).to_have_count(1)
    row.click()
    drawer = page.locator(".drawer")
    expect(drawer).to_contain_text("12345678901234567890123")
    assert live.axe() == []
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


def test_names_of_what_javascript_objects_inherit_are_ordinary_names(live: Tab, collector: CollectorProcess) -> None:
    inherited = ("toString", "constructor", "__proto__", "hasOwnProperty", "valueOf")
    post(collector, [made(1, message="plain", details={"list": [1], "constructor": "own"})])
    names = [*(f"details.{name}" for name in inherited), *inherited, "details.list.length", "details.list.push"]
    columns = "&".join(f"column={name}" for name in ["message", *names])
    page = live.open(f"#events?{columns}")
    row = rows(page).filter(has_text="plain")

    expect(row).to_have_text("plainown")
    page.locator("summary", has_text="Columns").click()  # the menu lists the columns
    for name in inherited:
        page.get_by_role("searchbox").fill(f"{name}:x")
        page.get_by_role("searchbox").press("Enter")
        expect(page.locator("main")).to_contain_text(f"Unknown field {name}" if name[0] != "_" else "Unknown field")
    live.has_no_complaints()


def test_numbers_that_javascript_would_round_are_shown_exactly_and_ids_whole(
    live: Tab, collector: CollectorProcess
) -> None:
    large, columns = 2**64 + 1, "&".join(f"column={name}" for name in ("id", "message", "details.n", "details.within"))
    post(collector, [made(1, message="listed", details={"n": large, "within": [{"n": -large}]})])
    page = live.open(f"#events?{columns}")
    for message in ("listed", "streamed"):  # the second one comes by the stream
        row = rows(page).filter(has_text=message)
        expect(row).to_have_count(1)
        expect(row).to_contain_text(f'{large}[{{"n":-{large}}}]')
        if message == "listed":
            post(collector, [made(2, message="streamed", details={"n": large, "within": [{"n": -large}]})])
    fits = "cell => { cell.textContent = '9'.repeat(16); return cell.scrollWidth <= cell.clientWidth; }"
    assert rows(page).first.locator(".id").evaluate(fits), "an id of a database that was restarted is cut off"
    live.has_no_complaints()


def test_the_api_describes_itself_without_another_server(view: Tab) -> None:
    view.page.goto(f"{view.url}/docs")
    expect(view.page.locator(".opblock-summary-path").first).to_be_visible()
    assert view.page.locator(".opblock").count() > 15


def test_a_key_is_asked_for_and_kept_from_scripts(browser: Browser) -> None:
    with (
        scratch_dir() as path,
        collector_process(path / "data", BRAIN_COLLECTOR_API_KEY=KEY) as collector,
        tab(browser, collector.url) as locked,
    ):
        page = locked.open("#statistics?q=severity:error")
        expect(page.get_by_label("API key")).to_be_visible()
        assert locked.axe() == []
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("region", name="Types")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_visible()
        assert locked.foreign == []


def test_a_page_that_is_open_when_its_key_is_revoked_says_so(browser: Browser) -> None:
    with (
        scratch_dir() as path,
        collector_process(path / "data", BRAIN_COLLECTOR_API_KEY=KEY) as collector,
        tab(browser, collector.url) as open_one,
        httpx.Client(base_url=collector.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_S) as client,
    ):
        key = client.post("/api/keys", json={"name": "n", "scopes": ["read"]}).json()
        page = open_one.open()
        page.get_by_label("API key").fill(key["key"])
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".tail")).to_have_text("Live")
        assert client.delete(f"/api/keys/{key['id']}").status_code == 204
        expect(page.get_by_role("alert")).to_have_text("The API key is no longer valid. It has expired or was revoked.")
        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".tail")).to_have_text("Live")


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
        links = page.get_by_role("navigation", name="Documentation").get_by_role("link")
        assert links.evaluate_all("all => all.map((link) => link.href)") == [f"{url}/docs", f"{url}/manual/"]
        view.has_no_complaints()
