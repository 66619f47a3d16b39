"""Gauges that carry over: a period that began without events is billed all the same."""

from datetime import datetime

from sqlalchemy.orm import Session

from metering.stripe import unsent
from metering.stripe.spans import Periods, Source

_GAUGES = """
SELECT DISTINCT f.customer_ref, f.metric
FROM stream_sources f
JOIN metrics m ON m.tenant_id = %(tenant_id)s AND m.metric = f.metric
WHERE f.tenant_id = %(tenant_id)s AND m.carry_over
ORDER BY 1, 2
"""
_PUSHED = """
SELECT 1 FROM stream_sources f
JOIN pushes p ON p.tenant_id = %(tenant_id)s AND p.stream_id = f.stream_id
    AND p.segment_start = %(start_at)s AND p.basis = 'period'
WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = %(customer_ref)s AND f.metric = %(metric)s
LIMIT 1
"""


def carry(session: Session, tenant_id: str, *, now: datetime) -> int:
    """Have the gauges looked at whose present period has heard nothing yet; how many.

    A gauge that stands at 0 is looked at in vain each time, which costs next to nothing.
    """
    connection = session.connection()
    found = connection.exec_driver_sql(_GAUGES, {"tenant_id": tenant_id}).all()
    sources = [Source(row.customer_ref, row.metric) for row in found]
    periods = Periods(session, tenant_id, sources) if sources else None
    marked = 0
    for source in sources:
        assert periods is not None
        start_at = periods.at(source, now).start_at
        parameters = {
            "tenant_id": tenant_id,
            "customer_ref": source.customer_ref,
            "metric": source.metric,
            "start_at": start_at,
        }
        if connection.exec_driver_sql(_PUSHED, parameters).first() is None:
            unsent.suspect(
                session, tenant_id, source.customer_ref, source.metric, start_at, now=now
            )
            marked += 1
    return marked
