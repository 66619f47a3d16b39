"""The widget in a customer's browser: embedded from another port, alive, honest, and accessible."""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Frame, FrameLocator, Page, expect
from sqlalchemy.orm import Session
from werkzeug.serving import BaseWSGIServer, make_server

from metering.catalog import mappings, metrics
from metering.database import unit_of_work
from metering.tenancy import widgets
from pricing.price import from_config
from tests.browser.conftest import Tabs
from tests.browser.widget_host import PEEK, Host, serving
from tests.support import entry, fold_all, put
from webapp import create_app
from webapp.config import Config
from webapp.extensions import db

TIERS = {
    "model": "graduated",
    "currency": "usd",
    "tiers": [
        {"upTo": 10_000, "unitPrice": "0"},
        {"upTo": 50_000, "unitPrice": "0.008"},
        {"upTo": None, "unitPrice": "0.005"},
    ],
}
# What the browser itself says of a server that is away, or of a refusal that the page shows.
AWAY, REFUSED = "ERR_CONNECTION_REFUSED", "StripeMeterWidget: 40"


class Product:
    """The web app in this process, which can be stopped and started again on its port."""

    def __init__(self, config: Config) -> None:
        self._app = create_app(replace(config, sandbox=False))
        self._port = 0
        self._server: BaseWSGIServer | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self._app, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def end(self) -> None:
        self.stop()
        with self._app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="module")
def product(config: Config) -> Iterator[Product]:
    made = Product(config)
    made.start()
    yield made
    made.end()


@pytest.fixture
def use(session: Session, tenant: str) -> Callable[..., None]:
    made = iter(range(100_000))

    def add(quantity: object, *, metric: str = "api_calls", at: datetime | None = None) -> None:
        at = at or datetime.now(UTC)
        name = f"{metric}-{next(made)}"
        put(session, tenant, [entry(name, quantity, at, customer="c1", metric=metric)])
        fold_all(session, tenant)

    return add


@pytest.fixture
def priced(session: Session, tenant: str) -> None:
    now = datetime.now(UTC)
    with unit_of_work(session):
        wanted = {
            "metric": "api_calls",
            "price": from_config(TIERS),
            "effective_from": now - timedelta(days=90),
        }
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=now)
        told = {"display_name": "API calls", "unit": "calls"}
        metrics.edit(session, tenant, "api_calls", told, now=now)


@pytest.fixture
def mint(session: Session, tenant: str) -> Callable[..., str]:
    """Make tokens, as the host's backend does."""

    def made(seconds: int = 900, **wanted: Any) -> str:
        given = widgets.Wanted("c1", **{"ttl": timedelta(seconds=seconds)} | wanted)
        with unit_of_work(session):
            now = datetime.now(UTC)
            _, token = widgets.mint(session, tenant, given, created_by="test", now=now)
        return token

    return made


@pytest.fixture
def host(product: Product, mint: Callable[..., str], tabs: Tabs) -> Iterator[Host]:
    with serving(Host(product.address, mint)) as served:
        yield served
        # What a page is still loading when its server goes would be a complaint.
        for tab in tabs.tabs:
            tab.page.close()


@pytest.fixture
def open_tab(tabs: Tabs) -> Callable[..., Page]:
    """A tab whose tests may look into the widget, as its page may not."""

    def opened(**settings: Any) -> Page:
        page = tabs.open(**settings)
        page.add_init_script(PEEK)
        return page

    return opened


@pytest.fixture
def page(open_tab: Callable[..., Page]) -> Page:
    return open_tab()


def widget_of(page: Page) -> FrameLocator:
    return page.frame_locator("#usage-widget iframe")


def opened(page: Page, host: Host, **options: Any) -> FrameLocator:
    host.options |= options
    page.goto(host.address)
    frame = widget_of(page)
    expect(frame.locator("#usage")).to_be_visible()
    return frame


