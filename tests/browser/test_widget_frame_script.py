"""widget-frame.js: the frame's side, against a server that fails as it is told to."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.embedded import Embedded, polls, set_hidden
from tests.browser.widget_server import Given

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
    frame.evaluate("document.getElementById('number').dataset.former = 'yes'")
    embedded.meter.step += 1
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
    embedded.pass_time(4)
    embedded.pass_time(4)
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


_LAST = re.compile(r"^Last updated \d\d?:\d\d:\d\d\s[AP]M [A-Z]\S*\. Reconnecting…$")


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
    embedded.pass_time(120, step=5)
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
