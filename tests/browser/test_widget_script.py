"""The widget's two scripts against a server that fails as it is told to."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Frame, Page, expect

from tests.browser.conftest import Tabs, overflow
from tests.browser.widget_server import STATIC, Given, Host, Meter, both, until

# The page cannot look into the widget; the tests have to.
PEEK = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function () { return attach.call(this, { mode: "open" }); };
"""
START = "window.widget = StripeMeterWidget.initStripeMeterWidget('usage-widget', {options});"
RENEWING = (
    "{getToken: async () => {"
    " const answer = await fetch('/token');"
    " if (!answer.ok) { throw new Error('the backend said ' + answer.status); }"
    " return answer.text(); }}"
)


class Embedded:
    """A page with a widget, and the two servers behind it."""

    def __init__(self, tabs: Tabs, meter: Meter, host: Host) -> None:
        self._tabs, self.meter, self.host = tabs, meter, host
        self.page: Page

    def open(
        self, options: str = RENEWING, *, peek: bool = True, clock: bool = False, **settings: Any
    ) -> Page:
        """Open the page. clock: its time moves when it is told to, besides going on by itself."""
        self.host.script = self.host.script or START.replace("{options}", options)
        self.page = self._tabs.open(**settings)
        if peek:
            self.page.add_init_script(PEEK)
        if clock:
            self.page.clock.install()
        self.page.goto(self.host.address)
        return self.page

    def frame(self) -> Frame:
        """The frame, once it shows numbers."""
        assert self._comes(lambda: self._ready() is not None), self.panel().text_content()
        found = self._ready()
        assert found is not None
        return found

    def _ready(self) -> Frame | None:
        for each in self.page.frames[1:]:
            if "/widget/f/" in each.url and each.evaluate("document.documentElement.dataset.state"):
                return each
        return None

    def _comes(self, held: Any, seconds: float = 15) -> bool:
        # The browser's messages are handled only while Playwright waits.
        def step() -> bool:
            self.page.wait_for_timeout(20)
            return bool(held())

        return until(step, seconds)

    def comes(self, held: Any) -> None:
        """It comes to hold, while the page goes on."""
        assert self._comes(held)

    def pass_time(self, seconds: float) -> None:
        """Let the page's time run, a second at a time, so that answers come in between."""
        for _ in range(round(seconds)):
            self.page.clock.run_for(1000)
            self.page.wait_for_timeout(15)

    def panel(self) -> Any:
        return self.page.locator("#usage-widget div[role=status]")

    def complaints(self) -> list[str]:
        """What the console said; it is taken as expected."""
        said = [each for tab in self._tabs.tabs for each in tab.complaints]
        for tab in self._tabs.tabs:
            tab.complaints.clear()
        return said

    def own_complaints(self) -> list[str]:
        """Those that the script made."""
        return [each for each in self.complaints() if each.startswith("StripeMeterWidget")]


@pytest.fixture
def embedded(tabs: Tabs) -> Iterator[Embedded]:
    with both() as (meter, host):
        yield Embedded(tabs, meter, host)
        for tab in tabs.tabs:
            tab.page.close()


def polls(embedded: Embedded) -> int:
    return len(embedded.meter.of("/widget/usage"))


def exchanges(embedded: Embedded) -> int:
    return sum(each.method == "POST" for each in embedded.meter.of("/v1/widget/frames"))


def set_hidden(embedded: Embedded, hidden: bool) -> None:
    for frame in embedded.page.frames:
        frame.evaluate(
            "hidden => { Object.defineProperty(document, 'hidden', {value: hidden,"
            " configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }",
            hidden,
        )


# ---- the page's side


def test_a_token_becomes_a_frame_of_its_own_size(embedded: Embedded) -> None:
    page = embedded.open()
    frame = embedded.frame()
    expect(frame.locator("#number")).to_have_text("Ada: 100")
    expect(page.locator("iframe")).to_be_visible()
    expect(embedded.panel()).to_be_hidden()
    inside = frame.evaluate("Math.ceil(document.documentElement.getBoundingClientRect().height)")
    embedded.comes(lambda: _height(page) == inside)
    frame.locator("summary").first.click()
    embedded.comes(lambda: _height(page) > inside + 10)
    frame.locator("summary").first.click()
    embedded.comes(lambda: _height(page) == inside)
    attributes = page.locator("iframe").evaluate(
        "it => [it.title, it.getAttribute('sandbox'), it.referrerPolicy]"
    )
    assert attributes == [
        "Usage and cost",
        "allow-scripts allow-same-origin allow-downloads",
        "no-referrer",
    ]


def _height(page: Page) -> int:
    box = page.locator("iframe").bounding_box()
    assert box is not None
    return round(box["height"])


def test_the_token_is_in_no_address_no_storage_and_no_element(embedded: Embedded) -> None:
    page = embedded.open()
    embedded.frame()
    asked = embedded.meter.asked + embedded.host.asked
    assert not [each.path for each in asked if "smw_" in each.path or "secret" in each.path]
    assert not [each for each in asked if "smw_" in each.headers.get("referer", "")]
    for frame in page.frames:
        kept = frame.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie,"
            " performance.getEntries().map(entry => entry.name)])"
        )
        assert "smw_" not in kept
        assert "secret" not in kept
        assert "smw_" not in frame.content()
    assert "smw_" not in page.evaluate(
        "document.querySelector('#usage-widget > div').shadowRoot.innerHTML"
    )
    assert all("cookie" not in each.headers for each in embedded.meter.asked)


