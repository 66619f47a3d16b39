"""Customers: what we were told of the people whose usage we count."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.catalog.models import Customer

STRIPE_PREFIX = "cus_"


def stripe_id(customer_ref: str, known: Customer | None) -> str | None:
    """The Stripe customer a ref stands for: as told, else itself where it looks like one."""
    if known is not None and known.stripe_customer_id is not None:
        return known.stripe_customer_id
    return customer_ref if customer_ref.startswith(STRIPE_PREFIX) else None


def find(session: Session, tenant_id: str, customer_ref: str) -> Customer | None:
    """What we were told of the customer, or None."""
    return session.scalar(
        select(Customer).where(
            Customer.tenant_id == tenant_id, Customer.customer_ref == customer_ref
        )
    )


def found(session: Session, tenant_id: str, refs: list[str]) -> dict[str, Customer]:
    """What we were told of these customers, by ref."""
    rows = session.scalars(
        select(Customer).where(Customer.tenant_id == tenant_id, Customer.customer_ref.in_(refs))
    )
    return {row.customer_ref: row for row in rows}


def edit(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    changes: Mapping[str, Any],
    *,
    now: datetime,
) -> Customer:
    """Change the named attributes of a customer, making the row if it is new."""
    session.execute(
        insert(Customer)
        .values(tenant_id=tenant_id, customer_ref=customer_ref, created_at=now)
        .on_conflict_do_nothing()
    )
    row = session.scalars(
        select(Customer)
        .where(Customer.tenant_id == tenant_id, Customer.customer_ref == customer_ref)
        .with_for_update()
    ).one()
    for name, value in changes.items():
        setattr(row, name, value)
    session.flush()
    return row
