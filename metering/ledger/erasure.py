"""Erase personal `meta` from the ledger: the one thing that ever changes in it, and it is logged.

What an event counts does not depend on its meta, so no total and no status changes, and the event
sent again is still the same event. The ledger is walked by key, in stretches, each a transaction
of the caller's: no index serves a customer, and the walk may be long.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.ledger import read
from metering.ledger.models import Erasure

# Events that are looked at in a transaction.
STRETCH = 20_000
MOST_TEXT = 1_000


@dataclass(frozen=True)
class Whose:
    """Whose meta: a customer's, or one event's. Raises InvalidInputError for both or neither."""

    customer_ref: str | None = None
    event_id: str | None = None

    def __post_init__(self) -> None:
        if (self.customer_ref is None) == (self.event_id is None):
            raise InvalidInputError("name either a customer or an event whose meta is meant")


@dataclass(frozen=True)
class Stretch:
    """events: with meta, of those looked at. last_key: where the next one begins; None: the end."""

    events: int
    last_key: str | None


def new_id() -> str:
    """The name of an erasure, the same for all of its stretches."""
    return f"era_{secrets.token_hex(12)}"


_COUNT = """
SELECT count(*) FILTER (WHERE customer_ref = %(customer_ref)s AND has_meta) AS events,
       CASE WHEN count(*) >= %(most)s THEN max(idempotency_key) END AS last_key
FROM (
    SELECT idempotency_key, customer_ref, meta IS NOT NULL AS has_meta FROM events
    WHERE tenant_id = %(tenant_id)s AND idempotency_key > %(after)s
    ORDER BY idempotency_key LIMIT %(most)s
) AS stretch
"""
_COUNT_ONE = f"""
SELECT count(*) AS events, NULL::text AS last_key
FROM (
    SELECT meta FROM events
    WHERE tenant_id = %(tenant_id)s AND {read.at_key("%(event_id)s")}
) AS one
WHERE meta IS NOT NULL
"""


def holding(
    session: Session, tenant_id: str, whose: Whose, *, after: str = "", most: int = STRETCH
) -> Stretch:
    """How many events of a stretch hold meta that `erase` would erase."""
    statement = _COUNT if whose.event_id is None else _COUNT_ONE
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": whose.customer_ref,
        "event_id": whose.event_id,
        "after": after,
        "most": most,
    }
    row = session.connection().exec_driver_sql(statement, parameters).one()
    return Stretch(row.events, row.last_key)


_ERASE = """
SELECT erased, last_key FROM erase_meta(
    %(tenant_id)s, %(customer_ref)s, %(event_id)s, %(erasure_id)s, %(reason)s, %(actor)s, %(now)s,
    %(after)s, %(most)s)
"""


def erase(
    session: Session,
    tenant_id: str,
    erasure_id: str,
    whose: Whose,
    *,
    reason: str,
    actor: str,
    now: datetime,
    after: str = "",
    most: int = STRETCH,
) -> Stretch:
    """Erase the meta of one stretch, and write down that it was.

    Not under a savepoint: the database asks that the log row be of the same transaction.
    Raises: InvalidInputError without a reason.
    """
    if not reason.strip() or len(reason) > MOST_TEXT:
        raise InvalidInputError(f"give a reason of 1 to {MOST_TEXT} characters", pointer="/reason")
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": whose.customer_ref,
        "event_id": whose.event_id,
        "erasure_id": erasure_id,
        "reason": reason,
        "actor": actor,
        "now": now,
        "after": after,
        "most": most,
    }
    row = session.connection().exec_driver_sql(_ERASE, parameters).one()
    return Stretch(row.erased, row.last_key)


def listed(session: Session, tenant_id: str, *, limit: int = 100) -> Sequence[Erasure]:
    """What was erased, the latest first."""
    return session.scalars(
        select(Erasure)
        .where(Erasure.tenant_id == tenant_id)
        .order_by(Erasure.erased_at.desc(), Erasure.erasure_id)
        .limit(limit)
    ).all()
