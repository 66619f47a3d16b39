"""A dead letter is counted once its cause is mended, and at every moment the ledger is whole."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.counters import dead_letters
from metering.counters.models import DeadLetter, Void
from metering.database import unit_of_work
from metering.ledger import append
from tests.metering.test_fold import BALANCE
from tests.support import counters, entry, fold_all, put, scalar

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
_TRAP = """
CREATE FUNCTION mended_trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id = '{tenant}' AND NEW.customer_ref = 'cus_trap' THEN
        RAISE EXCEPTION 'the trap has closed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER mended_trap BEFORE INSERT OR UPDATE ON counters
    FOR EACH ROW EXECUTE FUNCTION mended_trap();
"""


@pytest.fixture
def trap(session: Session, tenant: str) -> Iterator[None]:
    """The database refuses to count one customer."""
    with unit_of_work(session):
        session.execute(text(_TRAP.format(tenant=tenant)))
    yield
    session.rollback()
    mend(session)


def mend(session: Session) -> None:
    with unit_of_work(session):
        session.execute(text("DROP FUNCTION IF EXISTS mended_trap() CASCADE"))


def resend(session: Session, tenant: str, **options: object) -> dead_letters.Resent:
    with unit_of_work(session):
        options = {"until": datetime.now(UTC)} | options
        return dead_letters.resend(session, tenant, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("trap")
def test_what_could_not_be_counted_is_once_the_cause_is_mended(
    session: Session, tenant: str, now: datetime
) -> None:
    arrived = now - timedelta(hours=3)
    batch = [entry(f"k{i}", 2) for i in range(5)]
    batch += [entry(f"trapped{i}", 7, customer="cus_trap") for i in range(3)]
    put(session, tenant, batch, now=arrived)
    assert fold_all(session, tenant) == 8
    assert scalar(session, BALANCE, t=tenant) == 0
    letters = dead_letters.page(session, tenant, limit=10)
    session.rollback()
    assert [letter.event_id for letter in letters] == ["trapped0", "trapped1", "trapped2"]
    assert letters[0].error == "a rule in the database refused it: the trap has closed"
    assert (letters[0].quantity, letters[0].recorded_at) == (7, arrived)
    # Too early: it dies again, and nothing is lost.
    assert resend(session, tenant).events == 3
    assert scalar(session, BALANCE, t=tenant) == 0
    fold_all(session, tenant)
    assert dead_letters.count(session, tenant) == 3
    session.rollback()
    mend(session)
    assert resend(session, tenant, ids=["trapped1", "k1", "never"]).events == 1
    waiting = "SELECT recorded_at FROM unfolded WHERE tenant_id = :t"
    assert scalar(session, waiting, t=tenant) == arrived
    assert scalar(session, BALANCE, t=tenant) == 0
    assert fold_all(session, tenant) == 1
    assert counters(session, tenant)[("cus_trap", "api_calls", NOVEMBER)][:2] == (7, 1)
    assert resend(session, tenant).events == 2
    assert resend(session, tenant).events == 0
    assert fold_all(session, tenant) == 2
    assert counters(session, tenant)[("cus_trap", "api_calls", NOVEMBER)][:2] == (21, 3)
    assert scalar(session, BALANCE, t=tenant) == 0
    assert dead_letters.count(session, tenant) == 0


def _bury(session: Session, tenant: str, now: datetime, *keys: str) -> None:
    put(session, tenant, [entry(key) for key in keys], now=now)
    with unit_of_work(session):
        session.execute(text("DELETE FROM unfolded WHERE tenant_id = :t"), {"t": tenant})
        for key in keys:
            session.add(
                DeadLetter(
                    tenant_id=tenant, idempotency_key=key, error="54000: too long", failed_at=now
                )
            )


def test_what_is_void_is_not_sent_again(session: Session, tenant: str, now: datetime) -> None:
    _bury(session, tenant, now, "a", "b")
    with unit_of_work(session):
        session.add(
            Void(
                tenant_id=tenant, idempotency_key="a", customer_ref="cus_1", metric="api_calls",
                occurred_at=now, reason="x", actor="me", voided_at=now,
            )
        )  # fmt: skip
    done = resend(session, tenant)
    assert (done.events, done.void) == (1, 1)
    [left] = dead_letters.page(session, tenant, limit=10)
    assert (left.event_id, left.is_void) == ("a", True)


def test_all_are_sent_in_turns_and_another_tenants_stay(
    session: Session, tenant: str, stranger: str, now: datetime
) -> None:
    _bury(session, tenant, now, *(f"k{i}" for i in range(7)))
    _bury(session, stranger, now, "k1")
    sent, after = 0, ""
    while True:
        done = resend(session, tenant, after=after, limit=3)
        sent += done.events
        assert scalar(session, BALANCE, t=tenant) == 0
        if done.last_key is None:
            break
        after = done.last_key
    assert sent == 7
    assert dead_letters.count(session, stranger) == 1


def test_one_that_died_since_the_request_began_is_left(
    session: Session, tenant: str, now: datetime
) -> None:
    """Else one whose cause is not mended would be sent for ever."""
    _bury(session, tenant, now, "a")
    assert resend(session, tenant, until=now - timedelta(seconds=1)).events == 0
    assert resend(session, tenant, until=now).events == 1


def test_the_list_is_paged_by_key(session: Session, tenant: str, now: datetime) -> None:
    _bury(session, tenant, now, "b", "a", "c")
    first = dead_letters.page(session, tenant, limit=2)
    rest = dead_letters.page(session, tenant, after=first[-1].event_id, limit=2)
    assert [letter.event_id for letter in (*first, *rest)] == ["a", "b", "c"]


@pytest.mark.usefixtures("trap")
def test_what_a_backfill_chose_holds_for_its_dead_letters(
    session: Session, tenant: str, now: datetime
) -> None:
    """It was to be counted however old it is, and is once its cause is mended."""
    with unit_of_work(session):
        cautious = {"late_policy": "age", "lateness_seconds": 3600}
        metrics.edit(session, tenant, "api_calls", cautious, now=now)
        old = entry("old", 7, now - timedelta(days=10), customer="cus_trap")
        append.append(session, tenant, [old], now=now, late="count")
    fold_all(session, tenant)
    assert dead_letters.count(session, tenant) == 1
    session.rollback()
    mend(session)
    assert resend(session, tenant).events == 1
    assert fold_all(session, tenant) == 1
    assert [row[:2] for row in counters(session, tenant).values()] == [(7, 1)]