def test_the_page_can_neither_read_nor_style_it(embedded: Embedded) -> None:
    embedded.host.style = (
        "div, iframe { display: none !important; color: red; height: 1px !important; }"
        " #usage-widget { display: block !important; height: auto !important; }"
    )
    page = embedded.open(peek=False)
    frame = embedded.frame()
    assert page.evaluate("document.querySelector('#usage-widget > div').shadowRoot") is None
    assert page.evaluate("window.frames.length === 0 || !('document' in window.frames[0] && 0)")
    embedded.comes(lambda: (frame.frame_element().bounding_box() or {"height": 0})["height"] > 100)


def test_the_script_names_two_things_and_no_more(embedded: Embedded) -> None:
    embedded.host.head = (
        '<script defer src="/page.js"></script><script defer src="{meter}/widget.js"></script>'
    )
    embedded.host.script = "window.before = Object.getOwnPropertyNames(window)"
    page = embedded.open()
    page.wait_for_function("window.StripeMeterWidget")
    new = page.evaluate(
        "Object.getOwnPropertyNames(window).filter(name => !before.includes(name)).sort()"
    )
    assert set(new) == {"StripeMeterWidget", "StripemeterWidget", "before"}
    assert len((STATIC / "widget.js").read_bytes()) < 10 * 1024


def test_how_it_looks_goes_along_and_who_it_is_does_not(embedded: Embedded) -> None:
    embedded.open(
        "{token: 'smw_1', customerId: 'Mallory', theme: 'dark', compact: true, locale: 'de-DE',"
        " dir: 'rtl', brandColor: '#06C', radius: '12px', title: 'Verbrauch'}"
    )
    frame = embedded.frame()
    query = frame.url.partition("?")[2]
    assert sorted(query.split("&")) == [
        "accent=0066CC",
        "compact=1",
        "dir=rtl",
        "locale=de-DE",
        "radius=12px",
        "theme=dark",
    ]
    assert embedded.page.locator("iframe").get_attribute("title") == "Verbrauch"
    expect(frame.locator("#number")).to_have_text("Ada: 100")


def test_the_sandbox_needs_no_token(embedded: Embedded) -> None:
    embedded.host.script = (
        "StripemeterWidget.initStripemeterWidget(document.getElementById('usage-widget'),"
        " {tenantId: 'demo', customerId: 'cus_9'})"
    )
    embedded.open()
    expect(embedded.frame().locator("#number")).to_have_text("cus_9: 100")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_while_it_loads_a_skeleton_stands_there(embedded: Embedded, theme: str) -> None:
    embedded.meter.hung = ["/v1/widget/frames"]
    page = embedded.open(f"{{token: 'smw_1', theme: '{theme}'}}")
    expect(embedded.panel()).to_be_visible()
    expect(embedded.panel()).to_have_text("Loading your usage")
    assert embedded.panel().evaluate("it => it.getBoundingClientRect().height") > 300
    ground = embedded.panel().evaluate("it => getComputedStyle(it).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(23, 30, 39)"}[theme]
    page.emulate_media(reduced_motion="reduce")
    moving = "it => getComputedStyle(it.querySelector('i')).animationName"
    assert embedded.panel().evaluate(moving) == "none"
    embedded.meter.hung.clear()
    embedded.meter.hanging.set()
    embedded.frame()
    expect(embedded.panel()).to_be_hidden()


MISTAKES = [
    ("'nowhere', {token: 'smw_1'}", 'there is no element "nowhere" on this page'),
    ("null, {token: 'smw_1'}", 'there is no element "null" on this page'),
    ("'usage-widget'", "give getToken or token"),
    ("'usage-widget', {customerId: 'cus_1'}", "give getToken or token"),
    ("'usage-widget', {getToken: 'smw_1'}", "token is a string, getToken a function"),
    ("'usage-widget', {token: 7}", "token is a string, getToken a function"),
    ("'usage-widget', {token: 'smw_1', apiUrl: 'ftp://x'}", "an http or https address"),
    ("'usage-widget', {token: 'smw_1', apiUrl: 'http://'}", "an http or https address"),
]


@pytest.mark.parametrize(("call", "sentence"), MISTAKES)
def test_mistakes_of_the_page_are_told_at_once(
    embedded: Embedded, call: str, sentence: str
) -> None:
    embedded.host.script = "0"
    page = embedded.open()
    said = page.evaluate(
        f"(() => {{ try {{ StripeMeterWidget.initStripeMeterWidget({call}) }}"
        " catch (error) { return error.message } })()"
    )
    assert sentence in said
    assert said.startswith("StripeMeterWidget: ")


def test_it_may_be_called_before_the_element_is_there(embedded: Embedded) -> None:
    embedded.host.head = '<script src="{meter}/widget.js"></script><script src="/page.js"></script>'
    embedded.open()
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")