def test_two_lines_show_the_usage_on_another_port(
    page: Page, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    frame = opened(page, host)
    expect(frame.locator("#usage")).to_contain_text("$65.92")
    expect(frame.locator("#usage")).to_contain_text("18,240")
    element = page.locator("#usage-widget iframe")
    expect(element).to_have_attribute("title", re.compile("."))
    # It is as high as what it shows, and nothing scrolls.
    page.wait_for_function(
        "document.querySelector('#usage-widget > div').shadowRoot.querySelector('iframe')"
        ".offsetHeight > 200"
    )
    inside = page.frames[1]
    assert inside.evaluate("document.documentElement.scrollHeight <= window.innerHeight"), (
        inside.evaluate("[document.documentElement.scrollHeight, window.innerHeight]")
    )
    assert "smw_" not in page.content()
    assert page.context.cookies() == []


def test_the_page_around_can_neither_read_nor_style_it(
    tabs: Tabs, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    page = tabs.open()
    page.goto(host.address)
    expect(page.locator("#usage-widget > div")).to_be_visible()
    # It stands in a closed shadow root, not even counted among the page's frames ...
    assert page.evaluate("document.querySelectorAll('iframe').length + window.length") == 0
    assert page.evaluate("document.querySelector('#usage-widget > div').shadowRoot") is None
    # ... and for who gets in there, it is of another origin.
    page.add_init_script(PEEK)
    opened(page, host)
    frame = "document.querySelector('#usage-widget > div').shadowRoot.querySelector('iframe')"
    assert page.evaluate(f"{frame}.contentDocument") is None


def test_the_number_moves_within_four_seconds(
    page: Page, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    frame = opened(page, host)
    expect(frame.locator("#usage")).to_contain_text("$65.92")
    use(1_000)
    expect(frame.locator("#usage")).to_contain_text("$73.92", timeout=4_000)
    expect(frame.locator("#usage")).to_contain_text("19,240")


def test_a_server_that_goes_away_is_said_and_comes_back(
    page: Page, tabs: Tabs, host: Host, product: Product, use: Any, priced: None
) -> None:
    tabs.forgives = (AWAY, "htmx:", "cannot be reached")
    use(18_240)
    frame = opened(page, host)
    number = frame.locator("#usage strong").first
    fresh = number.evaluate("e => getComputedStyle(e).color")
    product.stop()
    try:
        expect(frame.locator("#status")).to_contain_text(re.compile("econnecting"), timeout=8_000)
        expect(frame.locator("#status")).to_contain_text("Last updated")
        dimmed = number.evaluate("e => getComputedStyle(e).color")
        assert dimmed != fresh
        use(1_000)
    finally:
        product.start()
    expect(frame.locator("#usage")).to_contain_text("$73.92", timeout=20_000)
    expect(frame.locator("#status")).not_to_contain_text("econnecting")
    assert number.evaluate("e => getComputedStyle(e).color") == fresh


def test_a_server_that_is_away_from_the_start_shows_no_number(
    page: Page, tabs: Tabs, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    tabs.forgives = (AWAY, "htmx:", "cannot be reached")
    page.route("**/v1/widget/frames", lambda route: route.abort("connectionrefused"))
    page.goto(host.address)
    expect(page.locator("#usage-widget")).to_contain_text("The server does not answer")
    expect(page.locator("#usage-widget")).not_to_contain_text("$")
    page.unroute("**/v1/widget/frames")
    expect(widget_of(page).locator("#usage")).to_contain_text("$65.92", timeout=20_000)


def test_a_token_revoked_while_open_ends_the_widget(
    page: Page, tabs: Tabs, host: Host, session: Session, tenant: str, use: Any, priced: None
) -> None:
    use(18_240)
    tabs.forgives = (REFUSED,)
    token = host.mint()
    frame = opened(page, host, asks=False, token=token)
    expect(frame.locator("#usage")).to_contain_text("$65.92")
    with unit_of_work(session):
        widgets.revoke_all(session, tenant, "c1", now=datetime.now(UTC))
    expect(page.locator("#usage-widget")).to_contain_text(re.compile("ended"), timeout=8_000)
    assert "$65.92" not in page.locator("#usage-widget").inner_text()
    for each in page.frames:
        assert "$65.92" not in each.locator("body").inner_text()


def test_another_token_goes_on_where_one_has_ended(
    page: Page, host: Host, session: Session, tenant: str, use: Any, priced: None
) -> None:
    use(18_240)
    frame = opened(page, host)
    with unit_of_work(session):
        widgets.revoke_all(session, tenant, "c1", now=datetime.now(UTC))
    page.wait_for_function("() => true")
    use(1_000)
    expect(frame.locator("#usage")).to_contain_text("$73.92", timeout=10_000)
    assert host.minted == 2


@pytest.mark.parametrize("kind", ["forged", "foreign origin", "expired"])
def test_a_token_that_opens_nothing_is_told_in_words(
    page: Page, tabs: Tabs, host: Host, mint: Any, use: Any, priced: None, kind: str
) -> None:
    use(18_240)
    tabs.forgives = (REFUSED,)  # for the page's developer
    token = {
        "forged": "smw_" + "A" * 43,
        "foreign origin": mint(origins=["https://elsewhere.example"]),
        "expired": mint(seconds=-1),
    }[kind]
    host.options = {"token": token}
    page.goto(host.address)
    expect(page.locator("#usage-widget")).to_contain_text(re.compile("[a-z]{4}"))
    expect(page.locator("#usage-widget iframe")).to_have_count(0)
    expect(page.locator("#usage-widget")).not_to_contain_text("$")


def test_a_customer_without_usage_sees_no_zero_bill(page: Page, host: Host, priced: None) -> None:
    frame = opened(page, host)
    expect(frame.locator("#usage")).not_to_contain_text("$0.00")
    expect(frame.locator("#usage")).to_contain_text(re.compile("[a-z]{4}"))


def test_recent_activity_opens_stays_open_and_follows(
    page: Page, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    frame = opened(page, host)
    frame.get_by_text("Recent activity").click()
    expect(frame.locator("#events")).to_contain_text("18,240")
    use(1_234)
    expect(frame.locator("#events")).to_contain_text("1,234", timeout=6_000)
    expect(frame.locator("#activity")).to_have_attribute("open", "")


def test_the_statement_downloads_under_the_session(
    page: Page, host: Host, use: Any, priced: None
) -> None:
    use(18_240)
    frame = opened(page, host)
    with page.expect_download() as download:
        frame.get_by_role("button", name=re.compile("Statement")).click()
    assert download.value.suggested_filename.startswith("usage-")
    text = download.value.path().read_text()
    assert "65.92" in text


def test_it_works_by_keyboard_alone(page: Page, host: Host, use: Any, priced: None) -> None:
    use(18_240)
    frame = opened(page, host)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        inside = page.frames[1]
        name = inside.evaluate("document.activeElement && document.activeElement.id")
        reached.append(name)
        if name == "activity-summary":
            page.keyboard.press("Enter")
            break
    assert "activity-summary" in reached
    expect(frame.locator("#events")).to_contain_text("18,240")


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"theme": "light"},
    "dark": {"theme": "dark"},
    "compact": {"compact": True},
    "brand": {"theme": "light", "accent": "#ffd400", "radius": 0},
    "arabic": {"locale": "ar", "theme": "light"},
    "german dark": {"locale": "de-DE", "theme": "dark"},
}


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_axe_finds_nothing_and_nothing_overflows(
    open_tab: Any, host: Host, use: Any, priced: None, session: Session, tenant: str, look: str
) -> None:  # fmt: skip
    now = datetime.now(UTC)
    for days in range(4):
        use(9_000, at=max(now - timedelta(days=days), now.replace(day=1, hour=0)))
    use(12, metric="seats")
    with unit_of_work(session):
        metrics.edit(session, tenant, "seats", {"aggregation": "max", "unit": "seats"}, now=now)
    page = open_tab(bypass_csp=True, viewport={"width": 320, "height": 1400})
    frame = opened(page, host, **LOOKS[look])
    if look != "compact":
        frame.get_by_text("Recent activity").click()
        expect(frame.locator("#events")).to_contain_text("9")
    for table in frame.locator("details:not([open]) > summary").all():
        if table.is_visible():
            table.click()
    for width in (320, 720):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_timeout(200)
        assert _violations(page.frames[1]) == [], width
        for each in page.frames:
            wider = each.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, (each.url, width)
    if look == "arabic":
        assert page.frames[1].evaluate("getComputedStyle(document.body).direction") == "rtl"


def _violations(frame: Frame) -> list[str]:
    """What axe-core finds wrong with the frame by itself: it cannot look across origins."""
    found = Axe().run(frame, options={"iframes": False}).response["violations"]  # type: ignore[arg-type]
    return [
        f"{each['id']}: {each['help']} ({[node['target'] for node in each['nodes']][:3]})"
        for each in found
    ]


def test_what_is_transferred_is_less_than_sixty_kilobytes(
    page: Page, host: Host, use: Any, priced: None, product: Product
) -> None:
    use(18_240)
    sizes: dict[str, int] = {}

    def note(request: Any) -> None:
        if request.url.startswith(product.address):
            sent = request.sizes()
            sizes[request.url] = sent["responseBodySize"] + sent["responseHeadersSize"]

    page.on("requestfinished", note)
    opened(page, host)
    page.wait_for_timeout(500)
    assert len(sizes) >= 5, sizes
    assert sum(sizes.values()) < 60_000, sizes
