"""What happens to a taken webhook: Stripe is asked again, and its answer is written down."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from jobs import schedule, stripe_calls, webhooks
from jobs.runtime import hints
from metering.catalog.mirror import (
    StripeCustomer,
    StripeInvoice,
    StripeMeter,
    StripePrice,
    SubscriptionItem,
)
from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from metering.stripe import webhooks as taken
from metering.stripe.calls import Calls
from metering.stripe.faults import StripeFault
from metering.stripe.models import Push, PushStream, Unsent, WebhookDelivery
from metering.stripe.webhooks import Notice
from tests.stripe_setup import Connected, FakeStripe, add_mapping, add_meter, connect, push_all
from tests.support import entry, fold_all, put

Json = dict[str, Any]


class Told(Calls):
    """Stripe, as far as it has been told: objects by path. What it does not know is gone."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.asked: list[tuple[str, str | None, str]] = []
        self.fault: StripeFault | None = None

    def request(
        self,
        mode: str,
        account: str | None,
        method: str,
        path: str,
        params: Mapping[str, Any],
        **_: Any,
    ) -> Json:
        self.asked.append((mode, account, path))
        if self.fault is not None:
            raise self.fault
        if path not in self.objects:
            raise StripeFault("gone", f"No such object: {path}", answered=True, status=404)
        return self.objects[path]

    @property
    def paths(self) -> list[str]:
        return [path for _, _, path in self.asked]


@pytest.fixture
def stripe(process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setattr(stripe_calls, "driver", lambda: made)
    return made


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    made = connect(session, now=now)
    add_meter(session, made, "api_calls", fetched_at=now - timedelta(days=1))
    add_mapping(session, made)
    return made


@pytest.fixture
def take(session: Session, acme: Connected) -> Callable[..., str]:
    """Take an event as the door does; its id."""
    count = 0

    def do(type: str, object_id: str | None, *, mode: str = "live") -> str:
        nonlocal count
        count += 1
        notice = Notice(f"evt_{count}", type, mode, acme.account_id, object_id)
        with unit_of_work(session):
            taken.take(session, acme.tenant_id, notice, acme.account_id, now=datetime.now(UTC))
        return notice.event_id

    return do


def handle(acme: Connected, event_id: str, mode: str = "live") -> None:
    webhooks.handle(acme.tenant_id, mode, event_id)


def delivery(session: Session, acme: Connected, event_id: str) -> WebhookDelivery:
    session.rollback()
    return session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.tenant_id == acme.tenant_id, WebhookDelivery.event_id == event_id)
        .execution_options(populate_existing=True)
    ).one()


def only(session: Session, acme: Connected, model: Any) -> Any:
    session.rollback()
    return session.scalars(
        select(model)
        .where(model.tenant_id == acme.tenant_id)
        .execution_options(populate_existing=True)
    ).one()


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def price(**changes: Any) -> Json:
    return {
        "id": "price_1", "object": "price", "active": True, "currency": "usd",
        "billing_scheme": "per_unit", "unit_amount": 5, "unit_amount_decimal": "5",
        "product": "prod_1", "livemode": True,
        "recurring": {
            "interval": "month", "interval_count": 1, "usage_type": "metered",
            "meter": "mtr_api_calls_live",
        },
    } | changes  # fmt: skip


def subscription(start: datetime, end: datetime, **changes: Any) -> Json:
    item = {
        "id": "si_1", "price": price(), "current_period_start": seconds(start),
        "current_period_end": seconds(end), "created": seconds(start),
    }  # fmt: skip
    return {
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "active",
        "billing_cycle_anchor": seconds(start), "start_date": seconds(start),
        "created": seconds(start), "items": {"data": [item], "has_more": False},
        "metadata": {}, "livemode": True,
    } | changes  # fmt: skip


