"""The page of billing periods in a browser, narrow and wide, for those who see and who hear it."""

from datetime import datetime, timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from tests.browser.conftest import Tabs, faults
from tests.support import entry, fold_all, put

PAGE = "/console/periods"
LONG = "a_metric_whose_name_has_no_end_and_no_place_to_break_it_0123456789"


@pytest.fixture
def used(session: Session, tenant: str, now: datetime) -> str:
    """A tenant whose customer has a closed, a closing and an open period."""
    begun = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=61)
    for metric in ("api_calls", LONG):
        for number in range(3):
            start, end = (begun + timedelta(days=30 * n) for n in (number, number + 1))
            closes_at = end + timedelta(hours=48)
            with unit_of_work(session):
                session.add(
                    BillingPeriod(
                        tenant_id=tenant, customer_ref="cus_1", metric=metric, start_at=start,
                        end_at=end, item_id="si_1", mode="test", closes_at=closes_at,
                        closed_at=closes_at if number == 0 else None,
                    )
                )  # fmt: skip
    late = begun + timedelta(days=1)
    put(session, tenant, [entry("late", 1, late), entry("more", 1, late)], now=now)
    fold_all(session, tenant)
    return tenant


def test_a_customers_periods_are_asked_for_and_shown(
    tabs: Tabs, sandbox_address: str, used: str
) -> None:
    page = tabs.open()
    page.goto(f"{sandbox_address}{PAGE}?tenantId={used}")
    expect(page.locator(".answer")).to_have_text("Whose billing periods?")
    page.get_by_label("Customer").fill("cus_1")
    page.keyboard.press("Enter")
    rows = page.get_by_role("table", name="Periods, the newest first").get_by_role("row")
    expect(rows).to_have_count(7)
    expect(rows.nth(6)).to_contain_text("2 events came too late")
    page.get_by_label("Metric").fill(LONG)
    page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(4)


def test_axe_finds_nothing(tabs: Tabs, sandbox_address: str, used: str) -> None:
    """In either theme, narrow and wide."""
    of = f"{sandbox_address}{PAGE}?tenantId={used}"
    for address in (of, f"{of}&customerRef=cus_1", f"{of}&customerRef=nobody"):
        assert faults(tabs, address) == [], address
