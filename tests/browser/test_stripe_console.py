"""The console's pages about Stripe as the operator uses them at night, and finance by day."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe.claims import Outcome
from tests.browser.conftest import Tabs, faults
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all, push_once
from tests.support import entry, put

PAGE, SHADOW = "/console/stripe", "/console/stripe/shadow"
LONG = "a-customer-whose-name-has-no-end-and-no-place-to-break-it-0123456789"


def use(session: Session, to: Connected, quantity: int, at: datetime, customer: str) -> None:
    put(session, to.tenant_id, [entry(f"{customer}-{quantity}", quantity, at, customer=customer)])
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=at)


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    """A live tenant with a shadow, and one of each that can be stuck but drift."""
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1", "name": "First & Sons Ltd"}
        customers.edit(session, acme.tenant_id, "cus_1", told, now=now)
    stripe, since = FakeStripe(), now - timedelta(minutes=40)
    use(session, acme, 9, now - timedelta(days=40), "cus_7")
    for customer, quantity in (("cus_1", 120), ("globex", 250), (LONG, 110), ("cus_5", 150)):
        use(session, acme, quantity, since, customer)
    push_all(session, acme, stripe, now=since)
    answers = (("cus_2", "rejected"), ("cus_3", "duplicate"), ("cus_4", "auth"))
    for customer, kind in answers:
        use(session, acme, 130, now - timedelta(minutes=9), customer)
        stripe.next = [Outcome(kind, "No such customer: 'x'", status=400)] * 2  # type: ignore[arg-type]
        push_once(session, acme, stripe, now=now - timedelta(minutes=9))
    return acme


def test_the_operator_finds_what_is_stuck_and_tries_it_again(
    page: Page, address: str, sign_in: Any, session: Session, acme: Connected, now: datetime
) -> None:
    sign_in(page, acme.tenant_id, "operator", now=now)
    expect(page.locator(".answer")).to_contain_text("customers need a decision")
    page.get_by_role("link", name="Stripe", exact=True).click()
    expect(page.locator(".answer")).to_contain_text("customers need a decision")
    rows = page.get_by_role("table", name="Stuck").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("$75.00")
    expect(rows.nth(1)).to_contain_text("globex")
    page.get_by_role("link", name="Blocked").click()
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("No such customer: 'x'")
    page.get_by_role("group", name="Kind").get_by_role("link", name="All").click()
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_9"}, now=now)
    page.get_by_role("button", name="Try again globex, api_calls").first.click()
    expect(page.get_by_role("status")).to_contain_text("globex, api_calls: it is being tried again")
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("status")).to_have_count(0)


def test_trying_again_works_without_scripts_and_by_keyboard(
    tabs: Tabs, sandbox_address: str, session: Session, acme: Connected, now: datetime
) -> None:
    page = tabs.open(java_script_enabled=False)
    page.goto(f"{sandbox_address}{PAGE}?tenantId={acme.tenant_id}&mode=live&kind=held")
    button = page.get_by_role("button", name="Try again globex, api_calls")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("globex, api_calls: it is being tried again")
    assert f"tenantId={acme.tenant_id}" in page.url
    assert "mode=live" in page.url


def test_finance_compares_a_month(
    page: Page, address: str, sign_in: Any, acme: Connected, now: datetime
) -> None:
    sign_in(page, acme.tenant_id, "finance", now=now)
    page.goto(f"{address}{PAGE}")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("link", name="Live and shadow").click()
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    expect(page.locator(".answer")).to_contain_text(f"{month:%B %Y}: Live, shadow and our counters")
    expect(page.get_by_role("heading", name="Furthest apart")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="All rows as CSV").click()
    assert download.value.suggested_filename == f"shadow-{month:%Y-%m}.csv"
    page.get_by_role("link", name="Previous month").click()
    page.get_by_role("link", name="Next month").click()
    expect(page.get_by_label("Month", exact=True)).to_have_value(f"{month:%Y-%m}")
    page.get_by_label("Month", exact=True).fill("2026-02")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".answer")).to_contain_text("February 2026: Nothing that goes to Stripe")


def test_axe_finds_nothing(tabs: Tabs, sandbox_address: str, acme: Connected, tenant: str) -> None:
    of = f"?tenantId={acme.tenant_id}"
    for path in (
        f"{PAGE}{of}", f"{PAGE}{of}&mode=test&kind=held&said=gone", f"{PAGE}{of}&kind=drift",
        f"{PAGE}?tenantId={tenant}", f"{PAGE}{of}&mode=wrong",
        f"{SHADOW}{of}", f"{SHADOW}{of}&period=2026-02", f"{SHADOW}{of}&period=never",
        "/console",
    ):  # fmt: skip
        assert faults(tabs, sandbox_address + path) == [], path


@pytest.mark.parametrize("width", [320, 1280])
def test_what_is_pressed_is_large_enough(
    tabs: Tabs, sandbox_address: str, acme: Connected, width: int
) -> None:
    page = tabs.open(viewport={"width": width, "height": 900})
    for path in (PAGE, SHADOW):
        page.goto(f"{sandbox_address}{path}?tenantId={acme.tenant_id}")
        pressed = page.locator("main .chips a, main nav a, main button, main input, main .step")
        for each in pressed.all():
            box = each.bounding_box()
            if box is not None:
                assert box["height"] >= 24, each.inner_text()
                assert box["width"] >= 24, each.inner_text()


def test_a_narrow_table_is_still_a_table_to_those_who_hear_it(
    tabs: Tabs, sandbox_address: str, acme: Connected
) -> None:
    page = tabs.open(viewport={"width": 320, "height": 900})
    page.goto(f"{sandbox_address}{PAGE}?tenantId={acme.tenant_id}&mode=live&kind=held")
    table = page.get_by_role("table", name="Stuck")
    expect(table.get_by_role("columnheader")).to_have_count(5)
    expect(table.get_by_role("rowheader").first).to_contain_text("globex")
    [amount, button] = [
        table.get_by_text("$75.00").bounding_box(),
        table.get_by_role("button").first.bounding_box(),
    ]
    assert amount is not None
    assert button is not None
    assert amount["y"] < button["y"]
