"""Requests named by an `Idempotency-Key` header: one name, one body."""

import hashlib
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.ledger.models import KeyedRequest


def claim(
    session: Session,
    tenant_id: str,
    operation: str,
    request_key: str,
    body: bytes,
    *,
    now: datetime,
    advice: str = "",
) -> bool:
    """Write down that this name stands for this body.

    advice: what to do instead, for the refusal.

    Returns: True the first time, False when the same request is repeated.
    Raises:  InvalidInputError if the name stands for another body.
    A second request of the same name waits here until the first has committed or failed.
    """
    digest = hashlib.sha256(body).digest()
    statement = (
        insert(KeyedRequest)
        .values(
            tenant_id=tenant_id,
            operation=operation,
            request_key=request_key,
            body_sha256=digest,
            recorded_at=now,
        )
        .on_conflict_do_nothing()
        .returning(KeyedRequest.request_key)
    )
    if session.execute(statement).first() is not None:
        return True
    earlier = session.scalars(
        select(KeyedRequest.body_sha256).where(
            KeyedRequest.tenant_id == tenant_id,
            KeyedRequest.operation == operation,
            KeyedRequest.request_key == request_key,
        )
    ).one()
    if earlier != digest:
        raise InvalidInputError(
            f"this Idempotency-Key was used with another body; nothing was written{advice}",
            pointer="/Idempotency-Key",
        )
    return False
