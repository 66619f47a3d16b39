"""A level that nobody reported anew is still what it was: gauges carried over into a period."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

# The level at which a row `c` of `used_counters` ends. What was carried forward into it settles an
# earlier period once, and is no level: it would be billed again in each period without events.
LEVEL = """
    c.last_value + c.delta - coalesce((
        SELECT sum(j.carried) FROM adjustments j
        WHERE j.tenant_id = %(tenant_id)s AND j.customer_ref = c.customer_ref
          AND j.metric = c.metric AND j.status = 'approved' AND j.disposition = 'carry_forward'
          AND j.segment_start >= c.period_start AND j.segment_start < c.period_end), 0)
"""
_CARRIED = f"""
SELECT {LEVEL} FROM used_counters c
WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s AND c.metric = %(metric)s
  AND c.period_start < %(period_start)s AND c.last_value IS NOT NULL
ORDER BY c.period_start DESC LIMIT 1
"""


def carried(
    session: Session, tenant_id: str, customer_ref: str, metric: str, period_start: datetime
) -> Decimal | None:
    """The last value of the latest earlier period in which there was one; None: never one.

    It stands for a period without events, where the metric says `carry_over`; that is the caller's
    to see.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "period_start": period_start,
    }
    stood: Decimal | None = session.connection().exec_driver_sql(_CARRIED, parameters).scalar()
    return stood
