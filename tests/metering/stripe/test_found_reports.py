"""Error reports that cross the answers they are about: found by a review."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.stripe import deltas, reports
from metering.stripe.claims import Claim
from metering.stripe.models import Push
from metering.stripe.reports import Effect
from metering.stripe.settling import BLOCKED
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.metering.stripe.test_reports import report
from tests.stripe_setup import (
    ACCEPTED,
    Connected,
    FakeStripe,
    push_all,
)


def thrown_away(session: Session, acme: Connected, stripe: FakeStripe, claim: Claim) -> Effect:
    """Stripe took it, could not count it, and says so by name."""
    stripe.accepted.pop(claim.identifier, None)
    with unit_of_work(session):
        return reports.apply(
            session,
            acme.tenant_id,
            "live",
            acme.account_id,
            report(claim.idempotency_key),
            now=AT,
        )


def test_a_report_that_comes_before_the_answer_is_believed(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    stripe.send(claim)
    assert thrown_away(session, acme, stripe, claim).rejected == 1
    with unit_of_work(session):
        deltas.settle(session, [(claim, ACCEPTED)], now=AT)
    assert session.scalars(select(Push.state).filter_by(tenant_id=acme.tenant_id)).all() == [
        "rejected"
    ]
    push_all(session, acme, stripe, now=AT + BLOCKED)
    assert stripe.total() == 3


def test_a_report_told_again_does_not_touch_what_was_sent_in_its_place(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=AT)
    first = stripe.calls[0]
    assert thrown_away(session, acme, stripe, first).rejected == 1
    later = push_all(session, acme, stripe, now=AT + BLOCKED)
    assert thrown_away(session, acme, stripe, first) == Effect()
    push_all(session, acme, stripe, now=later + BLOCKED)
    assert stripe.total() == acme.total(session) == 3


def test_usage_that_grew_while_its_stream_was_blocked_is_sent_as_one(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    push_all(session, acme, stripe, now=AT)
    thrown_away(session, acme, stripe, stripe.calls[0])
    use(session, acme, (4, NOON))
    later = push_all(session, acme, stripe, now=AT + timedelta(minutes=1))
    assert stripe.total() == 0
    push_all(session, acme, stripe, now=later + BLOCKED)
    assert (stripe.calls[-1].quantity, stripe.total()) == (7, 7)
