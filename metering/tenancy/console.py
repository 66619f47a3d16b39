"""Browser sessions: a one-time link printed by the operator becomes a cookie's value."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from metering.errors import ForbiddenError
from metering.tenancy import scopes, tenants
from metering.tenancy.keys import digest
from metering.tenancy.models import ConsoleLink, ConsoleSession

LINK_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(hours=12)


@dataclass(frozen=True)
class SignedIn:
    """A fresh session. `token` is the cookie's value and is stored nowhere but there."""

    token: str
    tenant_id: str
    role: str


def make_link(session: Session, tenant_id: str, role: str, *, now: datetime) -> str:
    """Return the secret of a link that works once, for 15 minutes."""
    tenants.get(session, tenant_id)
    scopes.role(role)
    token = secrets.token_urlsafe(32)
    session.add(
        ConsoleLink(
            tenant_id=tenant_id,
            token_sha256=digest(token),
            role=role,
            expires_at=now + LINK_LIFETIME,
            used_at=None,
        )
    )
    return token


def enter(session: Session, link: ConsoleLink | None, *, now: datetime) -> SignedIn:
    """Spend a link for a session. Raises ForbiddenError if it is unknown, spent or too old."""
    if link is None or not _spend(session, link, now):
        raise ForbiddenError(
            "this link was used already, has expired or was never made;"
            " ask for a new one with `stripemeter console link`"
        )
    token = secrets.token_urlsafe(32)
    session.add(
        ConsoleSession(
            tenant_id=link.tenant_id,
            token_sha256=digest(token),
            role=link.role,
            created_at=now,
            expires_at=now + SESSION_LIFETIME,
        )
    )
    return SignedIn(token=token, tenant_id=link.tenant_id, role=link.role)


def _spend(session: Session, link: ConsoleLink, now: datetime) -> bool:
    # One conditional UPDATE: of two browsers with the same link, one gets in.
    statement = (
        update(ConsoleLink)
        .where(
            ConsoleLink.tenant_id == link.tenant_id,
            ConsoleLink.token_sha256 == link.token_sha256,
            ConsoleLink.used_at.is_(None),
            ConsoleLink.expires_at > now,
        )
        .values(used_at=now)
        .returning(ConsoleLink.role)
    )
    return session.execute(statement).first() is not None


def leave(session: Session, tenant_id: str, token: str) -> None:
    """End a session; ending one that has ended already is no error."""
    session.execute(
        delete(ConsoleSession).where(
            ConsoleSession.tenant_id == tenant_id, ConsoleSession.token_sha256 == digest(token)
        )
    )
