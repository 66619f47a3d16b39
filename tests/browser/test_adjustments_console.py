"""The console's pages about adjustments as finance uses them: by keyboard, without scripts, on a
narrow screen and in both themes."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from metering.catalog import customers, mappings, metrics
from metering.counters import adjustments, deciding
from metering.counters.adjustments import Wanted
from metering.database import unit_of_work
from pricing.price import from_config
from tests.browser.conftest import Tabs, faults
from tests.stripe_setup import TIERED
from tests.support import entry, fold_all, put
from tests.webapp.test_adjustments import NOVEMBER

PAGE = "/console/adjustments"
LONG = "a-customer-whose-name-has-no-end-and-no-place-to-break-it-0123456789"


@pytest.fixture
def books(session: Session, tenant: str, now: datetime) -> str:
    """Late events of two customers and a credit, of which one was decided; the tenant."""
    age = {"late_policy": "age", "lateness_seconds": 60}
    day = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    wanted = {
        "metric": "api_calls", "effective_from": NOVEMBER.replace(year=2025),
        "price": from_config(TIERED), "currency": "usd",
    }  # fmt: skip
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", age, now=now)
        customers.edit(session, tenant, "cus_1", {"name": "First & Sons Ltd"}, now=now)
        mappings.create(
            session, tenant, mappings.id_of(None), wanted, now=NOVEMBER.replace(year=2025, month=9)
        )
    for customer in ("cus_1", LONG):
        put(session, tenant, [entry(f"{customer}-0", 150, day, customer=customer)], now=day)
        late = [entry(f"{customer}-{n}", n, day, customer=customer) for n in range(1, 31)]
        put(session, tenant, late, now=now)
    fold_all(session, tenant)
    credit = Wanted("cus_1", "api_calls", Decimal(-20), "credit", instant=day, note=LONG * 3)
    with unit_of_work(session):
        ids = [
            adjustments.create(
                session, tenant, adjustments.id_of(None), credit, actor="console:finance", now=now
            ).adjustment_id
            for _ in range(2)
        ]
        deciding.approve(session, tenant, ids[0], note="agreed", actor="key:k", now=now)
    return tenant


def test_finance_finds_what_waits_and_decides(
    page: Page, address: str, sign_in: Any, books: str, now: datetime
) -> None:
    sign_in(page, books, "finance", now=now)
    page.get_by_role("link", name="Adjustments", exact=True).click()
    expect(page.locator(".answer")).to_contain_text("3 decisions wait: 930 late units")
    page.get_by_label("Customer").fill("cus_1")
    page.keyboard.press("Enter")
    rows = page.get_by_role("table", name="Adjustments").get_by_role("row")
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="api_calls for First & Sons Ltd").first.click()
    expect(page.locator(".answer")).to_contain_text("30 events of api_calls for First & Sons Ltd")
    page.get_by_label("Note").fill("the collector was down")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("status")).to_contain_text("It is applied.")
    expect(page.get_by_role("list", name="What was done")).to_contain_text("the collector was down")
    page.get_by_role("button", name="Revert").click()
    expect(page.get_by_role("status")).to_contain_text("It is reverted.")
    with page.expect_download() as download:
        page.get_by_role("link", name="Adjustments", exact=True).click()
        page.get_by_role("link", name="All of these as CSV").click()
    assert download.value.suggested_filename == "adjustments.csv"


def test_a_credit_is_made_and_approved_without_scripts_and_by_keyboard(
    tabs: Tabs, sandbox_address: str, books: str
) -> None:
    page = tabs.open(java_script_enabled=False)
    page.goto(f"{sandbox_address}{PAGE}/new?tenantId={books}")
    for label, text in (("Customer", "cus_1"), ("Metric", "api_calls"), ("Units", "many")):
        page.get_by_label(label).fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_text("is not a plain decimal number")).to_be_visible()
    expect(page.get_by_label("Customer")).to_have_value("cus_1")
    page.get_by_label("Units").fill("5")
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_contain_text("5 units are to be added to")
    button = page.get_by_role("button", name="Apply")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("It is applied.")
    assert f"tenantId={books}" in page.url


def test_axe_finds_nothing(tabs: Tabs, sandbox_address: str, session: Session, books: str) -> None:
    of = f"?tenantId={books}"
    found = adjustments.page(session, books, adjustments.Filter())
    paths = [f"{PAGE}/{one.adjustment_id}{of}" for one in found]
    session.rollback()
    for path in (
        f"{PAGE}{of}&status=all&sort=oldest", f"{PAGE}{of}&status=declined", f"{PAGE}/new{of}",
        paths[0], paths[-1],
    ):  # fmt: skip
        assert faults(tabs, sandbox_address + path) == [], path
