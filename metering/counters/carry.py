"""A level that nobody reported anew is still what it was: gauges carried over into a period."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

_CARRIED = """
SELECT last_value + delta FROM used_counters
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = %(metric)s
  AND period_start < %(period_start)s AND last_value IS NOT NULL
ORDER BY period_start DESC LIMIT 1
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