def test_an_element_that_never_comes_is_told_as_well(embedded: Embedded) -> None:
    embedded.host.head = '<script src="{meter}/widget.js"></script><script src="/page.js"></script>'
    embedded.host.body = "<h1>Host</h1>"
    embedded.open()
    embedded.comes(lambda: [each for tab in embedded._tabs.tabs for each in tab.complaints])
    assert embedded.complaints() == [
        'StripeMeterWidget: there is no element "usage-widget" on this page.'
    ]


def test_it_may_come_late_and_twice(embedded: Embedded) -> None:
    embedded.host.head = '<script defer src="/page.js"></script>'
    embedded.host.script = "".join(
        "{ const script = document.createElement('script'); script.async = true;"
        f" script.src = '{embedded.meter.address}/widget.js';"
        " script.onload = () => { window.calls = (window.calls || 0) + 1;"
        f" {START.replace('{options}', RENEWING)} }};"
        " document.head.append(script); }"
        for _ in range(2)
    )
    page = embedded.open()
    page.wait_for_function("window.calls === 2")
    expect(page.locator("#usage-widget > div")).to_have_count(1)
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")


def test_a_second_call_replaces_the_first(embedded: Embedded) -> None:
    page = embedded.open("{token: 'smw_1'}")
    embedded.frame()
    page.evaluate(START.replace("{options}", "{token: 'smw_2'}"))
    expect(page.locator("#usage-widget > div")).to_have_count(1)
    expect(embedded.frame().locator("#number")).to_have_text("Grace: 100")
    assert len(page.frames) == 2


def test_several_widgets_live_on_one_page(embedded: Embedded) -> None:
    embedded.host.body = '<div id="usage-widget"></div><div id="other"></div>'
    page = embedded.open("{token: 'smw_1'}")
    page.evaluate("void StripeMeterWidget.initStripeMeterWidget('other', {token: 'smw_2'})")
    shown = page.locator("iframe")
    expect(shown).to_have_count(2)
    for at, name in enumerate(["Ada", "Grace"]):
        number = shown.nth(at).content_frame.locator("#number")
        expect(number).to_have_text(f"{name}: 100")


