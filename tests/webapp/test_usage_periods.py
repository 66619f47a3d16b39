"""Usage where metrics have billing periods of their own, as their subscriptions say."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.schedules import PlannedPeriod
from metering.counters import carry, periods
from metering.database import unit_of_work
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, assert_problem
from tests.webapp.test_usage_now import MIDDLE, current, project

ANCHORED = [datetime(2026, month, 10, 10, 23, 45, tzinfo=UTC) for month in (3, 4, 5)]
APRIL = {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}
OWN = {"start": "2026-04-10T10:23:45Z", "end": "2026-05-10T10:23:45Z"}


@pytest.fixture(scope="module")
def calendar() -> Clock:
    return Clock(MIDDLE)


@pytest.fixture
def april(make_app: AppMaker, calendar: Clock) -> FlaskClient:
    """The sandbox in the middle of April 2026."""
    return make_app(clock=calendar).test_client()


def anchored(session: Session, tenant: str, metric: str) -> None:
    """Give the customer's metric two months from the 10th at 10:23:45 on."""
    wanted = [PlannedPeriod(start, end, "si_1", "test") for start, end in pairwise(ANCHORED)]
    with unit_of_work(session):
        periods.replan(session, tenant, "cus_1", metric, wanted, now=MIDDLE)


def used(session: Session, tenant: str, *events: tuple[object, str, str]) -> None:
    """Count events: (quantity, ts, metric)."""
    rows = [entry(f"{ts}/{i}", n, ts, metric=m) for i, (n, ts, m) in enumerate(events)]
    put(session, tenant, rows, now=MIDDLE - timedelta(minutes=1))
    fold_all(session, tenant)


def test_each_metric_is_shown_in_its_own_current_period(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(
        session,
        tenant,
        (1, "2026-04-02T00:00:00Z", "api_calls"),
        (2, "2026-04-02T00:00:00Z", "bytes"),
        (4, "2026-04-10T10:23:44Z", "seats"),
        (8, "2026-04-10T10:23:45Z", "seats"),
    )
    anchored(session, tenant, "seats")
    shown = current(april, tenant)
    assert shown["period"] == APRIL
    by_name = {metric["name"]: metric for metric in shown["metrics"]}
    assert [by_name[name]["current"] for name in ("api_calls", "bytes", "seats")] == ["1", "2", "8"]
    assert by_name["seats"]["period"] == OWN
    assert "period" not in by_name["bytes"]
    answer = project(april, tenant)
    assert (answer["periodStart"], answer["periodEnd"]) == (APRIL["start"], APRIL["end"])
    lines = {line["metric"]: line for line in answer["lineItems"]}
    assert lines["seats"]["quantity"] == "8"
    assert lines["seats"]["periodStart"] == OWN["start"]
    assert lines["seats"]["periodEnd"] == OWN["end"]
    assert "periodStart" not in lines["api_calls"]


def test_a_period_of_ones_own_can_be_asked_for(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(session, tenant, (3, "2026-03-20T00:00:00Z", "seats"))
    anchored(session, tenant, "seats")
    answer = project(april, tenant, periodStart="2026-03-10T10:23:45Z")
    assert answer["periodEnd"] == OWN["start"]
    assert [line["quantity"] for line in answer["lineItems"]] == ["3"]
    asked = {"tenantId": tenant, "customerRef": "cus_1", "periodStart": "2026-03-11T00:00:00Z"}
    refused = april.post("/v1/usage/projection", json=asked)
    assert_problem(refused, 422)
    assert "2026-03-10T10:23:45Z" in refused.text
    # Nothing is used in the period of now, which is the subscription's nevertheless.
    empty = project(april, tenant)
    assert (empty["periodStart"], empty["periodEnd"]) == (OWN["start"], OWN["end"])
    assert empty["latestPeriod"] == {"start": "2026-03-10T10:23:45Z", "end": OWN["start"]}


def test_how_long_a_period_takes_events_is_shown_once_it_is_known(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(session, tenant, (8, "2026-04-12T00:00:00Z", "seats"))
    anchored(session, tenant, "seats")
    assert current(april, tenant)["metrics"][0]["effectiveLatenessSeconds"] is None
    with unit_of_work(session):
        session.execute(
            text("UPDATE billing_periods SET closes_at = end_at + interval '45 minutes'"
                 " WHERE tenant_id = :t"), {"t": tenant},
        )  # fmt: skip
    assert current(april, tenant)["metrics"][0]["effectiveLatenessSeconds"] == 2700


@pytest.mark.parametrize(("carry_over", "shown"), [(True, ["50"]), (False, [])])
def test_a_gauge_without_events_keeps_its_level_where_it_says_so(
    april: FlaskClient, session: Session, tenant: str, carry_over: bool, shown: list[str]
) -> None:
    with unit_of_work(session):
        changes = {"aggregation": "last", "carry_over": carry_over}
        metrics.edit(session, tenant, "seats", changes, now=MIDDLE)
    used(
        session,
        tenant,
        (20, "2026-01-20T00:00:00Z", "seats"),
        (50, "2026-02-20T00:00:00Z", "seats"),
        (1, "2026-04-02T00:00:00Z", "api_calls"),
    )
    found = [m["current"] for m in current(april, tenant)["metrics"] if m["name"] == "seats"]
    assert found == shown
    answer = project(april, tenant)
    lines = [line for line in answer["lineItems"] if line["metric"] == "seats"]
    assert [line["quantity"] for line in lines] == shown
    assert [line["projectedQuantity"] for line in lines] == shown
    assert any("carried over" in warning for warning in answer["warnings"]) is carry_over
    # An event in the period, of zero too, says anew what the level is.
    used(session, tenant, (0, "2026-04-03T00:00:00Z", "seats"))
    found = [m["current"] for m in current(april, tenant)["metrics"] if m["name"] == "seats"]
    assert found == ["0"]


def test_a_level_is_carried_from_the_latest_period_before(session: Session, tenant: str) -> None:
    used(
        session,
        tenant,
        (20, "2026-01-20T00:00:00Z", "seats"),
        (50, "2026-02-20T00:00:00Z", "seats"),
    )
    starts = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 9)]
    carried = [carry.carried(session, tenant, "cus_1", "seats", start) for start in starts]
    session.rollback()
    assert carried == [None, 20, 50, 50]
