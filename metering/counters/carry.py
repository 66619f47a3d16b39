"""A level that nobody reported anew is still what it was: gauges carried over into a period."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.counters.models import Counter


def carried(
    session: Session, tenant_id: str, customer_ref: str, metric: str, period_start: datetime
) -> Decimal | None:
    """The last value of the latest earlier period in which there was one; None: never one.

    It stands for a period without events, where the metric says `carry_over`; that is the caller's
    to see.
    """
    return session.scalar(
        select(Counter.last_value)
        .where(
            Counter.tenant_id == tenant_id,
            Counter.customer_ref == customer_ref,
            Counter.metric == metric,
            Counter.period_start < period_start,
        )
        .order_by(Counter.period_start.desc())
        .limit(1)
    )
