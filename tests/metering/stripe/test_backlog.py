"""What waits for Stripe is looked at in its order, however much it is and whoever else looks."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.stripe import backlog
from metering.stripe.backlog import KEPT, Backlog
from metering.stripe.models import Unsent
from tests.metering.stripe.test_deltas import NOON
from tests.stripe_setup import Connected, connect

HOUR = timedelta(hours=1)


@pytest.fixture
def acme(session: Session) -> Connected:
    return connect(session, now=NOON)


def wait(
    session: Session, to: Connected, customer: str, hours: int, *, urgent: bool = False
) -> None:
    """The customer's last hours wait, one row each."""
    rows = [
        {
            "tenant_id": to.tenant_id, "mode": "live", "customer_ref": customer, "metric": "calls",
            "segment_start": NOON - HOUR * (hours - number), "changed_at": NOON, "due_at": NOON,
            "is_urgent": urgent,
        }
        for number in range(hours)
    ]  # fmt: skip
    with unit_of_work(session):
        session.execute(insert(Unsent), rows)


def take(session: Session, of: Backlog, pushes: int, seconds: float = 0) -> list[tuple[str, int]]:
    """(customer, hours ago) of the rows that are taken for so many pushes."""
    with unit_of_work(session):
        rows = of.take(session, now=NOON + timedelta(seconds=seconds), most=pushes)
    return [(row.source.customer_ref, (NOON - row.segment_start) // HOUR) for row in rows]


def test_everybodys_oldest_hour_comes_before_anybodys_second(
    session: Session, acme: Connected
) -> None:
    wait(session, acme, "long", 30)
    for number in range(3):
        wait(session, acme, f"short{number}", 1)
    kept = Backlog(acme.tenant_id)
    first = take(session, kept, 2)
    assert first == [("long", 30), ("short0", 1), ("short1", 1), ("short2", 1)]
    assert take(session, kept, 1) == [("long", 29), ("long", 28)]


def test_what_is_urgent_goes_first_and_waits_for_a_ranking_at_most_for_a_moment(
    session: Session, acme: Connected
) -> None:
    wait(session, acme, "a", 10)
    kept = Backlog(acme.tenant_id)
    take(session, kept, 1)
    wait(session, acme, "z", 1, urgent=True)
    assert ("z", 1) not in take(session, kept, 1, seconds=0.5)
    assert take(session, kept, 1, seconds=KEPT.total_seconds())[0] == ("z", 1)


def test_what_was_done_or_put_off_since_it_was_ranked_is_passed_over(
    session: Session, acme: Connected
) -> None:
    wait(session, acme, "a", 6)
    kept = Backlog(acme.tenant_id)
    assert take(session, kept, 1) == [("a", 6), ("a", 5)]
    of_a = Unsent.tenant_id == acme.tenant_id, Unsent.customer_ref == "a"
    with unit_of_work(session):
        session.execute(delete(Unsent).where(*of_a, Unsent.segment_start == NOON - HOUR * 4))
        later = update(Unsent).where(*of_a, Unsent.segment_start == NOON - HOUR * 3)
        session.execute(later.values(due_at=NOON + HOUR))
    # Nothing is left of the two that come next: the ones after them are taken.
    assert take(session, kept, 1) == [("a", 2), ("a", 1)]


def test_two_who_look_at_once_take_different_rows(
    engine: Engine, session: Session, acme: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "RANKED", 2)
    wait(session, acme, "a", 4)
    with Session(engine) as other, unit_of_work(other):
        theirs = Backlog(acme.tenant_id).take(other, now=NOON, most=1)
        with unit_of_work(session):
            ours = Backlog(acme.tenant_id).take(session, now=NOON, most=2)
    assert len(theirs) == 2
    assert {row.segment_start for row in theirs}.isdisjoint(row.segment_start for row in ours)
    assert len(ours) == 2


def test_what_the_clock_takes_back_is_ranked_anew(session: Session, acme: Connected) -> None:
    wait(session, acme, "a", 4)
    kept = Backlog(acme.tenant_id)
    take(session, kept, 1, seconds=3600)
    assert take(session, kept, 1) == [("a", 4), ("a", 3)]
