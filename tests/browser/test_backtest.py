"""The back-test to its end in a browser: from a comparison to the customers' list."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.billing import backtest, question
from metering.catalog.period import calendar_month
from metering.database import unit_of_work
from tests.backtests import some_usage, use
from tests.browser.conftest import Tabs, faults, overflow

COMPARISON = (
    "/simulator?currency=usd&quantity=25000&a-name=Today&a-model=per_unit&a-unit=0.01"
    "&b-name=New&b-model=graduated&b-0-to=1000&b-0-unit=0.012&b-1-to=10000&b-1-unit=0.008"
    "&b-2-unit=0.005&b-2-flat=2"
)


def months(now: datetime, count: int = 3) -> list[str]:
    """The last months that are over."""
    found = [calendar_month(now)]
    for _ in range(count):
        found.append(question.month_before(found[-1]))
    return [f"{month.start_at:%Y-%m}" for month in found[1:]]


@pytest.fixture
def demo(session: Session, tenant: str) -> str:
    """A tenant with customers who used something in the last three months."""
    use(session, tenant, some_usage(120, months(datetime.now(UTC))))
    return tenant


@pytest.fixture
def answer(engine: Engine, demo: str) -> Callable[[], None]:
    """What the worker does, when the test says so."""

    def work() -> None:
        with Session(engine) as session:
            waiting = [each.id for each in backtest.listed(session, demo)]
            for identifier in waiting:
                more = True
                while more:
                    with unit_of_work(session):
                        more = backtest.advance(session, demo, identifier, now=datetime.now(UTC))

    return work


def start(page: Page, address: str, tenant: str) -> None:
    page.goto(f"{address}{COMPARISON}&tenantId={tenant}")
    page.get_by_role("link", name="Try on real usage").click()
    expect(page.get_by_label("Paid today for api_calls")).to_have_value("a")
    expect(page.get_by_label("Tried out for api_calls")).to_have_value("b")
    page.get_by_role("button", name="Try on real usage").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New instead of Today")


def test_real_usage_is_priced_to_the_end(
    tabs: Tabs, sandbox_address: str, demo: str, answer: Callable[[], None]
) -> None:
    page = tabs.open()
    start(page, sandbox_address, demo)
    expect(page.get_by_role("status")).to_contain_text("customers")
    expect(page.get_by_role("progressbar")).to_be_visible()
    assert overflow(page) <= 0
    assert faults(tabs, page.url, looks=[(1280, "light")]) == []
    worker = threading.Thread(target=answer)
    worker.start()
    # No reload: the page asks again by itself.
    expect(page.get_by_role("status")).to_contain_text("Revenue goes from $")
    worker.join()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete this back-test")).to_be_visible()
    expect(page.locator(".plot canvas")).to_have_count(1)
    page.get_by_text("The plot as a table").click()
    expect(page.get_by_role("row", name="50 % less and beyond")).to_be_visible()
    expect(page.get_by_role("region", name="Most affected").locator("tbody tr")).to_have_count(20)
    with page.expect_download() as download:
        page.get_by_role("link", name="customers (CSV)").click()
    assert Path(download.value.path()).read_text().count("\n") >= 100
    page.get_by_role("link", name="Look at the prices of api_calls").click()
    expect(page.locator("#answer")).to_contain_text("At 1,000 units, Today costs the least")


def test_it_works_without_scripts(
    tabs: Tabs, sandbox_address: str, demo: str, answer: Callable[[], None]
) -> None:
    page = tabs.open(java_script_enabled=False)
    start(page, sandbox_address, demo)
    expect(page.get_by_role("status")).to_contain_text("Waiting to begin")
    answer()
    page.get_by_role("link", name="look again").click()
    expect(page.get_by_role("status")).to_contain_text("Revenue goes from $")
    page.get_by_role("button", name="Delete this back-test").click()
    expect(page.get_by_text("None yet.")).to_be_visible()


def test_axe_finds_nothing(
    tabs: Tabs, sandbox_address: str, demo: str, answer: Callable[[], None]
) -> None:
    page = tabs.open()
    start(page, sandbox_address, demo)
    answer()
    asking = COMPARISON.replace("/simulator?", "/simulator/backtest?")
    for url in (
        page.url,
        f"{sandbox_address}{asking}&tenantId={demo}",
        f"{sandbox_address}/simulator/backtest?tenantId={demo}",
    ):
        assert faults(tabs, url) == [], url
