"""The walk of one event names the first step that is not done, and says why in a sentence."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.catalog.mirror import StripeInvoice
from metering.catalog.models import BillingPeriod
from metering.counters import fold
from metering.counters.models import Adjustment, DeadLetter, SetAside, Void
from metering.database import unit_of_work
from metering.errors import NotFoundError
from metering.ledger.models import Unfolded
from metering.proof import trail
from metering.proof.steps import Step
from metering.proof.trail import Calling, Trail
from metering.stripe.claims import Outcome
from metering.stripe.models import Connection, Push
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all, push_once
from tests.support import entry, put

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CALLS = Calling(None, {"live": None, "test": None})


@pytest.fixture
def at() -> datetime:
    return NOON + timedelta(minutes=30)


@pytest.fixture
def bare(session: Session, at: datetime) -> Connected:
    """A live tenant with an account, and nothing mapped."""
    return connect(session, now=at)


@pytest.fixture
def acme(session: Session, bare: Connected) -> Connected:
    return priced(session, bare, is_active=True)


def use(
    session: Session, to: Connected, key: str = "e", ts: datetime = NOON, customer: str = "cus_1"
) -> None:
    put(session, to.tenant_id, [entry(key, 120, ts, customer=customer, source="api")], now=ts)
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=ts)


def walk(
    session: Session, to: Connected, now: datetime, key: str = "e", calls: Calling = CALLS
) -> Trail:
    session.rollback()
    found = trail.walk(session, to.tenant_id, key, calls, now=now)
    for step in every(found):
        assert step.sentence.endswith("."), step.sentence
        assert step.sentence[0].isupper() or step.sentence.startswith("map_"), step.sentence
        assert "None" not in step.sentence, step.sentence
    return found


def every(found: Trail) -> list[Step]:
    return [*found.steps, *(step for lane in found.lanes for step in lane.steps)]


def first(found: Trail) -> tuple[str, str]:
    step = found.first_not_done
    assert step is not None
    return step.step, step.status


def statuses(found: Trail, lane: int = 0) -> dict[str, str]:
    return {step.step: step.status for step in (*found.steps, *found.lanes[lane].steps)}


def bill(session: Session, to: Connected, *, invoice: str | None = None, **more: Any) -> None:
    """November is a period of a live subscription, billed by an invoice where there is one."""
    november = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    with unit_of_work(session):
        session.merge(
            BillingPeriod(
                tenant_id=to.tenant_id, customer_ref="cus_1", metric="api_calls", mode="live",
                start_at=november[0], end_at=november[1], item_id="si_1", invoice_id=invoice,
                **{name: more.pop(name) for name in ("final_at", "closed_at", "closes_at")
                   if name in more},
            )
        )  # fmt: skip
        if invoice is not None:
            session.merge(
                StripeInvoice(
                    tenant_id=to.tenant_id, mode="live", account_id=to.account_id,
                    invoice_id=invoice, stripe_customer="cus_1", subscription_id="sub_1",
                    period_start=november[0], period_end=november[1], fetched_at=november[1],
                    **more,
                )
            )  # fmt: skip


def test_an_event_that_is_not_counted_yet_waits(
    session: Session, acme: Connected, at: datetime
) -> None:
    put(session, acme.tenant_id, [entry("e", 120, NOON, source="api")], now=at)
    found = walk(session, acme, at)
    assert found.status == "unfolded"
    assert first(found) == ("counter", "waiting")
    received, ledger, _ = found.steps
    assert (received.at, received.facts["source"]) == (at, "api")
    assert ledger.facts["quantity"] == 120
    assert statuses(found) == {
        "received": "done", "ledger": "done", "counter": "waiting", "price": "done",
        "push": "waiting", "acceptance": "waiting", "invoice": "waiting",
    }  # fmt: skip


def test_an_event_nobody_knows_is_not_walked(
    session: Session, acme: Connected, at: datetime, tenant: str
) -> None:
    put(session, tenant, [entry("theirs")])
    for key in ("never", "theirs"):
        with pytest.raises(NotFoundError):
            trail.walk(session, acme.tenant_id, key, CALLS, now=at)


def test_a_metric_without_a_price_stops_there(
    session: Session, bare: Connected, at: datetime
) -> None:
    use(session, bare)
    found = walk(session, bare, at)
    assert found.status == "counted"
    assert first(found) == ("price", "stopped")
    counter = found.steps[2]
    assert (counter.facts["total"], counter.facts["period_state"]) == (120, "open")
    assert "no price is mapped to this metric" in found.first_not_done.sentence


def test_usage_goes_all_the_way_to_a_final_invoice(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme)
    assert first(walk(session, acme, at)) == ("push", "waiting")
    push_all(session, acme, FakeStripe(), now=at)
    found = walk(session, acme, at)
    assert first(found) == ("invoice", "stopped")
    assert "No subscription of cus_1 is known that bills api_calls" in found.first_not_done.sentence
    [push] = found.lanes[0].steps[1].facts["pushes"]
    assert (push["state"], push["quantity"]) == ("settled", 120)
    assert push["identifier"]
    bill(session, acme)
    found = walk(session, acme, at)
    assert first(found) == ("invoice", "waiting")
    assert "1 Dec 2026, 00:00 UTC" in found.first_not_done.sentence
    december = datetime(2026, 12, 1, 1, tzinfo=UTC)
    assert "its invoice is not known yet" in walk(session, acme, december).first_not_done.sentence
    bill(session, acme, invoice="in_1", status="draft", finalizes_at=december + HOUR)
    found = walk(session, acme, december)
    assert first(found) == ("invoice", "waiting")
    assert (
        "still a draft. Stripe finalizes it on 1 Dec 2026, 02:00" in found.first_not_done.sentence
    )
    final = december + HOUR
    bill(session, acme, invoice="in_1", status="paid", final_at=final)
    found = walk(session, acme, final + HOUR)
    assert found.first_not_done is None
    assert set(statuses(found).values()) == {"done"}
    assert found.steps[2].facts["period_state"] == "closed"
    invoice = found.lanes[0].steps[-1]
    assert (invoice.facts["invoice_id"], invoice.facts["reached"]) == ("in_1", True)


def test_what_reached_stripe_after_the_invoice_is_not_on_it(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme)
    push_all(session, acme, FakeStripe(), now=at)
    bill(session, acme, invoice="in_1", status="paid", final_at=at - HOUR)
    found = walk(session, acme, at + HOUR)
    assert first(found) == ("invoice", "stopped")
    assert "only after invoice in_1 had become final" in found.first_not_done.sentence
    assert found.first_not_done.facts["late_quantity"] == 120


def test_a_customer_without_a_place_in_stripe_is_named(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme, customer="globex")
    for _ in range(2):  # first as the mapping says, then as it is written down
        found = walk(session, acme, at)
        assert first(found) == ("push", "stopped")
        assert found.first_not_done.sentence == (
            "It is not sent to Stripe: it is not known which customer of Stripe globex is in live"
            " mode."
        )
        assert "set its stripeCustomerId" in found.first_not_done.facts["way_out"]
        push_all(session, acme, FakeStripe(), now=at)


def test_usage_before_the_mapping_is_not_sent(
    session: Session, bare: Connected, at: datetime
) -> None:
    priced(session, bare, effective_from=NOON + HOUR, is_active=True)
    use(session, bare)
    found = walk(session, bare, at)
    assert first(found) == ("push", "stopped")
    assert "before the mapping to Stripe begins, on 10 Nov 2026, 13:00" in (
        found.first_not_done.sentence
    )


@pytest.mark.parametrize(
    ("said", "step", "status", "words"),
    [
        ("rejected", "push", "stopped", "Stripe refuses what is sent: no such customer"),
        ("auth", "push", "stopped", "Stripe cannot be reached: no such customer"),
        ("duplicate", "acceptance", "waiting", "Whether Stripe took it is not known"),
    ],
)
def test_what_stripe_refuses_or_leaves_open_is_said(
    session: Session, acme: Connected, at: datetime, said: Any, step: str, status: str, words: str
) -> None:
    use(session, acme)
    stripe = FakeStripe()
    stripe.next = [Outcome(said, "no such customer", status=400)] * 2
    push_once(session, acme, stripe, now=at)
    found = walk(session, acme, at)
    assert first(found) == (step, status)
    assert words in found.first_not_done.sentence


@pytest.mark.parametrize(
    ("values", "step", "status", "words"),
    [
        ({"state": "confirmed", "confirmed_at": NOON + HOUR}, "invoice", "stopped", "subscription"),
        ({"state": "suspect"}, "acceptance", "stopped", "Stripe may have dropped it after all"),
        ({"error": "the hour adds up to 7"}, "acceptance", "stopped", "is another: the hour adds"),
        ({"state": "claimed", "settled_at": None}, "push", "waiting", "on its way to Stripe"),
    ],
)
def test_what_became_of_a_push_is_said(
    session: Session,
    acme: Connected,
    at: datetime,
    values: dict[str, Any],
    step: str,
    status: str,
    words: str,
) -> None:
    use(session, acme)
    push_all(session, acme, FakeStripe(), now=at)
    with unit_of_work(session):
        session.execute(update(Push).where(Push.tenant_id == acme.tenant_id).values(**values))
    found = walk(session, acme, at)
    assert first(found) == (step, status)
    assert words in found.first_not_done.sentence


def test_usage_that_no_invoice_would_bill_is_named(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme, ts=NOON - timedelta(days=40))
    push_all(session, acme, FakeStripe(), now=at)
    found = walk(session, acme, at)
    assert first(found) == ("push", "stopped")
    assert found.first_not_done.facts["kind"] == "unsendable"
    assert found.first_not_done.facts["unsendable_quantity"] == 120


def test_without_a_key_nothing_is_sent_and_that_is_said(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme)
    calls = Calling(None, {"live": "there is no live key: set STRIPE_LIVE_KEY", "test": None})
    found = walk(session, acme, at, calls=calls)
    assert first(found) == ("push", "stopped")
    assert "there is no live key" in found.first_not_done.sentence


def test_a_shadow_is_a_way_of_its_own(session: Session, bare: Connected, at: datetime) -> None:
    acme = priced(session, bare, is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1"}
        customers.edit(session, acme.tenant_id, "cus_1", told, now=at)
    use(session, acme)
    push_all(session, acme, FakeStripe(), now=at)
    with unit_of_work(session):
        session.add(
            Connection(
                tenant_id=acme.tenant_id, mode="test", account_id="acct_other", halted_kind="auth",
                halted_reason="x", halted_until=at, failures=1,
            )
        )  # fmt: skip
    found = walk(session, acme, at)
    assert [lane.name for lane in found.lanes] == ["live", "shadow"]
    assert [lane.mode for lane in found.lanes] == ["live", "test"]
    for lane in found.lanes:
        assert [step.status for step in lane.steps[:3]] == ["done"] * 3
    assert found.lanes[1].steps[3].status == "not_applicable"
    assert first(found) == ("invoice", "stopped")
    assert found.lanes[1].first_not_done is None


def test_a_metric_that_is_only_shadow_is_on_no_bill(
    session: Session, bare: Connected, at: datetime
) -> None:
    acme = priced(session, bare, is_active=False, is_shadow=True)
    use(session, acme)
    found = walk(session, acme, at)
    assert first(found) == ("price", "stopped")
    assert "shadow, a test that nobody pays" in found.first_not_done.sentence


@pytest.mark.parametrize(
    ("status", "disposition", "counts", "words"),
    [
        ("pending", None, "waiting", "Somebody must decide whether it counts after all"),
        ("approved", "apply", "done", "That was approved by ann on 12 Nov 2026"),
        ("approved", "credit_note", "stopped", "to be settled by a credit note"),
        ("declined", None, "stopped", "It was declined by ann on 12 Nov 2026, 12:00 UTC (enough)"),
        ("reverted", "apply", "stopped", "Its approval was taken back by ann"),
    ],
)
def test_a_set_aside_event_tells_of_its_decision(
    session: Session,
    acme: Connected,
    at: datetime,
    status: str,
    disposition: str | None,
    counts: str,
    words: str,
) -> None:
    use(session, acme)
    _set_aside(session, acme, at)
    assert first(walk(session, acme, at)) == ("counter", "waiting")
    with unit_of_work(session):
        session.add(
            Adjustment(
                tenant_id=acme.tenant_id, adjustment_id="adj", customer_ref="cus_1",
                metric="api_calls", period_start=NOON.replace(day=1, hour=0), kind="events",
                reason="late", status=status, disposition=disposition, origin="set_aside",
                created_at=at, created_by="fold",
                note="enough" if status == "declined" else None,
                decided_at=None if status == "pending" else NOON + timedelta(days=2),
                decided_by=None if status == "pending" else "ann",
            )
        )  # fmt: skip
        session.execute(
            update(SetAside).where(SetAside.tenant_id == acme.tenant_id).values(adjustment_id="adj")
        )
    found = walk(session, acme, at)
    counter = found.steps[2]
    assert found.status == ("counted" if counts == "done" else "set_aside")
    assert counter.status == counts
    assert "it arrived after its billing period had closed" in counter.sentence
    assert words in counter.sentence
    assert counter.facts["adjustment_id"] == "adj"
    if counts == "stopped":
        assert {step.status for step in found.lanes[0].steps[1:]} == {"not_applicable"}


def test_what_is_carried_forward_is_billed_in_the_later_period(
    session: Session, acme: Connected, at: datetime
) -> None:
    use(session, acme)
    _set_aside(session, acme, at)
    december = datetime(2026, 12, 2, 9, tzinfo=UTC)
    with unit_of_work(session):
        session.add(
            Adjustment(
                tenant_id=acme.tenant_id, adjustment_id="adj", customer_ref="cus_1",
                metric="api_calls", period_start=NOON.replace(day=1, hour=0), kind="events",
                reason="late", status="approved", disposition="carry_forward", origin="set_aside",
                created_at=at, created_by="fold", decided_at=december, decided_by="ann",
                segment_start=december, carried=Decimal(120),
            )
        )  # fmt: skip
        session.execute(
            update(SetAside).where(SetAside.tenant_id == acme.tenant_id).values(adjustment_id="adj")
        )
    counter = walk(session, acme, december + HOUR).steps[2]
    assert counter.status == "done"
    assert counter.facts["period_start"] == datetime(2026, 12, 1, tzinfo=UTC)


def _set_aside(session: Session, to: Connected, at: datetime) -> None:
    with unit_of_work(session):
        session.add(
            SetAside(
                tenant_id=to.tenant_id, idempotency_key="e", customer_ref="cus_1",
                metric="api_calls", period_start=NOON.replace(day=1, hour=0),
                quantity=Decimal(120), reason="after_closing", set_aside_at=at,
            )
        )  # fmt: skip


def test_a_void_is_named_before_all_else(session: Session, acme: Connected, at: datetime) -> None:
    use(session, acme)
    with unit_of_work(session):
        session.add(
            Void(
                tenant_id=acme.tenant_id, idempotency_key="e", customer_ref="cus_1",
                metric="api_calls", occurred_at=NOON, reason="sent by mistake", actor="ann",
                voided_at=at,
            )
        )  # fmt: skip
    found = walk(session, acme, at)
    assert found.status == "voided"
    assert first(found) == ("counter", "stopped")
    assert found.first_not_done.sentence == (
        "It was voided on 10 Nov 2026, 12:30 UTC by ann and counts nowhere: sent by mistake."
    )


def test_a_dead_letter_says_what_the_database_said(
    session: Session, acme: Connected, at: datetime
) -> None:
    put(session, acme.tenant_id, [entry("e", 120, NOON)], now=at)
    with unit_of_work(session):
        session.delete(session.get_one(Unfolded, (acme.tenant_id, at, "e")))
        session.add(
            DeadLetter(
                tenant_id=acme.tenant_id, idempotency_key="e", error="22003: out of range",
                failed_at=at,
            )
        )  # fmt: skip
    found = walk(session, acme, at)
    assert (found.status, first(found)) == ("dead_letter", ("counter", "stopped"))
    assert statuses(found)["push"] == "waiting"
    assert (
        "the database cannot hold one of its values: out of range" in found.first_not_done.sentence
    )
