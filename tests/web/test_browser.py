"""The status page in a real Chromium: hostile texts, a phone, the dark, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, Page, sync_playwright

from exporter.config import Config, FailMsgClass, StorageConfig
from exporter.exposition.render import Exposition
from exporter.failures.recent_failures import RecentFailures
from exporter.ledger.snapshot import Activity, LastPoll, TargetView
from exporter.status import page
from exporter.status.model import Status
from exporter.web.app import create_app
from exporter.web.server import Server
from tests.conftest import Tool
from tests.exposition.views import PROCESS, api_error, full_api, full_status, full_view

pytestmark = pytest.mark.e2e

HOSTILE: Final = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</pre></style><svg onload=\"document.title='owned'\">",
    "{{ 7 * 7 }} javascript:alert(1) <a href='javascript:alert(1)'>x</a>",
    "<iframe src=https://elsewhere.invalid/></iframe><link rel=stylesheet href=//elsewhere.invalid/x.css>",
    "\u202e<b>\x00\x07" + "unbreakable" * 40,
    "half a pair \ud800",
)


def hostile_view() -> TargetView:
    """Everything that the API could send, where it ends up on the page."""
    recent = RecentFailures()
    for text in HOSTILE:
        recent.failed(1_700_000_000_000, "unclassified", text)
    recent.committed()
    pairs = tuple((text[:64], text[-64:]) for text in HOSTILE)
    activity = Activity(
        full_view().activity.minutes, recent.failures(1_700_000_000_000), recent.unclassified()
    )
    return replace(
        full_view(HOSTILE[0], pairs),
        activity=activity,
        project_id=HOSTILE[1],
        api_endpoint=HOSTILE[2],
        last_poll=LastPoll(up=True, clock_skew_ms=-1_500, problem=HOSTILE[3]),
    )


def hostile_status() -> Status:
    api = full_api(HOSTILE[0])
    for text in HOSTILE:
        api.target(HOSTILE[0]).error(api_error(text, text, text, status=500, request_id=text, message=text))
    rules = tuple(FailMsgClass("x", text) for text in HOSTILE if "\ud800" not in text)
    config = Config(storage=StorageConfig(url="sqlite:////books.db"), fail_msg_classes=rules)
    told = full_status(hostile_view(), api=api, config=config)
    return replace(told, reload=replace(told.reload, problems=HOSTILE), now=told.now + 100)


class Site:
    """The real server on a thread of its own."""

    def __init__(self) -> None:
        exposition = Exposition(full_api("production"), PROCESS, created_timestamps=False)
        exposition.publish((full_view(),))
        self.status = hostile_status()
        app = create_app(
            exposition=exposition, ready=lambda: True, status=lambda: self.status, telemetry_path="/metrics"
        )
        self._server = Server(app, ["127.0.0.1:0"])
        self.url = self._server.urls[0]
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_until_complete(self._server.serve(self._stop))
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def browser(tool: Tool) -> Iterator[Browser]:
    chromium = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One page, opened; what it asked for and what it complained of."""

    def __init__(self, browser: Browser, url: str, **context: object) -> None:
        self._context = browser.new_context(**context)  # type: ignore[arg-type]  # passed on as given
        self.page: Page = self._context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

    def close(self) -> None:
        self._context.close()


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Open]:
    visits: list[Visit] = []

    def open_page(path: str, **context: object) -> Visit:
        visits.append(Visit(browser, site.url + path, **context))
        return visits[-1]

    yield open_page
    for one in visits:
        one.close()


def test_hostile_texts_are_shown_and_nothing_else_happens(visit: Open, site: Site) -> None:
    """No script runs, no element appears, nothing is fetched, the console is silent."""
    here = visit("/")
    assert here.page.title().endswith("MetaStudio TTS exporter")
    assert here.requests == [f"{site.url}/"]
    assert here.complaints == []
    for selector in ("script", "img", "iframe", "main a[href^=javascript]", "svg[onload]", "body link"):
        assert here.page.locator(selector).count() == 0, selector
    text = here.page.inner_text("body")
    assert text.count(HOSTILE[0]) >= 4
    assert "{{ 7 * 7 }}" in text


def test_rules_survive_the_way_through_the_page(visit: Open, site: Site) -> None:
    """What is selected and copied is what the exporter wrote."""
    here = visit("/?refresh=off")
    shown = here.page.locator(".templates pre").all_inner_texts()
    assert [text.strip() for text in shown] == [
        seen.rule.strip() for seen in site.status.targets[0].unclassified
    ]


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
@pytest.mark.parametrize("path", ["/", "/?refresh=off"], ids=["live", "paused"])
def test_no_width_scrolls_sideways(visit: Open, width: int, path: str) -> None:
    """Not even with words that cannot be broken."""
    here = visit(path, viewport={"width": width, "height": 700})
    assert here.page.evaluate("document.documentElement.scrollWidth") == width


def test_the_dark_is_dark_and_the_light_is_light(visit: Open) -> None:
    """As the system prefers; and text stands out in both (WCAG: 4.5 to 1)."""
    for scheme, darker in (("light", "text"), ("dark", "page")):
        here = visit("/", color_scheme=scheme)
        ground, text = (
            luminance(here.page.evaluate(f"getComputedStyle(document.body).{name}"))
            for name in ("backgroundColor", "color")
        )
        assert (text < ground) is (darker == "text")
        soft = luminance(here.page.evaluate("getComputedStyle(document.querySelector('.where')).color"))
        card = luminance(
            here.page.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")
        )
        for one, other in ((ground, text), (card, soft)):
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2)."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_everything_works_without_javascript(visit: Open) -> None:
    """The style is applied, the links are there, and pausing is a link."""
    here = visit("/", java_script_enabled=False)
    box = here.page.locator("section").first.bounding_box()
    assert box is not None
    assert box["width"] < 1280
    here.page.click("text=pause")
    assert here.page.url.endswith("?refresh=off")
    assert here.page.locator("details[open]").count() >= 1
    here.page.click("nav >> text=JSON")
    assert json.loads(here.page.inner_text("body"))["ready"] is True


def test_the_page_comes_again_by_itself(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser loads it again and again; while it is paused, it does not ask to."""
    monkeypatch.setattr(page, "REFRESH_SECONDS", 1)
    site = Site()  # of its own: the others' may have kept a page from before
    here, paused = Visit(browser, f"{site.url}/"), Visit(browser, f"{site.url}/?refresh=off")
    try:
        here.page.wait_for_event("request", lambda _: len(here.requests) >= 3, timeout=20_000)
        assert set(here.requests) == {f"{site.url}/"}
        assert paused.requests == [f"{site.url}/?refresh=off"]
        assert paused.page.locator("meta[http-equiv=refresh]").count() == 0
    finally:
        here.close()
        paused.close()
        site.close()