def invoice(start: datetime, end: datetime, **changes: Any) -> Json:
    return {
        "id": "in_1", "object": "invoice", "customer": "cus_1", "status": "draft",
        "parent": {"subscription_details": {"subscription": "sub_1"}}, "currency": "usd",
        "subtotal": 0, "total": 0, "period_start": seconds(start), "period_end": seconds(end),
        "created": seconds(end), "automatically_finalizes_at": seconds(end) + 7200,
        "auto_advance": True, "lines": {"data": [], "has_more": False}, "livemode": True,
    } | changes  # fmt: skip


@pytest.fixture
def billed(stripe: Told, now: datetime) -> tuple[datetime, datetime]:
    """Stripe knows a subscription whose first period has just ended; the period's span."""
    end = now.replace(microsecond=0) - timedelta(minutes=5)
    start = end - timedelta(days=30)
    stripe.objects["/v1/prices/price_1"] = price()
    stripe.objects["/v1/subscriptions/sub_1"] = subscription(start, end)
    return start, end


def periods(session: Session, acme: Connected, start: datetime) -> BillingPeriod:
    session.rollback()
    return session.scalars(
        select(BillingPeriod)
        .where(BillingPeriod.tenant_id == acme.tenant_id, BillingPeriod.start_at == start)
        .execution_options(populate_existing=True)
    ).one()


def use(session: Session, acme: Connected, quantity: int, at: datetime) -> None:
    put(session, acme.tenant_id, [entry(f"{quantity}-{at}", quantity, at)])
    fold_all(session, acme.tenant_id)


def test_a_subscription_is_read_with_its_price_and_gives_the_periods(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
) -> None:
    use(session, acme, 3, billed[0] + timedelta(days=1))
    event_id = take("customer.subscription.created", "sub_1")
    handle(acme, event_id)
    assert stripe.paths == ["/v1/subscriptions/sub_1", "/v1/prices/price_1"]
    assert {(mode, account) for mode, account, _ in stripe.asked} == {("live", acme.account_id)}
    item = only(session, acme, SubscriptionItem)
    assert (item.item_id, item.current_start) == ("si_1", billed[0])
    assert only(session, acme, StripePrice).definition["unitPrice"] == "0.05"
    period = periods(session, acme, billed[0])
    assert (period.end_at, period.item_id) == (billed[1], "si_1")
    assert period.closes_at == billed[1] + timedelta(hours=48)
    assert delivery(session, acme, event_id).handled_at is not None
    assert delivery(session, acme, event_id).error is None


def test_whatever_the_order_what_stripe_says_last_stays(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
) -> None:
    deleted = take("customer.subscription.deleted", "sub_1")
    created = take("customer.subscription.created", "sub_1")
    stripe.objects["/v1/subscriptions/sub_1"] = subscription(
        *billed, status="canceled", ended_at=seconds(billed[1]), canceled_at=seconds(billed[1])
    )
    handle(acme, deleted)
    handle(acme, created)
    item = only(session, acme, SubscriptionItem)
    assert (item.status, item.ended_at) == ("canceled", billed[1])
    # Neither a third delivery nor a job that runs twice asks Stripe again.
    asked = len(stripe.asked)
    handle(acme, created)
    handle(acme, deleted)
    assert len(stripe.asked) == asked


