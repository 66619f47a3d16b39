"""Where an event stands between the ledger and the bill."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.counters.models import Adjustment, DeadLetter, SetAside, Void
from metering.ledger.models import Unfolded


class Recorded(Protocol):
    """An event, as far as its place in the queue goes."""

    @property
    def idempotency_key(self) -> str: ...

    @property
    def recorded_at(self) -> datetime: ...


def of_events(session: Session, tenant_id: str, events: Sequence[Recorded]) -> dict[str, str]:
    """`unfolded`, `set_aside`, `dead_letter`, `voided` or else `counted`, by idempotency key.

    A set-aside event that was approved to count in its own period is counted.
    """
    if not events:
        return {}
    keys = [event.idempotency_key for event in events]
    waiting = select(Unfolded.idempotency_key).where(
        Unfolded.tenant_id == tenant_id,
        tuple_(Unfolded.recorded_at, Unfolded.idempotency_key).in_(
            [(event.recorded_at, event.idempotency_key) for event in events]
        ),
    )
    aside = select(SetAside.idempotency_key).where(
        SetAside.tenant_id == tenant_id,
        SetAside.idempotency_key.in_(keys),
        ~select(Adjustment.tenant_id)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.adjustment_id == SetAside.adjustment_id,
            Adjustment.status == "approved",
            Adjustment.disposition == "apply",
        )
        .exists(),
    )
    void = select(Void.idempotency_key).where(
        Void.tenant_id == tenant_id, Void.idempotency_key.in_(keys)
    )
    dead = select(DeadLetter.idempotency_key).where(
        DeadLetter.tenant_id == tenant_id, DeadLetter.idempotency_key.in_(keys)
    )
    standing = dict.fromkeys(keys, "counted")
    found = (
        ("unfolded", waiting),
        ("set_aside", aside),
        ("dead_letter", dead),
        ("voided", void),
    )
    for status, statement in found:
        standing |= dict.fromkeys(session.scalars(statement), status)
    return standing
