"""widget.js: the page's side, against a server that fails as it is told to."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import overflow
from tests.browser.embedded import RENEWING, START, Embedded, exchanges, polls, set_hidden
from tests.browser.widget_server import STATIC, Given

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
    assert len((STATIC / "widget.js").read_bytes()) < 11 * 1024


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
    embedded.pass_time(235, step=5)
    assert 3 <= embedded.host.tokens_asked <= 8
    assert len(embedded.own_complaints()) == 1
    expect(embedded.page.get_by_role("button", name="Try again")).to_be_visible()


def test_tokens_are_not_asked_for_in_a_loop_when_none_works(embedded: Embedded) -> None:
    embedded.meter.customers = {}
    embedded.open(clock=True)
    embedded.pass_time(5)
    embedded.pass_time(235, step=5)
    assert 3 <= embedded.host.tokens_asked <= 8
    assert "was revoked" in embedded.own_complaints()[0]


def test_a_session_that_ends_as_soon_as_it_begins_is_not_begun_in_a_loop(
    embedded: Embedded,
) -> None:
    embedded.meter.failing["/widget/usage"] = Given(401)
    embedded.open(clock=True)
    embedded.frame()
    embedded.pass_time(120)
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
    embedded.pass_time(120, step=5)
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
    embedded.pass_time(100, step=5)
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
    embedded.pass_time(100, step=5)
    embedded.pass_time(3)
    before = polls(embedded)
    embedded.meter.number = 7
    page.evaluate("widget.refresh()")
    expect(frame.locator("#number")).to_have_text("Ada: 7")
    assert polls(embedded) == before + 1
