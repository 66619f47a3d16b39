"""The ledger keeps each event once, to the digit."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.ledger import append
from tests.support import entry, put, scalar


def test_a_new_event_is_accepted_and_waits_to_be_folded(session: Session, tenant: str) -> None:
    assert put(session, tenant, [entry("a"), entry("b")]).statuses == ["accepted", "accepted"]
    waiting = scalar(session, "SELECT count(*) FROM unfolded WHERE tenant_id = :t", t=tenant)
    assert waiting == 2


def test_the_same_event_again_is_a_duplicate_and_is_queued_once(
    session: Session, tenant: str
) -> None:
    put(session, tenant, [entry("a", "1.50", meta='{"n":1}')])
    again = put(session, tenant, [entry("a", "1.5", meta='{"n":2}', source="retry")])
    assert again.statuses == ["duplicate"]
    assert scalar(session, "SELECT count(*) FROM unfolded WHERE tenant_id = :t", t=tenant) == 1


@pytest.mark.parametrize(
    "other",
    [
        entry("a", 2),
        entry("a", metric="other"),
        entry("a", customer="cus_2"),
        entry("a", ts="2026-11-10T12:00:00.000001Z"),
        entry("a", resource="r1"),
    ],
)
def test_other_content_under_a_used_key_is_a_conflict(
    session: Session, tenant: str, other: append.Entry
) -> None:
    put(session, tenant, [entry("a")])
    assert put(session, tenant, [other, entry("b")]).statuses == ["conflict", "accepted"]
    assert scalar(session, "SELECT quantity FROM events WHERE tenant_id = :t "
                  "AND idempotency_key = 'a'", t=tenant) == 1  # fmt: skip


def test_an_instant_in_another_offset_is_the_same_event(session: Session, tenant: str) -> None:
    put(session, tenant, [entry("a", ts="2026-11-10T12:00:00Z")])
    assert put(session, tenant, [entry("a", ts="2026-11-10T14:00:00+02:00")]).statuses == [
        "duplicate"
    ]


def test_a_key_that_stands_twice_in_a_batch_belongs_to_the_first(
    session: Session, tenant: str
) -> None:
    batch = [entry("a"), entry("b"), entry("a"), entry("a", 7)]
    assert put(session, tenant, batch).statuses == [
        "accepted", "accepted", "duplicate", "conflict",
    ]  # fmt: skip
    # Where the ledger holds the second's content already, it is the first that conflicts.
    put(session, tenant, [entry("c", 7)])
    assert put(session, tenant, [entry("c", 1), entry("c", 7)]).statuses == [
        "conflict", "duplicate",
    ]  # fmt: skip


def test_what_the_database_refuses_is_singled_out(session: Session, tenant: str) -> None:
    batch = [entry(f"k{i:03d}") for i in range(9)] + [entry("bad", "1e30"), entry("z")]
    with pytest.raises(DBAPIError):
        put(session, tenant, batch)
    with unit_of_work(session):
        outcome = append.append(session, tenant, batch, now=datetime.now(UTC), careful=True)
    assert outcome.statuses == ["accepted"] * 9 + ["refused", "accepted"]
    assert "quantity_in_range" in outcome.refusals[9]
    assert scalar(session, "SELECT count(*) FROM unfolded WHERE tenant_id = :t", t=tenant) == 10


@pytest.mark.parametrize(
    "quantity",
    ["0", "1e-7", "0.1", "12345678901234567890.123456789012", str(2**53 + 1), "0.000000000001"],
)
def test_a_quantity_is_kept_to_the_digit(session: Session, tenant: str, quantity: str) -> None:
    put(session, tenant, [entry("a", quantity)])
    stored = scalar(session, "SELECT quantity FROM events WHERE tenant_id = :t", t=tenant)
    assert stored == Decimal(quantity)


def test_meta_comes_back_as_the_text_that_was_sent(session: Session, tenant: str) -> None:
    sent = '{"b":1.10,"a":[1e2,null,"ü"],"b":2}'
    put(session, tenant, [entry("a", meta=sent)])
    kept = session.execute(
        text("SELECT meta::text FROM events WHERE tenant_id = :t"), {"t": tenant}
    ).scalar_one()
    assert kept == sent
    assert json.loads(kept)["a"] == [100.0, None, "ü"]


def test_tenants_do_not_share_keys(session: Session, tenant: str, now: datetime) -> None:
    from metering.tenancy import tenants

    other = f"{tenant}-other"
    with unit_of_work(session):
        tenants.create(session, other, mode="test", now=now)
    assert put(session, tenant, [entry("same", 1)]).statuses == ["accepted"]
    assert put(session, other, [entry("same", 2)]).statuses == ["accepted"]