def test_a_draft_sends_what_is_left_before_others_and_wakes_the_pushes(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
    redis_url: str,
) -> None:
    use(session, acme, 3, billed[0] + timedelta(days=20))
    handle(acme, take("customer.subscription.created", "sub_1"))
    with unit_of_work(session):
        session.execute(
            update(Unsent)
            .where(Unsent.tenant_id == acme.tenant_id)
            .values(due_at=datetime.now(UTC) + timedelta(hours=1), is_urgent=False)
        )
    with redis.Redis.from_url(redis_url) as connection:
        connection.delete(f"sm:push:{acme.tenant_id}")
        stripe.objects["/v1/invoices/in_1"] = invoice(*billed)
        handle(acme, take("invoice.created", "in_1"))
        assert connection.exists(f"sm:push:{acme.tenant_id}")
    row = only(session, acme, Unsent)
    assert row.is_urgent
    assert row.due_at <= datetime.now(UTC)
    period = periods(session, acme, billed[0])
    assert period.invoice_id == "in_1"
    assert period.closes_at == billed[1] + timedelta(minutes=105)
    # Finalized and then deleted from our view: what is final stays.
    stripe.objects["/v1/invoices/in_1"] = invoice(
        *billed, status="open", status_transitions={"finalized_at": seconds(billed[1]) + 7200}
    )
    handle(acme, take("invoice.finalized", "in_1"))
    period = periods(session, acme, billed[0])
    assert period.final_at == billed[1] + timedelta(hours=2)
    assert period.closed_at is not None


def test_an_invoice_that_comes_before_its_subscription_waits_for_it(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
) -> None:
    use(session, acme, 3, billed[0] + timedelta(days=20))
    stripe.objects["/v1/invoices/in_1"] = invoice(*billed)
    handle(acme, take("invoice.created", "in_1"))
    handle(acme, take("customer.subscription.created", "sub_1"))
    assert periods(session, acme, billed[0]).invoice_id == "in_1"
    assert only(session, acme, Unsent).is_urgent


def test_what_stripe_does_not_know_any_more_is_marked(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
) -> None:
    stripe.objects["/v1/invoices/in_1"] = invoice(*billed)
    handle(acme, take("customer.subscription.created", "sub_1"))
    handle(acme, take("invoice.created", "in_1"))
    stripe.objects.clear()
    for type, object_id in (
        ("invoice.deleted", "in_1"),
        ("customer.subscription.deleted", "sub_1"),
        ("billing.meter.updated", "mtr_api_calls_live"),
    ):
        event_id = take(type, object_id)
        handle(acme, event_id)
        assert delivery(session, acme, event_id).handled_at is not None
    assert only(session, acme, StripeInvoice).status == "deleted"
    assert only(session, acme, SubscriptionItem).ended_at is not None
    assert not only(session, acme, StripeMeter).is_active


def test_a_customer_is_read_with_whose_it_is(
    session: Session, acme: Connected, stripe: Told, take: Callable[..., str]
) -> None:
    stripe.objects["/v1/customers/cus_9"] = {
        "id": "cus_9", "object": "customer", "metadata": {"stripemeter_customer_ref": "globex"},
    }  # fmt: skip
    handle(acme, take("customer.created", "cus_9"))
    assert only(session, acme, StripeCustomer).customer_ref == "globex"
    stripe.objects["/v1/customers/cus_9"] = {"id": "cus_9", "object": "customer", "deleted": True}
    handle(acme, take("customer.deleted", "cus_9"))
    row = only(session, acme, StripeCustomer)
    assert (row.customer_ref, row.is_deleted) == ("globex", True)


@pytest.mark.parametrize("kind", ["retry", "auth", "rejected"])
def test_without_an_answer_it_is_tried_again_later(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
    kind: Any,
) -> None:
    stripe.fault = StripeFault(kind, "not now", status=503)
    event_id = take("customer.subscription.created", "sub_1")
    handle(acme, event_id)
    row = delivery(session, acme, event_id)
    assert (row.handled_at, row.error, row.attempts) == (None, "not now", 1)
    assert row.due_at is not None
    assert row.due_at > datetime.now(UTC)
    handle(acme, event_id)
    assert len(stripe.asked) == 1, "not before it is due"


