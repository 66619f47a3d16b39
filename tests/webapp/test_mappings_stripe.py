"""/v1/mappings and Stripe: what is refused, what is taken over, and how a mapping stands."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.catalog import customers
from metering.catalog.models import MetricMapping
from metering.database import unit_of_work
from metering.stripe import accounts, deltas, sync
from metering.stripe.answers import Summary
from metering.stripe.faults import StripeFault
from metering.stripe.models import Connection, Push
from metering.stripe.sync import Place
from metering.tenancy import locks
from tests.stripe_objects import MAY, item, meter, price, subscription
from tests.support import entry, fold_all, put, scalar
from tests.webapp.support import AppMaker, Clock, assert_problem
from webapp import stripe_access

NOW = datetime(2026, 5, 20, 10, 20, 30, tzinfo=UTC)
PAST = "2026-05-20T08:00:00Z"


@pytest.fixture(scope="module")
def calendar() -> Clock:
    return Clock(NOW)


@pytest.fixture
def may(make_app: AppMaker, calendar: Clock) -> FlaskClient:
    calendar.at = NOW
    return make_app(clock=calendar, stripe_test_key="sk_test_1").test_client()


@pytest.fixture
def place(session: Session, tenant: str) -> Place:
    """A test tenant's account with a meter, a price and a subscriber."""
    made = Place(tenant, "test", f"acct_{tenant[2:18].replace('-', '')}")
    with unit_of_work(session):
        accounts.bind(session, tenant, made.account_id, bound_by="test", now=NOW)
        sync.note_meters(session, made, [meter(), meter("mtr_2", "seats")], now=NOW)
        sync.note_prices(session, made, [price(), price("price_2", "mtr_2")], now=NOW)
        sync.note_subscriptions(session, made, [subscription()], now=NOW)
    return made


class Stripe:
    """Stands where the driver would: what Stripe has, by the hour."""

    def __init__(self) -> None:
        self.totals: list[Summary] = []
        self.minutes: dict[tuple[datetime, datetime], Decimal] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.fault: StripeFault | None = None

    def has(self, hour: int, value: str) -> None:
        start_at = NOW.replace(hour=hour, minute=0, second=0)
        self.totals.append(Summary(start_at, start_at + timedelta(hours=1), Decimal(value)))

    def summaries(self, *asked: Any, window: str | None) -> list[Summary]:
        if self.fault is not None:
            raise self.fault
        if window is None:
            start, end = asked[-2:]
            return [Summary(start, end, self.minutes[start, end])]
        self.asked.append(asked)
        return self.totals


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stripe]:
    made = Stripe()
    monkeypatch.setattr(stripe_access, "driver", lambda config: made)
    return made


def post(client: FlaskClient, place: Place, **asked: Any) -> TestResponse:
    body = {
        "tenantId": place.tenant_id, "metric": "calls", "active": True, "shadow": True,
        "stripeAccount": place.account_id, "shadowStripeAccount": place.account_id,
    }  # fmt: skip
    return client.post("/v1/mappings", json=body | asked)


def made(client: FlaskClient, place: Place, **asked: Any) -> dict[str, Any]:
    answer = post(client, place, **asked)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.get_json()
    return shown


@pytest.mark.parametrize("named", [{"meterId": "mtr_1"}, {"shadowPriceId": "price_1"}])
def test_the_events_name_is_found_by_meter_or_price(
    may: FlaskClient, place: Place, named: dict[str, str]
) -> None:
    shown = made(may, place, **named)
    assert shown["meterEventName"] == "calls"
    assert shown["destinations"]["shadow"]["state"] == "ready"


