"""The database itself keeps the ledger: nothing changes in it but meta that is erased on record."""

from collections.abc import Callable
from datetime import datetime

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.counters import standing
from metering.database import sqlstate, unit_of_work
from metering.errors import InvalidInputError
from metering.ledger import erasure
from metering.ledger.erasure import Whose
from metering.ledger.models import Event
from tests.support import counters, entry, fold_all, put, scalar

Refused = Callable[[str], str]


@pytest.fixture
def refused(session: Session, tenant: str) -> Refused:
    """Run statements that the database must refuse; the sentence it says."""
    put(session, tenant, [entry("a", 5, meta='{"mail": "a@example.com"}'), entry("b", 7)])

    def run(*statements: str) -> str:
        *before, last = statements
        for statement in before:
            session.execute(text(statement), {"t": tenant} if ":t" in statement else {})
        with pytest.raises(DBAPIError) as refusal, unit_of_work(session):
            session.execute(text(last), {"t": tenant} if ":t" in last else {})
        assert sqlstate(refusal.value) == "23001"
        return str(refusal.value.orig).partition("\n")[0]

    return run


OTHER = {
    "tenant_id": "'elsewhere'",
    "idempotency_key": "'c'",
    "metric": "'seats'",
    "customer_ref": "'cus_2'",
    "resource_id": "'r'",
    "quantity": "5.0",
    "occurred_at": "occurred_at + interval '1 second'",
    "recorded_at": "recorded_at + interval '1 second'",
    "meta": "NULL",
    "source": "'import'",
}


def test_no_column_of_the_ledger_can_be_updated(refused: Refused) -> None:
    assert set(OTHER) == {column.name for column in Event.__table__.columns}
    for column, value in OTHER.items():
        said = refused(f"UPDATE events SET {column} = {value} WHERE tenant_id = :t")
        assert said == "the ledger is append-only: UPDATE of events is refused"


def test_nothing_of_the_ledger_can_be_deleted(refused: Refused) -> None:
    said = refused("DELETE FROM events WHERE tenant_id = :t AND idempotency_key = 'a'")
    assert said == "the ledger is append-only: DELETE of events is refused"
    said = refused("TRUNCATE events")
    assert said == "the ledger is append-only: TRUNCATE of events is refused"


def test_an_upsert_into_the_ledger_is_refused_like_an_update(refused: Refused) -> None:
    said = refused(
        "INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity,"
        " occurred_at, recorded_at)"
        " SELECT tenant_id, idempotency_key, metric, customer_ref, 99, occurred_at, recorded_at"
        " FROM events WHERE tenant_id = :t AND idempotency_key = 'a'"
        " ON CONFLICT (tenant_id, idempotency_key) DO UPDATE SET quantity = excluded.quantity"
    )
    assert "UPDATE of events is refused" in said


LOGGED = (
    "INSERT INTO erasures (tenant_id, erasure_id, {of}, reason, actor, erased_at)"
    " VALUES (:t, 'by-hand', '{whose}', 'x', 'y', '2026-11-10Z')"
)
NAMED = "SET LOCAL stripemeter.erasure = 'by-hand'"


def test_meta_goes_only_with_a_log_row_of_the_same_transaction(
    refused: Refused, session: Session, tenant: str
) -> None:
    """A setting made by hand opens nothing, and an old log row covers nothing new."""
    blank = "UPDATE events SET meta = NULL WHERE tenant_id = :t AND idempotency_key = 'a'"
    refused(NAMED, blank)
    refused(LOGGED.format(of="customer_ref", whose="cus_2"), NAMED, blank)
    refused(LOGGED.format(of="idempotency_key", whose="b"), NAMED, blank)
    with unit_of_work(session):
        session.execute(text(LOGGED.format(of="customer_ref", whose="cus_1")).bindparams(t=tenant))
    refused(NAMED, blank)
    assert scalar(session, "SELECT count(*) FROM events WHERE tenant_id = :t", t=tenant) == 2


@pytest.mark.parametrize("column", sorted(set(OTHER) - {"meta"}))
def test_who_erases_meta_can_change_nothing_else(refused: Refused, column: str) -> None:
    """Not even the digits of a quantity that stays the same number."""
    refused(
        LOGGED.format(of="customer_ref", whose="cus_1"),
        NAMED,
        f"UPDATE events SET meta = NULL, {column} = {OTHER[column]}"
        " WHERE tenant_id = :t AND idempotency_key = 'a'",
    )


