"""What a statement is of: one instant, with all that must be remembered of it.

The totals, what was still unfolded, which decisions had been taken, and which transactions had
committed. A statement is then read page by page while usage goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from metering.billing import projection
from metering.billing.projection import Line
from metering.catalog.period import Span
from metering.counters.models import Adjustment, Void
from metering.errors import ConflictError
from metering.ledger.read import at_key
from metering.proof.moment import Moment

# Unfolded events that may be remembered.
MOST_UNFOLDED = 50_000


@dataclass(frozen=True)
class Frame:
    """What is fixed at the statement's instant.

    totals:    a line of the projection for each metric of the period.
    unfolded:  keys that no counter held.  decisions: how many there were, and the latest.
    """

    tenant_id: str
    customer_ref: str
    span: Span
    as_of: datetime
    moment: Moment
    totals: tuple[Line, ...]
    adjustments: tuple[Adjustment, ...]
    unfolded: frozenset[str]
    decisions: tuple[Any, ...]

    @property
    def spans(self) -> dict[str, Span]:
        """Each metric's period; all begin together."""
        return _spans(self.totals)


def fix(session: Session, tenant_id: str, customer_ref: str, span: Span, *, now: datetime) -> Frame:
    """Fix the instant, in one transaction that sees one state of the database.

    session: in no transaction yet.
    Raises: ConflictError where the totals are not complete, or too much is not counted yet.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    projected = projection.project(session, tenant_id, customer_ref, span, now=now)
    for line in projected.lines:
        if line.usage.aggregation == "unique" and not line.usage.unique_complete:
            raise ConflictError(
                f"the unique count of {line.usage.metric} is still being completed; ask again later"
            )
    return Frame(
        tenant_id,
        customer_ref,
        span,
        projected.usage.as_of,
        Moment.of(session, now),
        tuple(projected.lines),
        tuple(_adjustments(session, tenant_id, customer_ref, span, _spans(projected.lines))),
        _unfolded(session, tenant_id, customer_ref),
        decisions(session, tenant_id, customer_ref),
    )


def _spans(lines: Sequence[Line]) -> dict[str, Span]:
    return {line.usage.metric: line.usage.span for line in lines}


def _adjustments(
    session: Session, tenant_id: str, customer_ref: str, span: Span, spans: Mapping[str, Span]
) -> list[Adjustment]:
    """Those approved of the period's usage, and those carried into it.

    spans: of the metrics that the statement is of; others may have periods of another schedule.
    """
    found = session.scalars(
        select(Adjustment)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.customer_ref == customer_ref,
            Adjustment.status == "approved",
            or_(
                Adjustment.period_start == span.start_at,
                (Adjustment.disposition == "carry_forward")
                & (Adjustment.segment_start >= span.start_at)
                & (Adjustment.segment_start < span.end_at),
            ),
        )
        .order_by(Adjustment.created_at, Adjustment.adjustment_id)
    ).all()
    for each in found:
        session.expunge(each)
    return [
        each
        for each in found
        if each.period_start == span.start_at or counts_in(each, spans.get(each.metric))
    ]


def counts_in(carried: Adjustment, span: Span | None) -> bool:
    """Whether what was carried forward counts within a period."""
    at = carried.segment_start if carried.disposition == "carry_forward" else None
    return at is not None and span is not None and span.start_at <= at < span.end_at


_UNFOLDED = f"""
WITH waiting AS MATERIALIZED (
    SELECT idempotency_key FROM unfolded WHERE tenant_id = %(tenant_id)s LIMIT %(most)s
)
SELECT waiting.idempotency_key, e.customer_ref = %(customer_ref)s AS is_theirs
FROM waiting
CROSS JOIN LATERAL (
    SELECT customer_ref FROM events
    WHERE tenant_id = %(tenant_id)s AND {at_key("waiting.idempotency_key")}
) AS e
"""


def _unfolded(session: Session, tenant_id: str, customer_ref: str) -> frozenset[str]:
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "most": MOST_UNFOLDED + 1,
    }
    rows = session.connection().exec_driver_sql(_UNFOLDED, parameters).all()
    if len(rows) > MOST_UNFOLDED:
        raise ConflictError(
            f"more than {MOST_UNFOLDED:,} events are still being counted; ask again in a minute"
        )
    return frozenset(row.idempotency_key for row in rows if row.is_theirs)


def decisions(session: Session, tenant_id: str, customer_ref: str) -> tuple[Any, ...]:
    """What tells one state of the customer's decisions from another."""
    voids = session.execute(
        select(func.count(), func.max(Void.voided_at)).where(
            Void.tenant_id == tenant_id, Void.customer_ref == customer_ref
        )
    ).one()
    adjustments = session.execute(
        select(
            func.count().filter(Adjustment.status == "approved"), func.max(Adjustment.decided_at)
        ).where(Adjustment.tenant_id == tenant_id, Adjustment.customer_ref == customer_ref)
    ).one()
    return (*voids, *adjustments)
