"""Tenants: one business each, with the lock that guards its counters."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.errors import ConflictError, InvalidInputError, NotFoundError
from metering.tenancy.models import Tenant, TenantLock

MODES = ("live", "test")
MAX_ID_LENGTH = 128
# 48 hours, of an installation that says nothing else.
LATENESS_SECONDS = 172_800


def check_id(tenant_id: str) -> str:
    """Return the id if it can name a tenant: 1-128 printable characters."""
    if not 1 <= len(tenant_id) <= MAX_ID_LENGTH or not tenant_id.isprintable():
        raise InvalidInputError(
            f"a tenant id has 1 to {MAX_ID_LENGTH} printable characters", pointer="/tenantId"
        )
    return tenant_id


def create(
    session: Session,
    tenant_id: str,
    *,
    mode: str,
    now: datetime,
    name: str | None = None,
    lateness_seconds: int = LATENESS_SECONDS,
) -> Tenant:
    """Create a tenant. Raises ConflictError if it exists."""
    if mode not in MODES:
        raise InvalidInputError("a tenant's mode is 'live' or 'test'", pointer="/mode")
    if not ensure(
        session, tenant_id, mode=mode, now=now, name=name, lateness_seconds=lateness_seconds
    ):
        raise ConflictError(f"tenant {tenant_id!r} exists already")
    return get(session, tenant_id)


def ensure(
    session: Session,
    tenant_id: str,
    *,
    mode: str,
    now: datetime,
    name: str | None = None,
    lateness_seconds: int = LATENESS_SECONDS,
) -> bool:
    """Create the tenant unless it exists; True if it was created here."""
    values = {
        "tenant_id": check_id(tenant_id),
        "name": name,
        "mode": mode,
        "lateness_seconds": lateness_seconds,
        "created_at": now,
    }
    statement = insert(Tenant).values(values).on_conflict_do_nothing().returning(Tenant.tenant_id)
    created = session.execute(statement).first() is not None
    session.execute(insert(TenantLock).values(tenant_id=tenant_id).on_conflict_do_nothing())
    return created


def get(session: Session, tenant_id: str) -> Tenant:
    """The tenant, or NotFoundError."""
    tenant = session.scalar(select(Tenant).where(Tenant.tenant_id == tenant_id))
    if tenant is None:
        raise NotFoundError(f"there is no tenant {tenant_id!r}")
    return tenant
