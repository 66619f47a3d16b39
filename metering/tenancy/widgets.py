"""What opens the customer's widget: a token, made by the host's backend; a code, that opens one
frame; and the frame's session.

    token    smw_…, minutes     the host's page has it, and may ask for codes with it
    code     once, 30 s         in the frame's address: of no use once the frame is open
    session  the token's life   in the frame's document alone; sent as a header

Of each the database holds the SHA-256. A token that is revoked or has expired ends its codes and
sessions with it, for they are looked up together.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from metering.errors import ForbiddenError, InvalidInputError, NotFoundError
from metering.tenancy import tenants
from metering.tenancy.keys import digest
from metering.tenancy.models import WidgetFrame, WidgetToken

PREFIX = "smw_"
CODE_LIFETIME = timedelta(seconds=30)
SHORTEST_TTL, DEFAULT_TTL, LONGEST_TTL = 60, 900, 86_400
MOST_ORIGINS, MOST_METRICS, MOST_LISTED = 20, 200, 200


@dataclass(frozen=True)
class Wanted:
    """A token to be made. metrics: None is all of them. ttl: how long it works."""

    customer_ref: str
    metrics: Sequence[str] | None = None
    origins: Sequence[str] = ()
    ttl: timedelta = timedelta(seconds=DEFAULT_TTL)


@dataclass(frozen=True)
class Opened:
    """A code, and how long what it opens may live."""

    code: str
    token_ends_at: datetime


def check_origin(origin: str) -> str:
    """Return an origin as browsers write it: scheme, host, a port if it is not the usual one.

    Raises: InvalidInputError for anything else, such as an address with a path.
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    usual = {"http": 80, "https": 443}
    if parts.scheme not in usual or not _is_host(host) or origin.count("/") != 2:
        raise InvalidInputError(
            "an origin is http:// or https:// and a host, with its port if it has one, and nothing"
            " after it: https://app.example.com",
            pointer="/origins",
        )
    written = f"[{host}]" if ":" in host else host
    at = "" if port is None or port == usual[parts.scheme] else f":{port}"
    found = f"{parts.scheme}://{written}{at}"
    if len(found) > 300 or "@" in origin or "?" in origin or "#" in origin:
        raise InvalidInputError(f"{origin[:100]} is not an origin", pointer="/origins")
    return found


def _is_host(host: str) -> bool:
    """What may stand in a header of ours: letters, digits, dots, hyphens, or an IPv6 address."""
    return bool(host) and host.isascii() and all(each.isalnum() or each in ".-_:" for each in host)


def lives(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """What holds of a token that may still be used, in SQL."""
    return WidgetToken.revoked_at.is_(None), WidgetToken.expires_at > now


def mint(
    session: Session, tenant_id: str, wanted: Wanted, *, created_by: str, now: datetime
) -> tuple[WidgetToken, str]:
    """Make a token; return it with its secret form, which nobody can read again.

    Raises: NotFoundError without such a tenant, InvalidInputError for what is no origin.
    """
    tenants.get(session, tenant_id)
    secret = PREFIX + secrets.token_urlsafe(32)
    token = WidgetToken(
        tenant_id=tenant_id,
        token_id=f"wt_{secrets.token_hex(10)}",
        token_sha256=digest(secret),
        customer_ref=wanted.customer_ref,
        metrics=None if wanted.metrics is None else sorted(set(wanted.metrics)),
        origins=sorted({check_origin(each) for each in wanted.origins}),
        created_at=now,
        created_by=created_by,
        expires_at=now + wanted.ttl,
        revoked_at=None,
    )
    session.add(token)
    session.flush()
    return token, secret


def listed(
    session: Session, tenant_id: str, customer_ref: str | None = None
) -> Sequence[WidgetToken]:
    """The tenant's tokens, the newest `MOST_LISTED` of them, those that have ended among them."""
    statement = select(WidgetToken).where(WidgetToken.tenant_id == tenant_id)
    if customer_ref is not None:
        statement = statement.where(WidgetToken.customer_ref == customer_ref)
    newest = statement.order_by(WidgetToken.created_at.desc(), WidgetToken.token_id)
    return session.scalars(newest.limit(MOST_LISTED)).all()


def revoke(session: Session, tenant_id: str, token_id: str, *, now: datetime) -> None:
    """End a token and every widget that it opened; NotFoundError if no such token lives."""
    if not _revoke(session, tenant_id, WidgetToken.token_id == token_id, now):
        raise NotFoundError(f"there is no live widget token {token_id!r}")


def revoke_all(session: Session, tenant_id: str, customer_ref: str, *, now: datetime) -> int:
    """End every token of a customer's. Returns: how many lived."""
    return _revoke(session, tenant_id, WidgetToken.customer_ref == customer_ref, now)


def _revoke(session: Session, tenant_id: str, which: ColumnElement[bool], now: datetime) -> int:
    statement = (
        update(WidgetToken)
        .where(WidgetToken.tenant_id == tenant_id, which)
        .where(*lives(now))
        .values(revoked_at=now)
        .returning(WidgetToken.token_id)
    )
    return len(session.execute(statement).all())


def exchange(session: Session, token: WidgetToken, origin: str, *, now: datetime) -> Opened:
    """Make a code that opens one frame on a page of this origin.

    Raises: ForbiddenError for an origin that is not the token's.
    """
    if origin not in (token.origins or _bound(session, token, origin)):
        raise ForbiddenError(f"this token is not for pages of {origin}")
    code = secrets.token_urlsafe(32)
    session.add(
        WidgetFrame(
            tenant_id=token.tenant_id,
            code_sha256=digest(code),
            token_id=token.token_id,
            origin=origin,
            made_at=now,
            expires_at=now + CODE_LIFETIME,
            secret_sha256=None,
        )
    )
    return Opened(code, token.expires_at)


def _bound(session: Session, token: WidgetToken, origin: str) -> Sequence[str]:
    """Make the first origin that asks the token's only one; of two at once, one is the first."""
    own = (WidgetToken.tenant_id == token.tenant_id, WidgetToken.token_id == token.token_id)
    session.execute(
        update(WidgetToken)
        .where(*own, func.cardinality(WidgetToken.origins) == 0)
        .values(origins=[origin])
        .execution_options(synchronize_session=False)
    )
    found = session.scalar(select(WidgetToken.origins).where(*own))
    return found or ()


def open_frame(session: Session, frame: WidgetFrame, *, now: datetime) -> str | None:
    """Spend a code for a session. Returns: its secret; None if the code was spent or is too old.

    One conditional UPDATE: of two frames with one code, one opens.
    """
    secret = secrets.token_urlsafe(32)
    statement = (
        update(WidgetFrame)
        .where(
            WidgetFrame.tenant_id == frame.tenant_id,
            WidgetFrame.code_sha256 == frame.code_sha256,
            WidgetFrame.secret_sha256.is_(None),
            WidgetFrame.expires_at > now,
        )
        .values(secret_sha256=digest(secret))
        .returning(WidgetFrame.token_id)
        .execution_options(synchronize_session=False)
    )
    return secret if session.execute(statement).first() is not None else None
