"""API keys: `sm_live_<key id>_<secret>`; 256 random bits, stored as a hash, shown once."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from metering.errors import ConflictError, ForbiddenError, NotFoundError
from metering.tenancy import scopes as scope_names
from metering.tenancy import tenants
from metering.tenancy.models import ApiKey

_FORM = re.compile(r"sm_(?:live|test)_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


def create(
    session: Session,
    tenant_id: str,
    *,
    name: str,
    scopes: Iterable[str],
    granted_by: frozenset[str],
    created_by: str,
    now: datetime,
) -> tuple[ApiKey, str]:
    """Make a key of the tenant; return it with its secret form, which nobody can read again.

    granted_by: the scopes of whoever asks; a key is never worth more than its maker.
    """
    wanted = scope_names.parse(scopes)
    lacking = sorted(wanted - granted_by)
    if lacking:
        raise ForbiddenError(f"a key cannot grant {lacking[0]!r}, which its maker lacks")
    key_id = secrets.token_hex(8)
    token = f"sm_{tenants.get(session, tenant_id).mode}_{key_id}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        tenant_id=tenant_id,
        key_id=key_id,
        secret_sha256=digest(token),
        name=name,
        scopes=sorted(wanted),
        created_at=now,
        created_by=created_by,
        expires_at=None,
    )
    session.add(key)
    session.flush()
    return key, token


def listed(session: Session, tenant_id: str) -> Sequence[ApiKey]:
    """The tenant's keys, the newest first, the ended ones among them."""
    statement = (
        select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at.desc())
    )
    return session.scalars(statement).all()


def revoke(
    session: Session, tenant_id: str, key_id: str, *, now: datetime, grace_seconds: int = 0
) -> None:
    """End a key, at once or after a grace; NotFoundError if the tenant has no such live key."""
    ends_at = now + timedelta(seconds=grace_seconds)
    statement = (
        update(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.key_id == key_id)
        .where(or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now))
        .values(expires_at=ends_at)
        .returning(ApiKey.key_id)
    )
    if session.execute(statement).first() is None:
        raise NotFoundError(f"there is no live key {key_id!r}")


def rotate(
    session: Session,
    tenant_id: str,
    key_id: str,
    *,
    created_by: str,
    granted_by: frozenset[str],
    now: datetime,
    grace_seconds: int = 0,
) -> tuple[ApiKey, str]:
    """Replace a key by a new one of the same name and scopes; the old one ends after the grace."""
    old = session.scalar(
        select(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.key_id == key_id)
        .with_for_update()
    )
    if old is None:
        raise NotFoundError(f"there is no key {key_id!r}")
    if old.expires_at is not None:
        raise ConflictError(f"key {key_id!r} has been ended or replaced already")
    replacement = create(
        session,
        tenant_id,
        name=old.name,
        scopes=old.scopes,
        granted_by=granted_by,
        created_by=created_by,
        now=now,
    )
    revoke(session, tenant_id, key_id, now=now, grace_seconds=grace_seconds)
    return replacement


def key_id_of(token: str) -> str | None:
    """The public part of a key, or None if this is no key of ours."""
    form = _FORM.fullmatch(token)
    return form.group(1) if form else None


def matching(candidates: Sequence[ApiKey], token: str, *, now: datetime) -> ApiKey | None:
    """The live key among those of one key id whose secret this is, compared in constant time."""
    wanted = digest(token)
    found = None
    for key in candidates:
        if hmac.compare_digest(key.secret_sha256, wanted):
            found = key
    if found is None or (found.expires_at is not None and found.expires_at <= now):
        return None
    return found


def digest(token: str) -> bytes:
    """How secrets rest in the database: random enough that a plain SHA-256 is no shortcut."""
    return hashlib.sha256(token.encode()).digest()
