"""What cannot be sent as things are, written down so that people see it and can mend it."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.stripe.amounts import SegmentKey
from metering.stripe.models import Held, Unsendable
from metering.stripe.obstacles import Obstacle
from metering.stripe.spans import Source


def hold(
    session: Session,
    tenant_id: str,
    mode: str,
    source: Source,
    since: datetime,
    obstacle: Obstacle,
    *,
    now: datetime,
) -> None:
    """Nothing of the customer's metric can be sent, from a segment on."""
    statement = insert(Held).values(
        tenant_id=tenant_id,
        mode=mode,
        customer_ref=source.customer_ref,
        metric=source.metric,
        since_segment=since,
        kind=obstacle.kind,
        reason=obstacle.reason,
        held_at=now,
        retry_at=now + obstacle.retry_in,
    )
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "mode", "customer_ref", "metric"],
            set_={
                "kind": new.kind,
                "reason": new.reason,
                "retry_at": new.retry_at,
                "since_segment": func.least(Held.since_segment, new.since_segment),
            },
        )
    )


def found(session: Session, tenant_id: str, wanted: Collection[tuple[str, Source]]) -> list[Held]:
    """What is held of these (mode, source), locked; what another worker looks at is left to it."""
    names = [(mode, source.customer_ref, source.metric) for mode, source in sorted(wanted)]
    if not names:
        return []
    return list(
        session.scalars(
            select(Held)
            .where(
                Held.tenant_id == tenant_id,
                tuple_(Held.mode, Held.customer_ref, Held.metric).in_(names),
            )
            .order_by(Held.mode, Held.customer_ref, Held.metric)
            .with_for_update(skip_locked=True)
        )
    )


def decide(
    session: Session,
    tenant_id: str,
    key: SegmentKey,
    quantity: Decimal,
    kind: str,
    *,
    now: datetime,
) -> None:
    """Write down what Stripe would bill on no invoice: a decision for people."""
    statement = insert(Unsendable).values(
        tenant_id=tenant_id,
        stream_id=key.stream_id,
        basis=key.basis,
        segment_start=key.start_at,
        quantity=quantity,
        kind=kind,
        reason=REASONS[kind],
        found_at=now,
    )
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "stream_id", "basis", "segment_start"],
            set_={
                "quantity": new.quantity,
                "kind": new.kind,
                "reason": new.reason,
                "is_decided": and_(Unsendable.is_decided, Unsendable.quantity == new.quantity),
            },
        )
    )


_FORGET = """
DELETE FROM unsendable
WHERE tenant_id = %(tenant_id)s AND stream_id = %(stream_id)s AND basis = %(basis)s
  AND segment_start = %(start_at)s AND NOT is_decided AND quantity <> 0
"""
# What was decided may have been billed elsewhere, and is then to be taken back.
_RECONSIDER = """
UPDATE unsendable SET quantity = 0, is_decided = false
WHERE tenant_id = %(tenant_id)s AND stream_id = %(stream_id)s AND basis = %(basis)s
  AND segment_start = %(start_at)s AND is_decided AND quantity <> 0
"""


def forget(session: Session, tenant_id: str, key: SegmentKey) -> None:
    """Nothing of the segment is missing any more, so that there is nothing to decide."""
    parameters = {
        "tenant_id": tenant_id,
        "stream_id": key.stream_id,
        "basis": key.basis,
        "start_at": key.start_at,
    }
    session.connection().exec_driver_sql(_FORGET, parameters)
    session.connection().exec_driver_sql(_RECONSIDER, parameters)


REASONS = {
    "invoice_final": (
        "the period's invoice is final, and Stripe would bill this on no invoice: decide on a"
        " credit note, an invoice item, carrying it forward, or writing it off"
    ),
    "too_old": (
        "Stripe takes no events older than 35 days: decide on an invoice item, carrying it forward,"
        " or writing it off"
    ),
}
