"""What is in doubt stays so until Stripe's total can tell; nothing that may be gone is missed."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.stripe import confirming, deltas, settling
from metering.stripe.claims import LEASE, Outcome
from metering.stripe.confirming import SETTLING, Judged
from tests.metering.stripe.conftest import AT
from tests.metering.stripe.test_confirming import read, states
from tests.metering.stripe.test_deltas import NOON, use
from tests.metering.stripe.test_periods_pushed import bill
from tests.metering.stripe.test_reports import apply, report
from tests.stripe_setup import Connected, FakeStripe, push_all

SILENCE = Outcome("retry", "no answer", is_answered=False)


def test_a_total_that_cannot_show_a_push_yet_does_not_say_that_it_is_missing(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """The stream is asked about for an older push's sake, seconds after this one was taken."""
    use(session, acme, (3, NOON))
    now = push_all(session, acme, stripe, now=AT) + SETTLING
    use(session, acme, (4, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=now).claims
    stripe.send(claim)  # taken, but nobody hears of it
    with unit_of_work(session):
        settling.settle(session, [(claim, SILENCE)], now=now)
    now += timedelta(minutes=2)
    with unit_of_work(session):
        [again] = deltas.claim(session, acme.tenant_id, now=now).claims
        settling.settle(session, [(again, Outcome("rejected", "no", status=400))], now=now)
    assert states(session, acme) == ["settled", "ambiguous"]
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=now)
        shown_yet = {NOON: Decimal(3)}
        assert confirming.judge(session, check, shown_yet, now=now) == Judged()
    assert states(session, acme) == ["settled", "ambiguous"]
    assert read(session, acme, stripe, now=now + SETTLING) == [Judged(confirmed=2)]
    push_all(session, acme, stripe, now=now + timedelta(hours=2))
    assert stripe.total() == 7


@pytest.mark.parametrize("dies", [True, False], ids=["the worker dies", "the answer is late"])
def test_what_a_report_does_not_name_may_be_on_its_way_still(
    session: Session, acme: Connected, stripe: FakeStripe, dies: bool
) -> None:
    """Taken and thrown away, and reported without its name, before its answer is written down."""
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    outcome = stripe.send(claim)
    apply(session, acme, report(count=1), now=AT + timedelta(seconds=20))
    if not dies:
        with unit_of_work(session):
            settling.settle(session, [(claim, outcome)], now=AT + timedelta(seconds=21))
    now = push_all(session, acme, stripe, now=AT + LEASE)
    stripe.accepted.clear()  # thrown away, whatever it was called
    stripe.accepted[claim.identifier] = (claim, Decimal(0))  # and its name is taken
    assert read(session, acme, stripe, now=now + 2 * SETTLING) == [Judged(rejected=1)]
    push_all(session, acme, stripe, now=now + timedelta(hours=2))
    assert stripe.total() == 3


def test_what_a_report_did_not_mean_is_found_and_stays(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    use(session, acme, (3, NOON))
    with unit_of_work(session):
        [claim] = deltas.claim(session, acme.tenant_id, now=AT).claims
    apply(session, acme, report(count=1), now=AT + timedelta(seconds=20))
    with unit_of_work(session):
        settling.settle(session, [(claim, stripe.send(claim))], now=AT + timedelta(seconds=30))
    now = push_all(session, acme, stripe, now=AT + LEASE)
    assert read(session, acme, stripe, now=now + 2 * SETTLING) == [Judged(confirmed=1)]
    assert stripe.total() == 3


def test_of_equal_pushes_it_does_not_matter_which_is_gone(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """Three of one unit each are in doubt, and Stripe has two of them: one unit is sent again."""
    now = AT
    for _ in range(3):
        use(session, acme, (1, NOON))
        now = push_all(session, acme, stripe, now=now)
    apply(session, acme, report(count=1), now=now)
    assert states(session, acme) == ["suspect"] * 3
    del stripe.accepted[stripe.calls[1].identifier]
    now += 2 * SETTLING
    assert read(session, acme, stripe, now=now) == [Judged(confirmed=2, rejected=1)]
    push_all(session, acme, stripe, now=now)
    assert stripe.total() == 3


def test_between_two_periods_it_does_matter(
    session: Session, acme: Connected, stripe: FakeStripe
) -> None:
    """Of an hour that a billing period divides, a total cannot say which side is short."""
    boundary = NOON + timedelta(minutes=20)
    bill(session, acme, NOON - timedelta(days=29), boundary)
    bill(session, acme, boundary, boundary + timedelta(days=30))
    use(session, acme, (1, NOON), (1, boundary))
    now = push_all(session, acme, stripe, now=AT)
    apply(session, acme, report(count=1), now=now)
    del stripe.accepted[stripe.calls[0].identifier]
    [judged] = read(session, acme, stripe, now=now + 2 * SETTLING)
    assert (judged.confirmed, judged.rejected) == (0, 0)
    assert states(session, acme) == ["suspect"] * 2