def test_the_sweep_takes_up_what_was_missed_even_without_redis(
    session: Session,
    acme: Connected,
    stripe: Told,
    billed: tuple[datetime, datetime],
    take: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh, missed = take("price.updated", "price_1"), take("price.created", "price_1")
    with unit_of_work(session):
        # Those of other tests are not of this one.
        session.execute(
            text("DELETE FROM webhook_deliveries WHERE tenant_id <> :t"), {"t": acme.tenant_id}
        )
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.tenant_id == acme.tenant_id, WebhookDelivery.event_id == missed)
            .values(due_at=datetime.now(UTC) - timedelta(minutes=1))
        )
    enqueued: list[str] = []
    monkeypatch.setattr(hints(), "handle_webhook", lambda *named: enqueued.append(named[2]) or True)
    webhooks.sweep()
    assert enqueued == [missed]
    assert stripe.asked == []
    monkeypatch.setattr(hints(), "handle_webhook", lambda *named: False)
    webhooks.sweep()
    assert delivery(session, acme, missed).handled_at is not None
    assert delivery(session, acme, fresh).handled_at is None
    assert webhooks.sweep in [task.run for task in schedule.tasks()]


def pushed(session: Session, acme: Connected) -> str:
    """The identifier of a push that Stripe has accepted."""
    use(session, acme, 3, datetime.now(UTC) - timedelta(hours=2))
    push_all(session, acme, FakeStripe(), now=datetime.now(UTC))
    identifier: str = only(session, acme, Push).identifier
    session.rollback()
    return identifier


def report(code: str, identifier: str, related: Json | None) -> Json:
    now = datetime.now(UTC)
    return {
        "id": "evt_1", "object": "v2.core.event", "livemode": True, "created": now.isoformat(),
        "type": "v1.billing.meter.error_report_triggered", "related_object": related,
        "data": {
            "validation_start": (now - timedelta(minutes=1)).isoformat(),
            "validation_end": now.isoformat(),
            "reason": {
                "error_count": 1,
                "error_types": [
                    {
                        "code": code, "error_count": 1,
                        "sample_errors": [
                            {"error_message": "no", "request": {"identifier": identifier}}
                        ],
                    }
                ],
            },
        },
    }  # fmt: skip


def meter(**changes: Any) -> Json:
    return {
        "id": "mtr_api_calls_live", "object": "billing.meter", "event_name": "api_calls",
        "display_name": "calls", "default_aggregation": {"formula": "sum"}, "status": "active",
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "value_settings": {"event_payload_key": "value"}, "event_time_window": None,
    } | changes  # fmt: skip


def test_an_error_report_is_fetched_and_reopens_what_it_names(
    session: Session, acme: Connected, stripe: Told, take: Callable[..., str]
) -> None:
    identifier = pushed(session, acme)
    stripe.objects["/v2/core/events/evt_1"] = report(
        "archived_meter", f"{identifier}~1", {"id": "mtr_api_calls_live", "type": "billing.meter"}
    )
    stripe.objects["/v1/billing/meters/mtr_api_calls_live"] = meter(status="inactive")
    event_id = take("v1.billing.meter.error_report_triggered", "mtr_api_calls_live")
    assert event_id == "evt_1"
    handle(acme, event_id)
    assert only(session, acme, Push).state == "rejected"
    assert only(session, acme, PushStream).blocked_kind == "archived_meter"
    assert not only(session, acme, StripeMeter).is_active
    assert delivery(session, acme, event_id).handled_at is not None


def test_where_no_meter_was_found_all_are_read_again(
    session: Session, acme: Connected, stripe: Told, take: Callable[..., str]
) -> None:
    identifier = pushed(session, acme)
    stripe.objects["/v2/core/events/evt_1"] = report("no_meter", identifier, None)
    listed = meter(id="mtr_other", event_name="other")
    stripe.objects["/v1/billing/meters"] = {"object": "list", "data": [listed], "has_more": False}
    handle(acme, take("v1.billing.meter.no_meter_found", None))
    assert only(session, acme, Push).state == "rejected"
    session.rollback()
    names = session.scalars(
        select(StripeMeter.event_name).where(StripeMeter.tenant_id == acme.tenant_id)
    )
    assert set(names) == {"api_calls", "other"}