def test_the_log_of_erasures_is_kept_too(
    refused: Refused, session: Session, tenant: str, now: datetime
) -> None:
    with unit_of_work(session):
        erasure.erase(session, tenant, "era_1", Whose("cus_1"), reason="asked", actor="me", now=now)
    for statement in (
        "UPDATE erasures SET reason = 'none' WHERE tenant_id = :t",
        "UPDATE erasures SET events = 0 WHERE tenant_id = :t",
        "DELETE FROM erasures WHERE tenant_id = :t",
        "TRUNCATE erasures",
    ):
        assert refused(statement).startswith("the log of erasures is append-only: ")


def test_an_insert_runs_no_trigger(engine: Engine) -> None:
    """What is refused costs nothing where it is not asked for."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT tgname, (tgtype & 4) <> 0 AS on_insert FROM pg_trigger"
                " WHERE tgrelid = 'events'::regclass AND NOT tgisinternal ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in rows] == [
        ("events_are_for_ever", False),
        ("events_are_kept", False),
    ]


def test_only_the_owner_may_erase(engine: Engine) -> None:
    with engine.connect() as connection:
        grants = connection.execute(
            text(
                "SELECT grantee::regrole::text FROM pg_proc, aclexplode(proacl)"
                " WHERE proname = 'erase_meta' AND grantee <> proowner"
            )
        ).all()
    assert grants == []


def _erase(session: Session, tenant: str, whose: Whose, now: datetime, *, most: int) -> int:
    erased, after = 0, ""
    while True:
        with unit_of_work(session):
            done = erasure.erase(
                session,
                tenant,
                "era_1",
                whose,
                reason="asked by the person",
                actor="dpo",
                now=now,
                after=after,
                most=most,
            )
        erased += done.events
        if done.last_key is None:
            return erased
        after = done.last_key


def _metas(session: Session, tenant: str) -> dict[str, str | None]:
    rows = session.execute(
        text("SELECT idempotency_key, meta::text AS meta FROM events WHERE tenant_id = :t"),
        {"t": tenant},
    ).all()
    session.rollback()
    return {row.idempotency_key: row.meta for row in rows}


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_erasing_a_customers_meta_changes_no_total_and_no_status(
    session: Session, tenant: str, stranger: str, now: datetime, most: int
) -> None:
    person = '{"mail": "a@example.com"}'
    events = [entry(f"k{i}", i + 1, meta=person if i % 3 else None) for i in range(5)]
    events.append(entry("other", 4, customer="cus_2", meta=person))
    put(session, tenant, events, now=now)
    put(session, stranger, [entry("k1", 1, meta=person)])
    fold_all(session, tenant)
    before = counters(session, tenant)
    assert erasure.holding(session, tenant, Whose("cus_1")).events == 3
    assert _erase(session, tenant, Whose("cus_1"), now, most=most) == 3
    metas = _metas(session, tenant)
    assert {key for key, meta in metas.items() if meta is not None} == {"other"}
    assert _metas(session, stranger) == {"k1": person}
    assert counters(session, tenant) == before
    recorded = session.query(Event).filter_by(tenant_id=tenant).all()
    assert set(standing.of_events(session, tenant, recorded).values()) == {"counted"}
    (log,) = erasure.listed(session, tenant)
    assert (log.customer_ref, log.idempotency_key, log.events) == ("cus_1", None, 3)
    assert (log.reason, log.actor, log.erased_at) == ("asked by the person", "dpo", now)
    session.rollback()
    # Sent again, it is the same event: meta is no part of what it says, and does not come back.
    assert put(session, tenant, [events[1]]).statuses == ["duplicate"]
    assert _metas(session, tenant)["k1"] is None


def test_the_meta_of_one_event_is_erased(session: Session, tenant: str, now: datetime) -> None:
    put(session, tenant, [entry(f"k{i}", meta='{"a": 1}') for i in range(3)])
    whose = Whose(event_id="k1")
    assert erasure.holding(session, tenant, whose).events == 1
    assert _erase(session, tenant, whose, now, most=10) == 1
    assert [key for key, meta in _metas(session, tenant).items() if meta is None] == ["k1"]
    assert erasure.holding(session, tenant, whose).events == 0
    assert _erase(session, tenant, Whose(event_id="nobody"), now, most=10) == 0


def test_an_erasure_needs_a_reason_and_one_name(
    session: Session, tenant: str, now: datetime
) -> None:
    with pytest.raises(InvalidInputError, match="reason"):
        erasure.erase(session, tenant, "era", Whose("cus_1"), reason=" ", actor="me", now=now)
    for both in ((None, None), ("cus_1", "k1")):
        with pytest.raises(InvalidInputError, match="either"):
            Whose(*both)
