"""What cannot be sent as things are, written down so that people see it and can mend it."""

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.stripe.amounts import SegmentKey
from metering.stripe.destinations import Obstacle
from metering.stripe.models import Held, Unsendable
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


_RELEASE = """
DELETE FROM held h
USING unnest(%(modes)s::text[], %(refs)s::text[], %(metrics)s::text[])
    AS w (mode, customer_ref, metric)
WHERE h.tenant_id = %(tenant_id)s AND h.mode = w.mode AND h.customer_ref = w.customer_ref
  AND h.metric = w.metric
"""


def release(session: Session, tenant_id: str, free: Collection[tuple[str, Source]]) -> None:
    """Nothing stands in the way of these (mode, source) any more."""
    if free:
        ordered = sorted(free)
        parameters = {
            "tenant_id": tenant_id,
            "modes": [mode for mode, _ in ordered],
            "refs": [source.customer_ref for _, source in ordered],
            "metrics": [source.metric for _, source in ordered],
        }
        session.connection().exec_driver_sql(_RELEASE, parameters)


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
            set_={"quantity": new.quantity, "kind": new.kind, "reason": new.reason},
        )
    )


_DECIDED = """
DELETE FROM unsendable
WHERE tenant_id = %(tenant_id)s AND stream_id = %(stream_id)s AND basis = %(basis)s
  AND segment_start = %(start_at)s
"""


def forget(session: Session, tenant_id: str, key: SegmentKey) -> None:
    """Nothing of the segment is missing any more, so that there is nothing to decide."""
    parameters = {
        "tenant_id": tenant_id,
        "stream_id": key.stream_id,
        "basis": key.basis,
        "start_at": key.start_at,
    }
    session.connection().exec_driver_sql(_DECIDED, parameters)


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
