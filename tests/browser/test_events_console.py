"""The pages about events in a real browser: reachable, readable, narrow, in both themes."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from tests.browser.conftest import Tabs, faults
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all
from tests.support import entry, fold_all, put
from tests.webapp.test_dead_letters import bury

HOME, WALK = "/console/events", "/console/events/walk"
LETTERS = "/console/events/dead-letters"
LONG = "an-id-that-has-no-end-and-no-place-to-break-it-0123456789-0123456789-0123456789"


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    """A live tenant with a shadow, events in every state that is easily had, and dead letters."""
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    here = now - timedelta(hours=2)
    events = [entry("sent", 120, here), entry(LONG, "0.000001", here, customer="globex")]
    put(session, acme.tenant_id, events, now=here)
    fold_all(session, acme.tenant_id)
    push_all(session, acme, FakeStripe(), now=now + timedelta(minutes=1))
    bury(session, acme.tenant_id, now, "dead-1", f"dead-{LONG}")
    return acme


def test_support_finds_why_an_event_is_not_on_the_bill(
    page: Page, address: str, sign_in: Any, acme: Connected, now: datetime
) -> None:
    sign_in(page, acme.tenant_id, "support", now=now)
    page.get_by_role("link", name="Events", exact=True).first.click()
    page.get_by_label("Event id").fill(LONG)
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_contain_text("which customer of Stripe globex is")
    steps = page.get_by_role("list").locator("li.step")
    expect(steps.first).to_contain_text("Received")
    page.get_by_text("Details of In the ledger").first.click()
    quantity = page.get_by_role("definition").filter(has_text="0.000001")
    expect(quantity.first).to_be_visible()
    expect(page.get_by_role("button", name="again")).to_have_count(0)
    page.get_by_role("link", name="Events", exact=True).click()
    page.get_by_role("link", name="sent", exact=True).click()
    expect(page.locator(".answer")).to_contain_text("No subscription of cus_1 is known")


def test_the_operator_counts_a_dead_letter_again(
    page: Page, address: str, sign_in: Any, acme: Connected, now: datetime
) -> None:
    sign_in(page, acme.tenant_id, "operator", now=now)
    page.goto(f"{address}{LETTERS}")
    page.get_by_role("button", name="Count again dead-1").click()
    expect(page.get_by_role("status")).to_contain_text("It is being counted again")
    expect(page.locator(".answer")).to_contain_text("1 event could not be counted.")


def test_axe_finds_nothing(
    tabs: Tabs, sandbox_address: str, session: Session, acme: Connected, tenant: str
) -> None:
    put(session, tenant, [entry("mine")])
    of = f"?tenantId={acme.tenant_id}"
    for path in (
        f"{HOME}{of}&from=never", f"{HOME}{of}", f"{WALK}{of}&id={LONG}", f"{WALK}{of}&id=never",
        f"{WALK}?tenantId={tenant}&id=mine", f"{LETTERS}{of}&said=none",
    ):  # fmt: skip
        assert faults(tabs, sandbox_address + path) == [], path


@pytest.mark.parametrize("width", [320, 1280])
def test_what_is_pressed_is_large_enough(
    tabs: Tabs, sandbox_address: str, acme: Connected, width: int
) -> None:
    page = tabs.open(viewport={"width": width, "height": 900})
    for path in (HOME, f"{WALK}?id=dead-1", LETTERS):
        joint = "&" if "?" in path else "?"
        page.goto(f"{sandbox_address}{path}{joint}tenantId={acme.tenant_id}")
        for each in page.locator("main button, main input, main summary, main nav a").all():
            box = each.bounding_box()
            if box is not None:
                assert box["height"] >= 24, each.inner_text()
                assert box["width"] >= 24, each.inner_text()
