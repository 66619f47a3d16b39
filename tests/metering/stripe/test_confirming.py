"""Stripe's summaries: they confirm pushes, find lost ones, and name what does not add up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.stripe import confirming, deltas
from metering.stripe.claims import Outcome
from metering.stripe.confirming import EVERY, SETTLING, Judged
from metering.stripe.deltas import RECOGNISED
from metering.stripe.models import Push
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_deltas import NOON, use
from tests.stripe_setup import Connected, FakeStripe, push_all


def read(session: Session, acme: Connected, stripe: FakeStripe, *, now: datetime) -> list[Judged]:
    """Ask the fake for the hours of whatever wants to be confirmed."""
    with unit_of_work(session):
        checks = confirming.due(session, acme.tenant_id, now=now)
    judged = []
    for check in checks:
        totals: dict[datetime, Decimal] = {}
        for claim, quantity in stripe.accepted.values():
            if claim.stream == check.stream:
                hour = claim.stamped_at.replace(minute=0, second=0, microsecond=0)
                totals[hour] = totals.get(hour, Decimal(0)) + quantity
        with unit_of_work(session):
            judged.append(confirming.judge(session, check, totals, now=now))
    return judged


def states(session: Session, acme: Connected) -> list[str]:
    return list(
        session.scalars(
            select(Push.state).where(Push.tenant_id == acme.tenant_id).order_by(Push.claimed_at)
        )
    )


def test_what_a_summary_agrees_with_is_confirmed(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON), (4, NOON - timedelta(hours=3)))
    later = push_all(session, acme, stripe, now=AT)
    assert read(session, acme, stripe, now=later) == []
    assert read(session, acme, stripe, now=later + SETTLING) == [Judged(confirmed=2)]
    assert states(session, acme) == ["confirmed", "confirmed"]


def test_reads_are_rationed_to_one_a_day_and_stream(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=AT) + SETTLING
    read(session, acme, stripe, now=later)
    use(session, acme, (4, NOON))
    again = push_all(session, acme, stripe, now=later) + SETTLING
    assert read(session, acme, stripe, now=again) == []
    assert read(session, acme, stripe, now=later + EVERY) == [Judged(confirmed=1)]


@pytest.mark.parametrize("was_taken", [True, False])
def test_an_old_push_of_unknown_outcome_is_decided_by_summaries(
    session: Session, acme: Connected, stripe: FakeStripe, was_taken: bool
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    if was_taken:
        stripe.send(claim)
    later = push_all(session, acme, stripe, now=AT + RECOGNISED)
    assert states(session, acme) == ["ambiguous"]
    expected = Judged(confirmed=1) if was_taken else Judged(rejected=1)
    assert read(session, acme, stripe, now=later + SETTLING) == [expected]
    push_all(session, acme, stripe, now=later + SETTLING)
    assert stripe.total() == 3
    assert len(stripe.calls) == 1


def test_what_is_in_doubt_is_found_apart_from_what_is_only_to_be_confirmed(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=AT) + SETTLING

    def asked(now: datetime, **wanted: bool) -> int:
        """How many streams would be; nothing is kept."""
        found = confirming.due(session, acme.tenant_id, now=now, **wanted)
        session.rollback()
        return len(found)

    assert (asked(later, only_doubtful=True), asked(later)) == (0, 1)
    with unit_of_work(session):
        [push] = session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id))
        push.state, push.lease_until = "suspect", later
    assert (asked(later, only_doubtful=True), asked(later)) == (1, 1)


def test_a_call_that_hung_until_its_push_was_given_up_is_still_counted_and_taken_back(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [hanging] = deltas.claim(session, acme.tenant_id, now=AT).claims
    later = push_all(session, acme, stripe, now=AT + RECOGNISED)
    assert read(session, acme, stripe, now=later + SETTLING) == [Judged(rejected=1)]
    later = push_all(session, acme, stripe, now=later + SETTLING)
    assert (stripe.total(), states(session, acme)) == (3, ["rejected", "settled"])
    with unit_of_work(session):
        deltas.settle(session, [(hanging, stripe.send(hanging))], now=later)
    assert (stripe.total(), states(session, acme)) == (6, ["settled", "settled"])
    push_all(session, acme, stripe, now=later)
    assert stripe.total() == 3


def test_a_late_answer_does_not_bring_back_what_stripe_threw_away(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
        push = session.get_one(Push, (acme.tenant_id, claim.identifier))
        push.state = "rejected"  # by an error report that was quicker than the answer
    with unit_of_work(session):
        deltas.settle(session, [(claim, Outcome("accepted"))], now=AT)
    assert states(session, acme) == ["rejected"]


def test_a_drift_is_named_and_nothing_is_confirmed_or_sent_again(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=AT) + SETTLING
    [(identifier, (claim, _))] = stripe.accepted.items()
    stripe.accepted[identifier] = (claim, Decimal(5))
    assert read(session, acme, stripe, now=later) == [Judged(drifted=1)]
    [push] = session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id))
    assert push.state == "settled"
    assert push.error is not None
    assert "5" in push.error
    assert "3" in push.error


def test_however_a_total_is_made_up_what_is_missing_is_sent_again(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    now = AT
    for quantity in (3, 5, 8):
        use(session, acme, (quantity, NOON))
        now = push_all(session, acme, stripe, now=now)
    with unit_of_work(session):
        for push in session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id)):
            push.state, push.lease_until = "suspect", now
    # 8 is 8, or 3 and 5: nobody can say which, and of one hour of one stream nobody needs to.
    for identifier in [i for i, (claim, _) in stripe.accepted.items() if claim.quantity != 8]:
        del stripe.accepted[identifier]
    now += SETTLING
    [judged] = read(session, acme, stripe, now=now)
    assert judged.rejected > 0
    assert set(states(session, acme)) == {"confirmed", "rejected"}
    push_all(session, acme, stripe, now=now)
    assert stripe.total() == 16


def test_a_total_that_no_choice_makes_up_tells_nothing(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    now = AT
    for quantity in (3, 8):
        use(session, acme, (quantity, NOON))
        now = push_all(session, acme, stripe, now=now)
    with unit_of_work(session):
        for push in session.scalars(select(Push).where(Push.tenant_id == acme.tenant_id)):
            push.state, push.lease_until = "suspect", now
    identifier, (claim, _) = next(iter(stripe.accepted.items()))
    stripe.accepted[identifier] = (claim, Decimal(1))
    read(session, acme, stripe, now=now + SETTLING)
    assert states(session, acme) == ["suspect"] * 2


def test_a_push_on_its_way_is_not_judged(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    later = push_all(session, acme, stripe, now=AT) + SETTLING
    use(session, acme, (4, NOON))
    with unit_of_work(session):
        deltas.claim(session, acme.tenant_id, now=later)
    assert read(session, acme, stripe, now=later) == [Judged()]
    assert states(session, acme) == ["settled", "claimed"]


def test_an_error_of_the_key_leaves_no_doubt_about_a_push(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    stripe.next = [Outcome("auth", "Invalid API Key", status=401)]
    push_all(session, acme, stripe, now=AT)
    push_all(session, acme, stripe, now=AT + timedelta(days=3))
    assert states(session, acme) == ["settled"]
    assert datetime.now(UTC) > NOON
