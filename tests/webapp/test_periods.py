"""A customer's billing periods: open, closing, closed, and what came too late for them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.counters import closing
from metering.counters.models import Adjustment
from metering.database import unit_of_work
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, assert_problem
from tests.webapp.test_usage_now import current

STARTS = [datetime(2026, month, 10, 10, 23, 45, tzinfo=UTC) for month in (1, 2, 3, 4, 5)]
NOW = datetime(2026, 4, 10, 18, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
FINAL = STARTS[2] + timedelta(hours=1)


@pytest.fixture
def client(make_app: AppMaker) -> FlaskClient:
    return make_app(clock=Clock(NOW)).test_client()


@pytest.fixture
def months(session: Session, tenant: str) -> None:
    """February's is closed, March's closing, April's open; and there is May's to come."""
    add(session, tenant, 1, closes_at=FINAL - QUARTER, closed_at=FINAL - timedelta(minutes=14),
        invoice_id="in_1", final_at=FINAL)  # fmt: skip
    add(session, tenant, 2, closes_at=STARTS[3] + timedelta(hours=48))
    add(session, tenant, 3)
    add(session, tenant, 4, start_at=STARTS[4], end_at=STARTS[4] + timedelta(days=31))
    put(session, tenant, [entry("january", 1, "2026-01-05T00:00:00Z")], now=NOW)
    put(session, tenant, [entry("late", 1, "2026-02-11T00:00:00Z")], now=NOW)
    put(session, tenant, [entry("now", 1, "2026-04-10T17:00:00Z")], now=NOW)
    fold_all(session, tenant)
    with unit_of_work(session):
        session.add(
            Adjustment(
                tenant_id=tenant, adjustment_id="adj_1", customer_ref="cus_1", metric="api_calls",
                period_start=STARTS[1], kind="delta", delta=1, reason="late", status="pending",
                origin="unbilled", created_at=NOW, created_by="stripemeter",
            )
        )  # fmt: skip


def add(session: Session, tenant: str, month: int, **changes: Any) -> None:
    values: dict[str, Any] = {
        "customer_ref": "cus_1", "metric": "api_calls", "item_id": "si_1", "mode": "test",
        "start_at": STARTS[month], "end_at": STARTS[min(month + 1, 4)],
    }  # fmt: skip
    with unit_of_work(session):
        session.add(BillingPeriod(tenant_id=tenant, **(values | changes)))


def ask(client: FlaskClient, tenant: str, **query: object) -> dict[str, Any]:
    asked = {"tenantId": tenant, "customerRef": "cus_1", **query}
    answer = client.get("/v1/usage/periods", query_string=asked)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.get_json()
    return shown


def test_each_period_says_how_far_it_is(client: FlaskClient, tenant: str, months: None) -> None:
    shown = ask(client, tenant)
    assert shown["nextCursor"] is None
    found = [(each["start"][:10], each["state"]) for each in shown["periods"]]
    assert found == [
        ("2026-04-10", "open"),
        ("2026-03-10", "closing"),
        ("2026-02-10", "closed"),
        ("2026-01-01", "closing"),
    ]
    _, closing, closed, month = shown["periods"]
    assert closed == {
        "metric": "api_calls",
        "start": "2026-02-10T10:23:45Z",
        "end": "2026-03-10T10:23:45Z",
        "state": "closed",
        "closesAt": "2026-03-10T11:08:45Z",
        "closedAt": "2026-03-10T11:09:45Z",
        "effectiveLatenessSeconds": 2700,
        "invoiceId": "in_1",
        "invoiceFinalAt": "2026-03-10T11:23:45Z",
        "setAside": 1,
        # The late event's own, and one of what no invoice bills.
        "pendingAdjustments": 2,
    }
    assert closing["effectiveLatenessSeconds"] == 172_800
    # A month that no subscription is bound to never closes.
    assert (month["end"], month["closesAt"]) == ("2026-02-01T00:00:00Z", None)


def test_the_list_is_paged_and_of_one_metric(
    client: FlaskClient, session: Session, tenant: str, months: None
) -> None:
    put(session, tenant, [entry("other", 1, "2026-01-02T00:00:00Z", metric="bytes")], now=NOW)
    fold_all(session, tenant)
    whole = ask(client, tenant)["periods"]
    assert [each["metric"] for each in whole[-2:]] == ["api_calls", "bytes"]
    found, cursor = [], {}
    for _ in range(9):
        shown = ask(client, tenant, limit=2, **cursor)
        found += shown["periods"]
        if shown["nextCursor"] is None:
            break
        cursor = {"cursor": shown["nextCursor"]}
    assert found == whole
    assert [each["metric"] for each in ask(client, tenant, metric="bytes")["periods"]] == ["bytes"]
    asked = {"tenantId": tenant, "customerRef": "cus_1", "cursor": "mine"}
    assert_problem(client.get("/v1/usage/periods", query_string=asked), 422, pointer="/cursor")


def test_the_number_of_the_present_says_how_far_its_period_is(
    client: FlaskClient, tenant: str, months: None
) -> None:
    [metric] = current(client, tenant)["metrics"]
    assert (metric["state"], metric["closesAt"], metric["closedAt"]) == ("open", None, None)


def test_nobody_has_no_periods(client: FlaskClient, tenant: str) -> None:
    assert ask(client, tenant, customerRef="nobody")["periods"] == []


def test_metrics_count_closings_and_what_waits(
    client: FlaskClient, session: Session, tenant: str, months: None
) -> None:
    def exposed() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line[0] != "#"}

    before = exposed()
    assert before["pending_adjustments"] >= 2
    with unit_of_work(session):
        session.query(Adjustment).filter_by(tenant_id=tenant).update({"status": "declined"})
        assert closing.close_due(session, tenant, now=STARTS[3] + timedelta(days=3)) == 1
    after = exposed()
    assert after["pending_adjustments"] == before["pending_adjustments"] - 2
    assert after["periods_closed_total"] == before["periods_closed_total"] + 1