def test_a_metric_may_go_to_two_meters_but_to_each_once(may: FlaskClient, place: Place) -> None:
    made(may, place, meterEventName="calls")
    made(may, place, meterId="mtr_2")
    assert_problem(post(may, place, meterId="mtr_1"), 409, pointer="/effectiveFrom")
    assert_problem(post(may, place), 409, pointer="/effectiveFrom")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"window": "hour"}, "only the latest event of each hour"),
        ({"formula": "count"}, "aggregates by count"),
        ({"is_active": False}, "deactivated"),
    ],
)
def test_a_meter_that_would_lose_usage_is_refused_but_a_mapping_to_one_can_be_ended(
    may: FlaskClient, session: Session, place: Place, changes: dict[str, Any], why: str
) -> None:
    there = made(may, place, meterEventName="calls")
    with unit_of_work(session):
        sync.note_meters(session, place, [meter(**changes)], now=NOW)
    refused = post(may, place, metric="other", meterEventName="calls")
    assert why in assert_problem(refused, 409, pointer="/meterEventName")
    query = {"tenantId": place.tenant_id}
    shown = may.get(f"/v1/mappings/{there['id']}", query_string=query).get_json()
    assert shown["destinations"]["shadow"]["state"] == "meter_refused"
    ended = may.delete(f"/v1/mappings/{there['id']}", query_string=query)
    assert ended.status_code == 200


def test_a_foreign_account_is_refused_and_a_free_one_waits_to_be_bound(
    may: FlaskClient, session: Session, place: Place, stranger: str
) -> None:
    with unit_of_work(session):
        accounts.bind(session, stranger, f"{place.account_id}s", bound_by="test", now=NOW)
    theirs = {"meterEventName": "calls", "shadowStripeAccount": f"{place.account_id}s"}
    said = assert_problem(post(may, place, **theirs), 409, pointer="/shadowStripeAccount")
    assert stranger not in said
    free = {"meterEventName": "calls", "shadowStripeAccount": f"{place.account_id}f"}
    assert made(may, place, **free)["destinations"]["shadow"]["state"] == "unbound"


def test_how_a_mapping_stands_is_said(
    may: FlaskClient, make_app: AppMaker, calendar: Clock, session: Session, place: Place
) -> None:
    shown = made(may, place, meterEventName="calls")
    keyless = make_app(clock=calendar).test_client()

    def state(client: FlaskClient) -> tuple[str, str]:
        query = {"tenantId": place.tenant_id}
        read = client.get(f"/v1/mappings/{shown['id']}", query_string=query).get_json()
        where = read["destinations"]["shadow"]
        return where["state"], where["reason"]

    assert state(may)[0] == "ready"
    assert state(keyless) == ("no_key", "there is no test key: set STRIPE_TEST_KEY")
    with unit_of_work(session):
        session.execute(
            text("UPDATE mappings SET pushed_at = :at WHERE tenant_id = :t"),
            {"at": NOW, "t": place.tenant_id},
        )
    assert state(may)[0] == "sending"
    with unit_of_work(session):
        session.add(
            Connection(
                tenant_id=place.tenant_id, mode="test", account_id=place.account_id,
                halted_until=NOW + timedelta(minutes=1), halted_reason="the key was revoked",
            )
        )  # fmt: skip
    assert state(may) == ("halted", "the key was revoked")
    unknown = made(may, place, metric="other", meterEventName="no.such")
    assert unknown["destinations"]["shadow"]["state"] == "unmapped_meter"


def test_what_usage_went_by_keeps_its_meaning(
    may: FlaskClient, session: Session, place: Place
) -> None:
    shown = made(may, place, meterEventName="calls")
    with unit_of_work(session):
        session.execute(
            text("UPDATE mappings SET pushed_at = :at WHERE tenant_id = :t"),
            {"at": NOW, "t": place.tenant_id},
        )
    for changes, pointer in (
        ({"meterEventName": "seats"}, "/meterEventName"),
        ({"aggregation": "max"}, "/aggregation"),
        ({"shadowStripeAccount": None}, "/shadowStripeAccount"),
        ({"effectiveFrom": "2026-05-20T12:00:00Z"}, "/effectiveFrom"),
    ):
        body = {"tenantId": place.tenant_id} | changes
        refused = may.patch(f"/v1/mappings/{shown['id']}", json=body)
        assert "end it and create another" in assert_problem(refused, 409, pointer=pointer)
    body = {"tenantId": place.tenant_id, "effectiveUntil": "2026-06-01T00:00:00Z"}
    assert may.patch(f"/v1/mappings/{shown['id']}", json=body).status_code == 200


