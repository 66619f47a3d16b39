"""Saved scenarios: kept exactly, listed by keyset, bounded, and one tenant's own."""

import json
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from metering.billing import simulations
from metering.database import unit_of_work
from metering.errors import ConflictError, InvalidInputError, NotFoundError

DOCUMENT = {"prices": [{"unitPrice": Decimal("0.10"), "note": "zwölf \U0001f9ee"}], "upTo": 10}


def save(session: Session, tenant: str, now: datetime, **changes: object) -> str:
    given = {"name": "n", "kind": "comparison", "document": DOCUMENT, "created_by": "test"}
    with unit_of_work(session):
        saved = simulations.save(session, tenant, now=now, **given | changes)  # type: ignore[arg-type]
        return saved.id


def test_a_document_comes_back_digit_for_digit(
    session: Session, tenant: str, now: datetime
) -> None:
    saved = simulations.get(session, tenant, save(session, tenant, now))
    assert '"unitPrice":0.10' in saved.document
    assert simulations.document(saved) == DOCUMENT
    assert json.loads(saved.document)


def test_the_list_is_read_page_by_page_the_last_touched_first(
    session: Session, tenant: str, now: datetime
) -> None:
    ids = [save(session, tenant, now + timedelta(seconds=i)) for i in range(5)]
    with unit_of_work(session):
        simulations.rename(session, tenant, ids[0], " again ", now=now + timedelta(minutes=1))
    seen: list[str] = []
    after = None
    while page := simulations.listed(session, tenant, after=after, limit=2):
        seen += [each.id for each in page]
        after = (page[-1].updated_at, page[-1].id)
    assert seen == [ids[0], *reversed(ids[1:])]
    assert simulations.get(session, tenant, ids[0]).name == "again"
    assert not simulations.listed(session, tenant, kind="invoice")


def test_a_copy_is_another_one_and_a_deleted_one_is_gone(
    session: Session, tenant: str, now: datetime
) -> None:
    first = save(session, tenant, now, name="x" * 200)
    with unit_of_work(session):
        copy = simulations.duplicate(session, tenant, first, created_by="other", now=now)
        simulations.replace(session, tenant, first, document={"a": 1}, now=now)
    assert copy.name == "x" * 193 + " (copy)"
    assert simulations.document(copy) == DOCUMENT
    with unit_of_work(session):
        simulations.delete(session, tenant, first)
    for call in (simulations.get, simulations.delete):
        with pytest.raises(NotFoundError):
            call(session, tenant, first)


def test_another_tenant_finds_nothing(session: Session, tenant: str, now: datetime) -> None:
    mine = save(session, tenant, now)
    assert not simulations.listed(session, "another")
    with pytest.raises(NotFoundError):
        simulations.replace(session, "another", mine, name="x", now=now)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""}, {"name": "   "}, {"name": "x" * 201}, {"name": "a\0b"}, {"kind": "other"},
        {"document": {"a": "x" * 65_536}}, {"document": {"a": "\ud800"}},
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(
    session: Session, tenant: str, now: datetime, changes: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputError):
        save(session, tenant, now, **changes)
    assert not simulations.listed(session, tenant)


def test_a_tenant_keeps_a_bounded_number(
    session: Session, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulations, "MAX_SAVED", 2)
    for _ in range(2):
        save(session, tenant, now)
    with pytest.raises(ConflictError):
        save(session, tenant, now)
