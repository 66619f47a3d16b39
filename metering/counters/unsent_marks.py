"""Have Stripe hear of segments that were changed: the rows that a push job looks at.

The fold writes the same for what it folds; `metering.stripe.unsent` for what else there is.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from metering.counters.destined import DESTINATIONS

_MARK = f"""
INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at)
SELECT %(tenant_id)s, d.mode, w.customer_ref, w.metric, w.segment_start, %(now)s,
       greatest(%(now)s::timestamptz, w.segment_start)
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[])
    AS w (customer_ref, metric, segment_start)
JOIN ({DESTINATIONS}) AS d ON d.metric = w.metric
ORDER BY 2, 3, 4, 5
ON CONFLICT (tenant_id, mode, customer_ref, metric, segment_start) DO UPDATE SET
    changed_at = excluded.changed_at, due_at = least(unsent.due_at, excluded.due_at)
"""


def mark(
    session: Session,
    tenant_id: str,
    segments: Sequence[tuple[str, str, datetime]],
    *,
    now: datetime,
) -> None:
    """Mark these (customer, metric, start): of segments, or of periods whose reading changed."""
    if not segments:
        return
    parameters = {
        "tenant_id": tenant_id,
        "refs": [ref for ref, _, _ in segments],
        "metrics": [metric for _, metric, _ in segments],
        "starts": [start for _, _, start in segments],
        "now": now,
    }
    session.connection().exec_driver_sql(_MARK, parameters)
