"""What was used in the current period, and where it is heading."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog.period import calendar_month
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, assert_problem

PROJECTION, CURRENT = "/v1/usage/projection", "/v1/usage/current"
APRIL = "2026-04-01T00:00:00Z"
MIDDLE = datetime(2026, 4, 16, tzinfo=UTC)  # April has 30 days: half of it is over


@pytest.fixture(scope="module")
def calendar() -> Clock:
    return Clock(MIDDLE)


@pytest.fixture
def april(make_app: AppMaker, calendar: Clock) -> FlaskClient:
    """The sandbox in the middle of April 2026."""
    calendar.at = MIDDLE
    return make_app(clock=calendar).test_client()


def current(client: FlaskClient, tenant: str, customer: str = "cus_1") -> dict:
    answer = client.get(CURRENT, query_string={"tenantId": tenant, "customerRef": customer})
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def project(client: FlaskClient, tenant: str, **asked: object) -> dict:
    body = {"tenantId": tenant, "customerRef": "cus_1"} | asked
    answer = client.post(PROJECTION, json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def used(session: Session, tenant: str, *events: tuple[object, str, str | None]) -> None:
    """Count events: (quantity, ts, resource)."""
    rows = [
        entry(f"{ts}/{i}", quantity, ts, resource=resource)
        for i, (quantity, ts, resource) in enumerate(events)
    ]
    put(session, tenant, rows, now=MIDDLE - timedelta(minutes=1))
    fold_all(session, tenant)


FOUR = (
    ("10", "2026-04-01T00:00:00Z", "a"),
    ("0.1", "2026-04-03T00:00:00Z", "b"),
    ("0.2", "2026-04-02T00:00:00Z", None),
    ("7", "2026-03-31T23:59:59.999999Z", "c"),
)


@pytest.mark.parametrize(
    ("aggregation", "number", "projected"),
    [
        ("sum", "10.3", "20.6"),
        ("count", "3", "6"),
        ("max", "10", "10"),
        ("last", "0.1", "0.1"),
        ("unique", "2", "2"),
    ],
)
def test_each_metric_is_read_by_its_own_aggregation(
    april: FlaskClient, session: Session, tenant: str, aggregation: str, number: str, projected: str
) -> None:
    april.put(
        "/v1/metrics/api_calls",
        json={"tenantId": tenant, "aggregation": aggregation, "unit": "call", "displayName": "C"},
    )
    used(session, tenant, *FOUR)
    shown = current(april, tenant)
    assert shown["period"] == {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}
    [metric] = shown["metrics"]
    assert metric["current"] == number
    assert (metric["name"], metric["displayName"], metric["unit"], metric["aggregation"]) == (
        "api_calls", "C", "call", aggregation,
    )  # fmt: skip
    assert (metric["watermark"], metric["asOf"]) == ("2026-04-03T00:00:00Z", "2026-04-16T00:00:00Z")
    assert (metric["setAside"], metric["unfolded"]) == (0, 0)
    assert metric["effectiveLatenessSeconds"] is None
    [line] = project(april, tenant)["lineItems"]
    assert (line["quantity"], line["projectedQuantity"]) == (number, projected)


def test_what_waits_is_named_beside_the_number(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(session, tenant, *FOUR)
    waiting = MIDDLE - timedelta(seconds=90)
    put(session, tenant, [entry("w", 1, "2026-04-04T00:00:00Z")], now=waiting)
    shown = current(april, tenant)
    [metric] = shown["metrics"]
    assert (metric["current"], metric["unfolded"]) == ("10.3", 1)
    assert metric["asOf"] == "2026-04-15T23:58:30Z"
    assert shown["unfoldedIsLowerBound"] is False
    freshness = project(april, tenant)["freshness"]
    assert (freshness["asOf"], freshness["stalenessSeconds"]) == ("2026-04-15T23:58:30Z", 90)


def test_what_only_waits_is_not_hidden(april: FlaskClient, session: Session, tenant: str) -> None:
    put(session, tenant, [entry("w", 1, "2026-03-04T00:00:00Z")], now=MIDDLE - timedelta(seconds=1))
    shown = current(april, tenant)
    assert (shown["metrics"], shown["unfolded"]) == ([], 1)
    projected = project(april, tenant)
    assert (projected["lineItems"], projected["unfolded"]) == ([], 1)
    assert projected["latestPeriod"]["start"] == "2026-03-01T00:00:00Z"


def close_periods(session: Session, tenant: str) -> None:
    closed = "UPDATE periods SET closes_at = :at, closed_at = :at WHERE tenant_id = :t"
    session.execute(text(closed), {"at": MIDDLE - timedelta(seconds=30), "t": tenant})
    session.commit()


def test_a_customer_whose_events_were_all_set_aside_is_not_hidden(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("other", 1, APRIL, customer="cus_2")])
    fold_all(session, tenant)
    close_periods(session, tenant)
    used(session, tenant, ("5", "2026-04-05T00:00:00Z", None))
    [metric] = current(april, tenant)["metrics"]
    assert (metric["current"], metric["setAside"], metric["watermark"]) == ("0", 1, None)


def test_what_was_set_aside_is_named_beside_the_number(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(session, tenant, *FOUR)
    close_periods(session, tenant)
    used(session, tenant, ("5", "2026-04-05T00:00:00Z", None))
    [metric] = current(april, tenant)["metrics"]
    assert (metric["current"], metric["setAside"], metric["unfolded"]) == ("10.3", 1, 0)
    assert project(april, tenant)["lineItems"][0]["setAside"] == 1


def test_a_metric_without_a_price_is_never_priced_zero(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    used(session, tenant, *FOUR)
    shown = project(april, tenant)
    [line] = shown["lineItems"]
    for amount in (line["unitPrice"], line["total"], line["projectedTotal"]):
        assert amount is None
    assert "price" in line["warning"]
    assert shown["warnings"] == ["api_calls has no price; its usage is not in the totals"]
    for name in ("currency", "subtotal", "credits", "tax", "total", "projectedTotal"):
        assert shown[name] is None
    assert "latestPeriod" not in shown


def test_a_period_without_usage_names_the_last_one_that_has_some(
    april: FlaskClient, session: Session, tenant: str
) -> None:
    nothing = project(april, tenant)
    assert (nothing["lineItems"], nothing["latestPeriod"]) == ([], None)
    used(session, tenant, ("7", "2026-02-28T23:59:59Z", None))
    shown = project(april, tenant)
    assert shown["lineItems"] == []
    assert shown["latestPeriod"] == {
        "start": "2026-02-01T00:00:00Z", "end": "2026-03-01T00:00:00Z",
    }  # fmt: skip
    # What it names can be asked for as it stands, and what is over is not stretched.
    [line] = project(
        april, tenant, periodStart=shown["latestPeriod"]["start"],
        periodEnd=shown["latestPeriod"]["end"],
    )["lineItems"]  # fmt: skip
    assert (line["quantity"], line["projectedQuantity"]) == ("7", "7")


def test_a_period_that_has_not_begun_is_empty(april: FlaskClient, tenant: str) -> None:
    assert project(april, tenant, periodStart="2026-05-01T00:00:00Z")["lineItems"] == []


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"periodStart": "2026-04-02T00:00:00Z"}, "/periodStart"),
        ({"periodStart": "2026-04-01T00:00:00+02:00"}, "/periodStart"),
        ({"periodStart": "2026-04-01"}, "/periodStart"),
        ({"periodEnd": "2026-05-01T00:00:00Z"}, "/periodStart"),
        ({"periodStart": APRIL, "periodEnd": "2026-06-01T00:00:00Z"}, "/periodEnd"),
        ({"periodStart": APRIL, "periodEnd": APRIL}, "/periodEnd"),
        ({"periodStart": 1}, "/periodStart"),
        ({"customerRef": ""}, "/customerRef"),
        ({"customerRef": None}, "/customerRef"),
        ({"customerRef": "c" * 256}, "/customerRef"),
        ({"customerRef": "\ud800"}, "/customerRef"),
        ({"customer": "c"}, "/customer"),
    ],
)  # fmt: skip
def test_a_bad_question_is_refused(
    april: FlaskClient, tenant: str, asked: dict[str, object], pointer: str
) -> None:
    body = {"tenantId": tenant, "customerRef": "c"} | asked
    assert_problem(april.post(PROJECTION, json=body), 422, pointer=pointer)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b'{"a": 1' + b"0" * 5000]
)
def test_a_body_that_is_no_object_cannot_be_read(client: FlaskClient, body: bytes) -> None:
    assert_problem(client.post(PROJECTION, data=body, content_type="application/json"), 400)


def test_a_body_that_is_nested_absurdly_cannot_be_read(client: FlaskClient) -> None:
    body = b'{"a":' * 100_000
    assert_problem(client.post(PROJECTION, data=body, content_type="application/json"), 400)


def test_a_name_with_a_lone_surrogate_is_refused(client: FlaskClient, tenant: str) -> None:
    # The refusal quotes the name, and no answer can hold a lone surrogate.
    body = rb'{"tenantId": "t", "customerRef": "c", "\ud800": 1}'
    assert_problem(client.post(PROJECTION, data=body, content_type="application/json"), 422)


def test_a_repeated_name_is_refused(client: FlaskClient, tenant: str) -> None:
    # Of two tenants or two lateness windows in one body, one would be dropped without a word.
    body = '{"tenantId": "other", "tenantId": "%s", "customerRef": "c"}' % tenant  # noqa: UP031
    refused = client.post(PROJECTION, data=body, content_type="application/json")
    assert refused.status_code in (400, 422)


def test_a_large_body_is_refused(client: FlaskClient) -> None:
    body = b" " * (8 * 1024 * 1024 + 1)
    assert_problem(client.post(PROJECTION, data=body, content_type="application/json"), 413)


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.integers(0, 3_150_000_000))
def test_any_instant_lies_in_the_period_that_is_taken_for_it(seconds: int) -> None:
    now = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    period = calendar_month(now)
    assert period.start_at <= now < period.end_at
    assert calendar_month(period.start_at) == period
    assert calendar_month(period.end_at).start_at == period.end_at
    assert Decimal(period.elapsed_seconds(now)) >= 0


def test_the_clock_is_the_apps(april: FlaskClient, tenant: str) -> None:
    assert project(april, tenant)["periodStart"] == "2026-04-01T00:00:00Z"
