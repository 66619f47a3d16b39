"""A Stripe account belongs to one tenant, and nobody else learns whose it is."""

import uuid
from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from metering import installation
from metering.database import unit_of_work
from metering.errors import ConflictError
from metering.stripe import accounts


@pytest.fixture
def account() -> str:
    return f"acct_{uuid.uuid4().hex}"


def test_a_bound_account_is_nobody_elses(
    session: Session, tenant: str, stranger: str, account: str, now: datetime
) -> None:
    with unit_of_work(session):
        accounts.bind(session, tenant, account, bound_by="operator", now=now)
        accounts.bind(session, tenant, account, bound_by="operator", now=now)
    assert accounts.tenant_of(session, account) == tenant
    with pytest.raises(ConflictError) as refused, unit_of_work(session):
        accounts.bind(session, stranger, account, bound_by="operator", now=now)
    assert tenant not in refused.value.message
    assert installation.accounts_of(session, stranger) == set()
    sentence = accounts.ensure_bound(session, stranger, account, now=now)
    assert sentence is not None
    assert tenant not in sentence
    assert accounts.ensure_bound(session, tenant, account, now=now) is None


def test_a_free_account_is_bound_by_itself_only_to_the_only_tenant(
    session: Session, tenant: str, account: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "only_tenant", lambda session: None)
    sentence = accounts.ensure_bound(session, tenant, account, now=now)
    assert "stripemeter stripe bind" in str(sentence)
    assert accounts.tenant_of(session, account) is None
    monkeypatch.setattr(installation, "only_tenant", lambda session: tenant)
    assert accounts.ensure_bound(session, tenant, account, now=now) is None
    assert accounts.tenant_of(session, account) == tenant


def test_an_installation_of_several_tenants_has_no_only_one(
    session: Session, tenant: str, stranger: str
) -> None:
    assert installation.only_tenant(session) is None