def test_where_usage_goes_out_a_mapping_begins_on_a_full_hour(
    may: FlaskClient, place: Place
) -> None:
    odd = {"effectiveFrom": "2026-06-01T00:30:00Z"}
    refused = post(may, place, meterEventName="calls", **odd)
    assert_problem(refused, 422, pointer="/effectiveFrom")
    made(may, place, **odd)


def test_the_past_is_taken_over_only_by_naming_exactly_what_stripe_has_of_it(
    may: FlaskClient, session: Session, place: Place, stripe: Stripe
) -> None:
    stripe.has(8, "3")
    stripe.has(9, "0.5")
    past = {"meterEventName": "calls", "effectiveFrom": PAST}
    said = assert_problem(post(may, place, **past), 409, pointer="/openingTotal")
    assert "3.5 already" in said
    assert_problem(post(may, place, **past, openingTotal="3"), 409, pointer="/openingTotal")
    assert scalar(session, "SELECT count(*) FROM mappings WHERE tenant_id = :t",
                  t=place.tenant_id) == 0  # fmt: skip
    shown = made(may, place, **past, openingTotal=3.5)
    assert shown["openingTotal"] == "3.5"
    mode, account, meter_id, customer, start, end = stripe.asked[-1]
    assert (mode, account, meter_id, customer) == ("test", place.account_id, "mtr_1", "cus_1")
    assert (start.hour, end.hour) == (8, 11)
    rows = session.execute(
        text("SELECT state, basis, quantity, extract(hour FROM segment_start)::int FROM pushes"
             " WHERE tenant_id = :t ORDER BY segment_start"),
        {"t": place.tenant_id},
    ).all()  # fmt: skip
    assert [tuple(row) for row in rows] == [
        ("adopted", "hour", Decimal(3), 8), ("adopted", "hour", Decimal("0.5"), 9),
    ]  # fmt: skip
    feeding = "SELECT customer_ref FROM stream_sources WHERE tenant_id = :t"
    assert scalar(session, feeding, t=place.tenant_id) == "cus_1"


def test_an_hour_in_which_a_billing_period_begins_is_taken_over_in_two(
    may: FlaskClient, session: Session, place: Place, stripe: Stripe
) -> None:
    begins = NOW.replace(hour=8, minute=6, second=40)
    at_six = begins.replace(second=0)
    with unit_of_work(session):
        late = subscription(
            item("si_2", start=begins, end=begins.replace(month=6), created=begins),
            id="sub_2", customer="cus_2", anchor_at=begins, started_at=begins,
        )  # fmt: skip
        sync.note_subscriptions(session, place, [late], now=NOW)
    stripe.has(8, "127")
    stripe.minutes[at_six.replace(minute=0), at_six] = Decimal(7)
    for key, quantity, minute in (("before", 7, 3), ("after", 150, 10)):
        used = entry(key, quantity, begins.replace(minute=minute), metric="calls", customer="cus_2")
        put(session, place.tenant_id, [used], now=NOW)
    fold_all(session, place.tenant_id)
    past = {"meterEventName": "calls", "effectiveFrom": PAST, "customerRef": "cus_2"}
    made(may, place, **past, openingTotal="127")
    with unit_of_work(session):
        turn = deltas.claim(session, place.tenant_id, now=NOW + timedelta(minutes=1))
    sent = [(claim.stamped_at, claim.quantity) for claim in turn.claims]
    assert sent == [(begins, Decimal(30))]
    taken = session.execute(
        select(Push.segment_start, Push.quantity)
        .where(Push.tenant_id == place.tenant_id, Push.state == "adopted")
        .order_by(Push.segment_start)
    ).all()
    assert [tuple(row) for row in taken] == [
        (at_six.replace(minute=0), Decimal(7)), (begins, Decimal(120)),
    ]  # fmt: skip


