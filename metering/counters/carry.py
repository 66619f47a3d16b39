"""Gauges that last: a period without events begins where the one before ended."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

_CARRIED = """
SELECT c.last_value FROM counters c
WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s AND c.metric = %(metric)s
  AND c.period_start < %(start_at)s
  AND EXISTS (SELECT 1 FROM metrics m WHERE m.tenant_id = %(tenant_id)s
              AND m.metric = %(metric)s AND m.carry_over)
ORDER BY c.period_start DESC LIMIT 1
"""


def carried(
    session: Session, tenant_id: str, customer_ref: str, metric: str, period_start: datetime
) -> Decimal | None:
    """What a gauge that carries over stands at when a period begins; None: nothing is carried."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "start_at": period_start,
    }
    value: Decimal | None = session.connection().exec_driver_sql(_CARRIED, parameters).scalar()
    return value