def test_destroyed_it_leaves_nothing_behind(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    embedded.frame()
    page.evaluate("widget.destroy(); widget.destroy(); widget.refresh()")
    assert page.locator("#usage-widget").inner_html() == ""
    assert len(page.frames) == 1
    asked = len(embedded.meter.asked), embedded.host.tokens_asked
    embedded.pass_time(2)
    page.clock.fast_forward("01:00:00")
    page.wait_for_timeout(50)
    assert (len(embedded.meter.asked), embedded.host.tokens_asked) == asked


def test_destroyed_while_it_opens_it_does_not_come_back(embedded: Embedded) -> None:
    embedded.meter.hung = ["/v1/widget/frames"]
    page = embedded.open()
    embedded.comes(lambda: embedded.meter.of("/v1/widget/frames"))
    page.evaluate("widget.destroy()")
    embedded.meter.hanging.set()
    page.wait_for_timeout(200)
    assert page.locator("#usage-widget").inner_html() == ""
    assert embedded.own_complaints() == []


def test_a_page_that_is_left_while_it_opens_complains_of_nothing(embedded: Embedded) -> None:
    embedded.meter.hung = ["/v1/widget/frames"]
    page = embedded.open()
    for _ in range(5):
        before = len(embedded.meter.of("/v1/widget/frames"))
        page.goto(embedded.host.address)
        embedded.comes(lambda before=before: len(embedded.meter.of("/v1/widget/frames")) > before)
    page.goto("about:blank")
    assert embedded.own_complaints() == []


def test_a_token_that_is_not_given_is_said_and_may_be_asked_for_again(embedded: Embedded) -> None:
    embedded.host.token_status = 500
    page = embedded.open()
    expect(embedded.panel()).to_contain_text("Your usage cannot be shown right now.")
    expect(embedded.panel()).to_contain_text("sign in to this page again")
    complaint = "StripeMeterWidget: getToken failed: the backend said 500"
    assert embedded.own_complaints() == [complaint]
    assert exchanges(embedded) == 0
    embedded.host.token_status = 200
    page.get_by_role("button", name="Try again").click()
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")
    expect(embedded.panel()).to_be_hidden()
    embedded.complaints()


@pytest.mark.parametrize("given", ["({token: 'smw_1'})", "''", "undefined"])
def test_what_is_no_token_is_said_to_the_developer(embedded: Embedded, given: str) -> None:
    embedded.open(f"{{getToken: () => {given}}}")
    expect(embedded.panel()).to_contain_text("Your usage cannot be shown right now.")
    assert "has to give a string" in embedded.own_complaints()[0]


def test_a_token_that_never_comes_is_waited_for_no_longer_than_20_seconds(
    embedded: Embedded,
) -> None:
    embedded.open("{getToken: () => new Promise(() => {})}", clock=True)
    expect(embedded.panel()).to_have_text("Loading your usage")
    embedded.pass_time(22)
    expect(embedded.panel()).to_contain_text("Your usage cannot be shown right now.")
    assert "no answer in 20 s" in embedded.own_complaints()[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", ["waiting", "failed", "live"])
def test_axe_finds_nothing_wrong_with_what_stands_beside_the_frame(
    embedded: Embedded, theme: str, state: str
) -> None:
    embedded.meter.hung = ["/v1/widget/frames"] if state == "waiting" else []
    embedded.host.token_status = 500 if state == "failed" else 200
    embedded.host.body = f"<main>{embedded.host.body}</main>"
    options = RENEWING.replace("{", f"{{theme: '{theme}', ", 1)
    page = embedded.open(options, bypass_csp=True, viewport={"width": 320, "height": 800})
    if state == "live":
        embedded.frame()
    else:
        says = {"waiting": "Loading your usage", "failed": "cannot be shown"}[state]
        expect(embedded.panel()).to_contain_text(says)
    assert Axe().run(page).response["violations"] == []
    assert overflow(page) == 0
    embedded.complaints()


def test_tokens_are_not_asked_for_in_a_loop_when_none_is_given(embedded: Embedded) -> None:
    embedded.host.token_status = 403
    embedded.open(clock=True)
    embedded.pass_time(5)
    embedded.page.evaluate("for (let i = 0; i < 50; i += 1) { widget.refresh(); }")
    embedded.pass_time(235)
    assert 3 <= embedded.host.tokens_asked <= 8
    assert len(embedded.own_complaints()) == 1
    expect(embedded.page.get_by_role("button", name="Try again")).to_be_visible()


def test_tokens_are_not_asked_for_in_a_loop_when_none_works(embedded: Embedded) -> None:
    embedded.meter.customers = {}
    embedded.open(clock=True)
    embedded.pass_time(240)
    assert 3 <= embedded.host.tokens_asked <= 8
    assert "was revoked" in embedded.own_complaints()[0]


def test_a_session_that_ends_as_soon_as_it_begins_is_not_begun_in_a_loop(
    embedded: Embedded,
) -> None:
    embedded.meter.failing["/widget/usage"] = Given(401)
    embedded.open(clock=True)
    embedded.frame()
    embedded.pass_time(240)
    assert 3 <= exchanges(embedded) <= 12
    assert embedded.host.tokens_asked <= 12


def test_a_token_given_for_good_ends(embedded: Embedded) -> None:
    embedded.meter.customers = {}
    embedded.open("{token: 'smw_1'}")
    expect(embedded.panel()).to_have_text("This session has ended.Reload the page.")
    expect(embedded.page.get_by_role("button")).to_have_count(0)
    assert embedded.own_complaints() == [
        "StripeMeterWidget: 401 This widget token is unknown, has expired or was revoked."
    ]


def test_a_page_that_may_not_show_it_says_so(embedded: Embedded) -> None:
    embedded.meter.origins = ["https://elsewhere.example"]
    embedded.open(clock=True)
    expect(embedded.panel()).to_contain_text("tell those who run this page")
    assert embedded.own_complaints() == [
        f"StripeMeterWidget: 403 this token is not for pages of {embedded.host.address}"
    ]
    embedded.pass_time(90)
    assert exchanges(embedded) == 1
    embedded.meter.origins = None
    embedded.page.get_by_role("button", name="Try again").click()
    embedded.pass_time(2)
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")


def test_a_server_that_is_down_when_the_page_opens_is_asked_again(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    embedded.frame()
    page.evaluate("widget.destroy()")
    embedded.meter.down = True
    tokens = embedded.host.tokens_asked
    page.evaluate(START.replace("{options}", RENEWING))
    expect(embedded.panel()).to_contain_text("The server does not answer")
    embedded.pass_time(60)
    assert 4 <= len(embedded.meter.of("/v1/widget/frames")) <= 9
    assert len(embedded.own_complaints()) == 1
    embedded.meter.down = False
    embedded.pass_time(62)
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")
    expect(embedded.panel()).to_be_hidden()
    assert embedded.host.tokens_asked == tokens + 1


def test_a_server_that_is_busy_is_given_its_time(embedded: Embedded) -> None:
    embedded.meter.failing["/v1/widget/frames"] = Given(
        503,
        json.dumps({"detail": "The database cannot be reached."}),
        headers={
            "Access-Control-Allow-Origin": embedded.host.address,
            "Access-Control-Allow-Headers": "Content-Type",
            "Access-Control-Expose-Headers": "Retry-After",
            "Retry-After": "40",
        },
    )
    embedded.open(clock=True)
    expect(embedded.panel()).to_contain_text("Your usage cannot be loaded right now.")
    embedded.complaints()
    first = len(embedded.meter.of("/v1/widget/frames"))
    embedded.pass_time(35)
    assert len(embedded.meter.of("/v1/widget/frames")) == first
    embedded.meter.failing.clear()
    embedded.pass_time(8)
    embedded.frame()


# The clock on the wall, and how far it is set back.
WALL = "const wall = Date.now; window.back = 0; Date.now = () => wall() - window.back;"


def test_a_clock_that_is_set_back_delays_nothing(embedded: Embedded) -> None:
    """As at a correction by the network: an hour, or the millisecond by which a timer is early."""
    embedded.meter.failing["/v1/widget/frames"] = Given(503)
    for milliseconds in (3_600_000, 1):
        embedded.open(clock=True)
        expect(embedded.panel()).to_contain_text("cannot be loaded right now")
        embedded.page.evaluate(f"{WALL} window.back = {milliseconds}")
        before, asked = exchanges(embedded), embedded.host.tokens_asked
        embedded.pass_time(10)
        assert exchanges(embedded) >= before + 2
        embedded.meter.customers = {}
        embedded.meter.failing.clear()
        embedded.pass_time(20)
        assert embedded.host.tokens_asked > asked
        embedded.meter.customers = {"smw_1": "Ada"}
        embedded.meter.failing["/v1/widget/frames"] = Given(503)
        embedded.page.close()
    embedded.complaints()


@pytest.mark.parametrize("status", [401, 403, 500])
def test_whatever_is_refused_for_long_is_asked_for_seldom(embedded: Embedded, status: int) -> None:
    embedded.open(clock=True)
    embedded.frame()
    refused = ("/v1/widget/frames", "/widget/usage", "/widget/session", "/widget/activity")
    embedded.meter.failing |= dict.fromkeys(refused, Given(status))
    embedded.meter.asked.clear()
    embedded.pass_time(120)
    for _ in range(72):
        embedded.page.clock.run_for(15_000)
        embedded.page.wait_for_timeout(30)
    asked = [each.path.partition("?")[0] for each in embedded.meter.asked]
    # Twenty minutes at one every fifteen seconds, and the first ones sooner.
    assert all(asked.count(path) <= 100 for path in asked)
    assert embedded.host.tokens_asked <= 30
    embedded.complaints()


def test_an_answer_that_never_comes_is_given_up(embedded: Embedded) -> None:
    embedded.meter.hung = ["/v1/widget/frames"]
    embedded.open(clock=True)
    embedded.comes(lambda: embedded.meter.of("/v1/widget/frames"))
    embedded.pass_time(11)
    expect(embedded.panel()).to_contain_text("The server does not answer")
    embedded.meter.hung.clear()
    embedded.pass_time(3)
    embedded.frame()
    embedded.complaints()


def test_a_frame_that_does_not_open_is_tried_again(embedded: Embedded) -> None:
    embedded.meter.failing["/static/widget-frame.js"] = Given(404)
    embedded.open(clock=True)
    embedded.pass_time(14)
    expect(embedded.panel()).to_contain_text("Your usage cannot be loaded right now.")
    assert "frame-src" in embedded.own_complaints()[0]
    embedded.meter.failing.clear()
    embedded.pass_time(6)
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")
    embedded.complaints()


def test_it_is_renewed_before_it_ends_and_the_frame_stays(embedded: Embedded) -> None:
    embedded.host.tokens = ["smw_1", "smw_2"]
    embedded.meter.life = 100
    embedded.open(clock=True)
    frame = embedded.frame()
    frame.evaluate("window.mark = 1")
    embedded.pass_time(78)
    assert embedded.host.tokens_asked == 1
    embedded.pass_time(5)
    assert embedded.host.tokens_asked == 2
    # Whoever the new token is for is shown, in the same document.
    expect(embedded.frame().locator("#number")).to_have_text("Grace: 100")
    assert frame.evaluate("window.mark") == 1
    assert len(embedded.meter.of("/widget/f/")) == 1
    secrets = [each.headers["x-widget-session"] for each in embedded.meter.of("/widget/usage")]
    assert len(set(secrets)) == 2
    embedded.pass_time(76)
    assert embedded.host.tokens_asked == 2
    embedded.pass_time(8)
    assert embedded.host.tokens_asked == 3
    assert frame.evaluate("document.documentElement.dataset.state") == "live"


def test_a_renewal_that_fails_is_quiet_while_the_session_lasts(embedded: Embedded) -> None:
    embedded.meter.life = 100
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.host.token_status = 500
    embedded.pass_time(90)
    assert embedded.host.tokens_asked > 1
    expect(frame.locator("#number")).to_have_text("Ada: 100")
    expect(embedded.page.locator("iframe")).to_be_visible()
    embedded.host.token_status = 200
    embedded.pass_time(15)
    before = embedded.host.tokens_asked
    embedded.pass_time(20)
    assert embedded.host.tokens_asked == before
    assert frame.evaluate("document.documentElement.dataset.state") == "live"
    assert embedded.own_complaints() == ["StripeMeterWidget: getToken failed: the backend said 500"]


def test_a_revoked_token_ends_it_and_another_opens_it_again(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(40)
    embedded.host.token_status = 403
    del embedded.meter.customers["smw_1"]
    embedded.pass_time(4)
    expect(embedded.panel()).to_contain_text("Your usage cannot be shown right now.")
    assert frame.is_detached()
    embedded.host.token_status, embedded.host.tokens = 200, ["smw_2"]
    page.get_by_role("button", name="Try again").click()
    embedded.pass_time(2)
    expect(embedded.frame().locator("#number")).to_have_text("Grace: 100")
    assert len(embedded.own_complaints()) == 1


def test_a_revoked_token_is_replaced_where_the_page_gives_another(embedded: Embedded) -> None:
    embedded.host.tokens = ["smw_1", "smw_2"]
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(40)
    del embedded.meter.customers["smw_1"]
    embedded.pass_time(5)
    expect(frame.locator("#number")).to_have_text("Grace: 100")
    expect(frame.locator("#activity")).to_be_visible()
    assert embedded.own_complaints() == []


def test_a_page_that_sleeps_past_the_end_comes_back_without_a_refusal(embedded: Embedded) -> None:
    embedded.meter.life = 100
    embedded.open(clock=True)
    frame = embedded.frame()
    set_hidden(embedded, True)
    embedded.pass_time(1)
    embedded.page.clock.fast_forward("01:00:00")
    assert embedded.host.tokens_asked == 1
    del embedded.meter.customers["smw_1"]
    embedded.host.tokens = ["smw_2"]
    before = polls(embedded)
    set_hidden(embedded, False)
    embedded.pass_time(2)
    expect(frame.locator("#number")).to_have_text("Grace: 100")
    assert embedded.host.tokens_asked == 2
    assert {
        each.headers["x-widget-session"] for each in embedded.meter.of("/widget/usage")[before:]
    }
    assert embedded.complaints() == []


def test_an_element_that_is_moved_gets_another_frame(embedded: Embedded) -> None:
    page = embedded.open()
    embedded.frame()
    page.evaluate("document.body.prepend(document.getElementById('usage-widget'))")
    embedded.comes(lambda: len(embedded.meter.of("/widget/f/")) == 3)
    expect(embedded.frame().locator("#number")).to_have_text("Ada: 100")
    assert embedded.host.tokens_asked == 2
    embedded.complaints()


def test_an_element_that_was_taken_out_asks_for_nothing(embedded: Embedded) -> None:
    embedded.meter.life = 100
    page = embedded.open(clock=True)
    embedded.frame()
    page.evaluate("window.box = document.getElementById('usage-widget'); box.remove()")
    embedded.pass_time(100)
    assert embedded.host.tokens_asked == 1


def test_messages_of_others_are_not_heard(embedded: Embedded) -> None:
    page = embedded.open()
    frame = embedded.frame()
    page.evaluate("postMessage({stripemeter: 1, type: 'ended'}, '*')")
    page.evaluate("postMessage({stripemeter: 1, type: 'size', height: 5}, '*')")
    frame.evaluate("postMessage({stripemeter: 1, type: 'renew', code: 'x'}, '*')")
    for strange in ("null", "7", "{stripemeter: 1}", "{stripemeter: 1, type: 'size', height: 'x'}"):
        frame.evaluate(f"parent.postMessage({strange}, '{embedded.host.address}')")
    page.wait_for_timeout(200)
    assert exchanges(embedded) == 1
    assert embedded.meter.of("/widget/session") == []
    assert _height(page) > 100


def test_refresh_looks_at_once(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(100)
    embedded.meter.number = 7
    page.clock.run_for(3000)
    before = polls(embedded)
    page.evaluate("widget.refresh()")
    expect(frame.locator("#number")).to_have_text("Ada: 7")
    assert polls(embedded) == before + 1


# ---- the frame's side


def test_it_looks_often_after_a_change_or_a_gesture_and_seldom_else(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(60)
    assert 27 <= polls(embedded) <= 31
    before = polls(embedded)
    embedded.pass_time(60)
    assert 3 <= polls(embedded) - before <= 5
    # A gesture looks at once.
    embedded.pass_time(4)
    before = polls(embedded)
    frame.locator("#number").click()
    embedded.comes(lambda: polls(embedded) == before + 1)
    embedded.pass_time(20)
    assert 9 <= polls(embedded) - before <= 12
    embedded.pass_time(60)
    embedded.meter.number = 101
    embedded.pass_time(17)
    expect(frame.locator("#number")).to_have_text("Ada: 101")
    before = polls(embedded)
    embedded.pass_time(20)
    assert 9 <= polls(embedded) - before <= 11


def test_time_alone_makes_it_look_no_more_often(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(75)
    embedded.meter.step += 1
    frame.evaluate("document.getElementById('number').dataset.former = 'yes'")
    embedded.pass_time(17)
    expect(frame.locator("#number")).not_to_have_attribute("data-former", "yes")
    before = polls(embedded)
    embedded.pass_time(30)
    assert 1 <= polls(embedded) - before <= 3


def test_what_has_not_changed_is_left_alone_and_is_as_old_as_it_is(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    frame.evaluate("window.number = document.getElementById('number')")
    expect(frame.locator("#age")).to_have_text("as of 3 s ago")
    embedded.meter.age = 90
    embedded.pass_time(5)
    assert frame.evaluate("number === document.getElementById('number')")
    shown = int(frame.locator("#age").inner_text().split()[2])
    assert 90 <= shown <= 92
    asked = embedded.meter.of("/widget/usage")
    assert asked
    assert {each.headers["if-none-match"] for each in asked} == {'"Ada.100-0"'}
    assert {each.headers["x-widget-session"] for each in asked} == {"secret-2"}
    embedded.meter.number, embedded.meter.age = 101, 0
    embedded.pass_time(3)
    embedded.pass_time(3)
    assert embedded.meter.of("/widget/usage")[-1].headers["if-none-match"] == '"Ada.101-0"'
    assert int(frame.locator("#age").get_attribute("title") != "")


def test_the_age_is_written_small_and_large(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    for age, words in [(0, "as of now"), (240, "as of 4 min ago"), (90_000, "as of 25 h ago")]:
        embedded.meter.age = age
        before = polls(embedded)
        while polls(embedded) == before:
            embedded.pass_time(1)
        expect(frame.locator("#age")).to_have_text(words)


def test_the_live_region_does_not_speak_at_every_tick(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    frame.evaluate(
        "window.spoken = []; document.querySelectorAll('[role=status]').forEach(each =>"
        " new MutationObserver(() => spoken.push(each.textContent)).observe(each,"
        " {childList: true, characterData: true, subtree: true}))"
    )
    embedded.pass_time(70)
    embedded.meter.number += 1
    embedded.pass_time(20)
    assert frame.evaluate("spoken") == []
    assert not frame.locator("[role=status] #age").count()
    embedded.meter.down = True
    embedded.pass_time(30)
    embedded.meter.down = False
    embedded.pass_time(30)
    spoken = frame.evaluate("spoken")
    assert len(spoken) == 3
    assert spoken[0].endswith("Reconnecting…")
    assert spoken[1:] == ["Up to date again.", ""]
    embedded.complaints()


def test_a_server_that_cannot_be_reached_is_said_and_asked_again(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(3)
    embedded.meter.down = True
    embedded.pass_time(3)
    assert frame.evaluate("document.documentElement.dataset.state") == "stale"
    expect(frame.locator("#status")).to_have_text(_LAST)
    expect(frame.locator("#number")).to_have_text("Ada: 100")
    expect(frame.locator("#age")).to_be_hidden()
    before = polls(embedded)
    embedded.pass_time(60)
    assert 4 <= polls(embedded) - before <= 7  # after 2, 4, 8, 15, 15 … seconds
    embedded.meter.down, embedded.meter.number = False, 101
    embedded.pass_time(18)
    expect(frame.locator("#number")).to_have_text("Ada: 101")
    assert frame.evaluate("document.documentElement.dataset.state") == "live"
    expect(frame.locator("#age")).to_be_visible()
    embedded.pass_time(6)
    expect(frame.locator("#status")).to_have_text("")
    embedded.complaints()


_LAST = re.compile(r"^Last updated \d\d?:\d\d:\d\d\s[AP]M\. Reconnecting…$")


NOT_OURS = [
    Given(500),
    Given(503, headers={"Retry-After": "5"}),
    Given(404, "<p>no such page</p>"),
    Given(200, "<p>Sign in to the hotel's network</p>"),
    Given(429),
]


@pytest.mark.parametrize("given", NOT_OURS, ids=lambda given: str(given.status))
def test_what_is_no_answer_is_not_shown(embedded: Embedded, given: Given) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.meter.failing["/widget/usage"] = given
    embedded.pass_time(3)
    expect(frame.locator("#status")).to_have_text(_LAST)
    expect(frame.locator("#number")).to_have_text("Ada: 100")
    embedded.meter.failing.clear()
    embedded.pass_time(8)
    assert frame.evaluate("document.documentElement.dataset.state") == "live"
    embedded.complaints()


def test_one_question_at_a_time_and_one_that_hangs_is_given_up(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    frame = embedded.frame()
    embedded.meter.hung = ["/widget/usage"]
    embedded.pass_time(3)
    assert polls(embedded) == 1
    for _ in range(3):
        frame.locator("#number").click()
        page.evaluate("widget.refresh()")
        embedded.pass_time(2)
    assert polls(embedded) == 1
    assert frame.evaluate("document.documentElement.dataset.state") == "live"
    while frame.evaluate("document.documentElement.dataset.state") == "live":
        embedded.pass_time(1)
    expect(frame.locator("#status")).to_have_text(_LAST)
    # What was asked first is answered last, and is not heard any more.
    embedded.meter.hung.clear()
    embedded.meter.number = 102
    embedded.pass_time(4)
    expect(frame.locator("#number")).to_have_text("Ada: 102")
    embedded.meter.hanging.set()
    embedded.pass_time(2)
    expect(frame.locator("#number")).to_have_text("Ada: 102")
    embedded.complaints()


def test_a_renewal_forgets_what_the_former_session_asked(embedded: Embedded) -> None:
    embedded.host.tokens = ["smw_1", "smw_2"]
    embedded.meter.life = 100
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(76)
    embedded.meter.hung = ["/widget/usage"]
    frame.locator("#number").click()
    embedded.pass_time(1)
    embedded.meter.hung.clear()
    embedded.pass_time(6)
    expect(frame.locator("#number")).to_have_text("Grace: 100")
    embedded.meter.hanging.set()
    embedded.pass_time(1)
    expect(frame.locator("#number")).to_have_text("Grace: 100")
    assert frame.evaluate("document.documentElement.dataset.state") == "live"
    assert embedded.own_complaints() == []  # htmx itself tells of what is given up


def test_a_hidden_tab_asks_nothing_and_looks_at_once_when_it_is_seen(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.pass_time(5)
    set_hidden(embedded, True)
    embedded.pass_time(1)
    before = polls(embedded)
    embedded.pass_time(120)
    assert polls(embedded) == before
    embedded.meter.number = 103
    set_hidden(embedded, False)
    expect(frame.locator("#number")).to_have_text("Ada: 103")
    assert polls(embedded) == before + 1


def test_what_was_opened_and_where_one_was_stays(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    explained = frame.locator("#usage details")
    explained.locator("summary").click()
    embedded.meter.number = 104
    embedded.pass_time(3)
    expect(frame.locator("#number")).to_have_text("Ada: 104")
    expect(explained).to_have_attribute("open", "")
    expect(explained.locator("summary")).to_be_focused()
    frame.locator("#tier").focus()
    embedded.meter.number = 105
    embedded.pass_time(3)
    expect(frame.locator("#number")).to_have_text("Ada: 105")
    expect(frame.locator("#tier")).to_be_focused()
    explained.locator("summary").click()
    embedded.meter.number = 106
    embedded.pass_time(3)
    expect(frame.locator("#number")).to_have_text("Ada: 106")
    assert explained.get_attribute("open") is None


def test_a_chart_is_one_stop_and_its_days_are_walked_as_they_stand(embedded: Embedded) -> None:
    page = embedded.open(clock=True)
    frame = embedded.frame()
    frame.locator("#usage summary").focus()
    page.keyboard.press("Tab")
    for key, day in [
        ("ArrowLeft", 3),
        ("ArrowRight", 2),
        ("ArrowRight", 1),
        ("ArrowRight", 1),
        ("Home", 3),
        ("End", 1),
        ("ArrowLeft", 2),
    ]:
        page.keyboard.press(key)
        expect(frame.locator(f"#day-{day}")).to_be_focused()
    # It stays where it was when the numbers change.
    embedded.meter.number = 110
    embedded.pass_time(3)
    expect(frame.locator("#number")).to_have_text("Ada: 110")
    expect(frame.locator("#day-2")).to_be_focused()
    assert frame.locator("[data-roving] [tabindex='0']").evaluate_all(
        "all => all.map(each => each.id)"
    ) == ["day-2"]
    page.keyboard.press("Tab")
    expect(frame.locator("#tier")).to_be_focused()


def test_activity_comes_when_it_is_opened_and_with_every_change(embedded: Embedded) -> None:
    embedded.open(clock=True)
    frame = embedded.frame()
    embedded.meter.number = 107
    embedded.pass_time(5)
    assert embedded.meter.of("/widget/activity") == []
    frame.locator("#activity > summary").click()
    expect(frame.locator("#events")).to_have_text("Ada used 1, of 107")
    embedded.pass_time(5)
    assert len(embedded.meter.of("/widget/activity")) == 1
    embedded.meter.number = 108
    embedded.pass_time(3)
    expect(frame.locator("#events")).to_have_text("Ada used 1, of 108")
    embedded.meter.failing["/widget/activity"] = Given(500)
    embedded.meter.number = 109
    embedded.pass_time(3)
    expect(frame.locator("#events")).to_have_text("Ada used 1, of 108")
    embedded.comes(lambda: len(embedded.meter.of("/widget/activity")) == 3)
    expect(frame.locator("#events")).to_have_text("Ada used 1, of 108")
    embedded.complaints()


def test_activity_that_does_not_come_is_said(embedded: Embedded) -> None:
    embedded.open()
    frame = embedded.frame()
    embedded.meter.failing["/widget/activity"] = Given(500)
    frame.locator("#activity > summary").click()
    expect(frame.locator("#events")).to_have_text("Recent activity cannot be loaded at the moment.")
    embedded.complaints()


def test_when_it_ends_nothing_of_it_stays(embedded: Embedded) -> None:
    embedded.open("{token: 'smw_1'}", clock=True)
    frame = embedded.frame()
    frame.locator("#activity > summary").click()
    expect(frame.locator("#events")).to_contain_text("Ada")
    # The page around it is kept from hearing, so that the frame speaks for itself.
    embedded.page.evaluate("window.addEventListener('message', e => e.stopImmediatePropagation())")
    embedded.meter.failing["/v1/widget/frames"] = Given(503)
    del embedded.meter.customers["smw_1"]
    content = ""

    def read() -> bool:
        nonlocal content
        if frame.is_detached():
            return False
        content = frame.locator("body").inner_text()
        return "ended" in content

    embedded.meter.hung = ["/v1/widget/frames"]
    for _ in range(4):
        embedded.pass_time(1)
        if read():
            break
    assert "This session has ended." in content
    assert "Ada" not in content
    assert "Statement" not in content
    assert "as of" not in content
    before = polls(embedded)
    embedded.pass_time(5)
    assert polls(embedded) == before
    embedded.complaints()


def test_the_statement_is_downloaded_without_a_secret_in_an_address(embedded: Embedded) -> None:
    page = embedded.open()
    frame = embedded.frame()
    with page.expect_download() as coming:
        frame.get_by_role("button", name="Statement (CSV)").click()
    assert coming.value.suggested_filename == "statement-nov.csv"
    assert coming.value.path().read_text() == "customer,number\nAda,100\n"
    (asked,) = embedded.meter.of("/widget/statement")
    assert asked.path == "/widget/statement"
    assert asked.headers["x-widget-session"] == "secret-2"
    expect(frame.locator("#said")).to_have_text("The statement has been downloaded.")


def test_a_statement_that_does_not_come_is_said(embedded: Embedded) -> None:
    embedded.open()
    frame = embedded.frame()
    embedded.meter.failing["/widget/statement"] = Given(500)
    button = frame.get_by_role("button", name="Statement (CSV)")
    button.click()
    sentence = "The statement could not be downloaded. Try again in a moment."
    expect(frame.locator("#said")).to_have_text(sentence)
    embedded.meter.failing.clear()
    with embedded.page.expect_download():
        button.click()
    embedded.complaints()