def test_a_peak_is_taken_over_for_the_subscriptions_own_period(
    may: FlaskClient, session: Session, place: Place, stripe: Stripe
) -> None:
    stripe.has(8, "3")
    made(may, place, meterEventName="calls", effectiveFrom=PAST, openingTotal="3",
         aggregation="max")  # fmt: skip
    [taken] = session.scalars(select(Push).where(Push.tenant_id == place.tenant_id))
    assert (taken.basis, taken.segment_start) == ("period", MAY)


def test_what_we_sent_ourselves_is_not_taken_over_again(
    may: FlaskClient, session: Session, place: Place, stripe: Stripe
) -> None:
    stripe.has(8, "3")
    past = {"meterEventName": "calls", "effectiveFrom": PAST}
    first = made(may, place, **past, openingTotal="3")
    with unit_of_work(session):
        row = session.get(MetricMapping, (place.tenant_id, first["id"]))
        assert row is not None
        row.effective_until = row.effective_from
    second = made(may, place, **past)
    assert second["openingTotal"] is None


def test_an_empty_past_needs_no_acknowledgement_and_nothing_to_ask_takes_none(
    may: FlaskClient, place: Place, stripe: Stripe
) -> None:
    made(may, place, meterEventName="calls", effectiveFrom=PAST)
    later = {"metric": "other", "meterEventName": "calls"}
    refused = post(may, place, **later, openingTotal="5")
    assert_problem(refused, 422, pointer="/openingTotal")


def test_a_past_that_cannot_be_asked_for_is_refused(
    may: FlaskClient, place: Place, stripe: Stripe
) -> None:
    stripe.fault = StripeFault("retry", "Stripe did not answer.")
    past = {"effectiveFrom": PAST}
    assert_problem(post(may, place, meterEventName="calls", **past), 503)
    unknown = post(may, place, meterEventName="no.such", **past)
    assert "stripemeter stripe sync" in assert_problem(unknown, 409, pointer="/effectiveFrom")


def test_an_older_mapping_cannot_be_led_to_a_meter_without_asking_stripe(
    may: FlaskClient, place: Place
) -> None:
    shown = made(may, place, effectiveFrom=PAST)
    body = {"tenantId": place.tenant_id, "meterEventName": "calls"}
    refused = may.patch(f"/v1/mappings/{shown['id']}", json=body)
    assert "end it and create another" in assert_problem(refused, 409, pointer="/meterEventName")


def test_a_new_metric_is_mapped_while_a_fold_first_sees_it(
    may: FlaskClient, place: Place, session: Session
) -> None:
    """The fold has the tenant's lock and makes the metric too: who waits must not have made it."""
    with unit_of_work(session):
        customers.edit(
            session, place.tenant_id, "ann", {"shadow_stripe_customer_id": "cus_1"}, now=NOW
        )
    with ThreadPoolExecutor(1) as pool:
        with unit_of_work(session):
            locks.lock(session, place.tenant_id)
            asked = pool.submit(post, may, place, metric="fresh", meterEventName="calls")
            while not asked.done() and not scalar_of(session, "NOT granted"):
                time.sleep(0.02)
            first_seen = (
                "INSERT INTO metrics (tenant_id, metric, created_at)"
                " VALUES (:t, 'fresh', now()) ON CONFLICT DO NOTHING"
            )
            session.execute(text(first_seen), {"t": place.tenant_id})
        assert asked.result(20).status_code == 201


def scalar_of(session: Session, which: str) -> int:
    """How many locks there are of that kind, within the transaction that is open."""
    return int(session.execute(text(f"SELECT count(*) FROM pg_locks WHERE {which}")).scalar_one())


def test_the_hour_that_has_begun_is_past_too(
    may: FlaskClient, place: Place, stripe: Stripe
) -> None:
    """Other code has reported its first minutes, and so would we."""
    stripe.has(10, "7")
    begun = {"meterEventName": "calls", "effectiveFrom": "2026-05-20T10:00:00Z"}
    assert_problem(post(may, place, **begun), 409, pointer="/openingTotal")
    assert made(may, place, **begun, openingTotal="7")["openingTotal"] == "7"
