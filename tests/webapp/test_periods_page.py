"""The page of a customer's billing periods, in words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.period import Span
from metering.counters.calendar import Listed
from metering.database import unit_of_work
from tests.webapp.test_periods import NOW, client, months
from tests.webapp.test_stripe_console import SignIn, plain, sign_in, text_of
from webapp.periods_console import sentences, views

__all__ = ["client", "months", "sign_in"]

PAGE = "/console/periods"
NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
FINAL = datetime(2026, 12, 3, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
OPEN = Listed("m", NOVEMBER, "open", True, None, None, None, None, 0, 0)
CLOSED = replace(
    OPEN, state="closed", closes_at=FINAL - QUARTER, closed_at=FINAL - QUARTER, final_at=FINAL
)
IN_TWO_DAYS = NOVEMBER.end_at + timedelta(hours=48)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            replace(CLOSED, set_aside=12, pending=1),
            "Closed on 3 Dec 2026, 11:45 UTC, 15 minutes before its invoice was final."
            " 12 events came too late; 1 adjustment waits for a decision.",
        ),
        (
            replace(CLOSED, closed_at=FINAL + timedelta(hours=3), pending=2),
            "Closed on 3 Dec 2026, 15:00 UTC, 3 hours after its invoice was final: that is when we"
            " heard of it. 2 adjustments wait for a decision.",
        ),
        (
            replace(CLOSED, closed_at=FINAL, set_aside=1),
            "Closed on 3 Dec 2026, 12:00 UTC, when its invoice was final. 1 event came too late,"
            " and what becomes of it is decided.",
        ),
        (
            replace(CLOSED, closed_at=IN_TWO_DAYS, final_at=None, set_aside=3, pending=2),
            "Closed on 3 Dec 2026, 00:00 UTC, 48 hours after its end; its invoice is not final yet."
            " 3 events came too late; 2 adjustments wait for a decision.",
        ),
        (
            replace(OPEN, closes_at=IN_TWO_DAYS),
            "Runs until 1 Dec 2026, 00:00 UTC; usage recorded before 3 Dec 2026, 00:00 UTC,"
            " 48 hours after its end, counts, unless its invoice is final sooner.",
        ),
        (OPEN, "Runs until 1 Dec 2026, 00:00 UTC; when it closes is not known yet."),
        (
            replace(OPEN, is_bound=False),
            "Runs until 1 Dec 2026, 00:00 UTC; no subscription bills it, so that it never closes.",
        ),
        (
            replace(OPEN, state="closing", is_bound=False, pending=1),
            "Ended on 1 Dec 2026, 00:00 UTC; no subscription bills it, so that late usage counts"
            " whenever it comes. 1 adjustment waits for a decision.",
        ),
        (
            replace(OPEN, state="closing"),
            "Ended on 1 Dec 2026, 00:00 UTC; late usage counts until Stripe says that its invoice"
            " is final.",
        ),
        (
            replace(OPEN, state="closing", closes_at=FINAL - QUARTER),
            "Ended on 1 Dec 2026, 00:00 UTC; usage recorded before 3 Dec 2026, 11:45 UTC,"
            " 59 hours after its end, still counts.",
        ),
    ],
)
def test_a_period_in_words(of: Listed, words: str) -> None:
    assert sentences.period(of) == words


def test_a_periods_name() -> None:
    assert sentences.title(NOVEMBER) == "November 2026"
    shifted = timedelta(hours=10)
    moved = Span(NOVEMBER.start_at + shifted, NOVEMBER.end_at + shifted)
    assert sentences.title(moved) == "1 Nov 10:00 to 1 Dec 2026 10:00"


def test_the_page_says_what_waits_and_leads_there(
    client: FlaskClient, session: Session, tenant: str, months: None
) -> None:
    with unit_of_work(session):
        customers.edit(session, tenant, "cus_1", {"name": "First & <Co>"}, now=NOW)
    page = text_of(client, PAGE, tenantId=tenant, customerRef="cus_1")
    assert "First & <Co>: 2 adjustments wait for a decision." in page
    assert "1 event came too late; 2 adjustments wait for a decision." in page
    html = client.get(PAGE, query_string={"tenantId": tenant, "customerRef": "cus_1"}).text
    assert f"/console/adjustments?tenantId={tenant}&customerRef=cus_1" in unescape(html)


def test_the_page_asks_whose(client: FlaskClient, tenant: str) -> None:
    assert "Whose billing periods?" in text_of(client, PAGE, tenantId=tenant)
    assert "nobody has no billing periods yet." in text_of(
        client, PAGE, tenantId=tenant, customerRef="nobody"
    )
    answer = client.get(PAGE, query_string={"tenantId": tenant, "customerRef": "x" * 256})
    assert answer.status_code == 422
    assert "at most 255 characters" in plain(answer.text)


def test_a_long_list_is_paged(
    client: FlaskClient, tenant: str, months: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "ROWS", 3)
    asked = {"tenantId": tenant, "customerRef": "cus_1"}
    first = client.get(PAGE, query_string=asked).text
    assert "January 2026" not in first
    [older] = [line for line in first.splitlines() if 'rel="next"' in line]
    second = client.get(unescape(older.split('href="')[1].split('"')[0])).text
    assert "January 2026" in second
    assert "The newest" in second


def test_a_tenants_periods_are_shown_to_its_own_people(
    sign_in: SignIn, tenant: str, stranger: str, months: None
) -> None:
    page = sign_in(tenant, "support").get(PAGE, query_string={"customerRef": "cus_1"}).text
    assert "/console/adjustments" in page
    other = sign_in(stranger, "operator")
    assert "cus_1 has no billing periods" in text_of(other, PAGE, customerRef="cus_1")
    assert other.get(PAGE, query_string={"tenantId": tenant}).status_code == 403
