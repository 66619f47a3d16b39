"""What is received and not yet counted, of one customer."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

# How far the backlog is searched for one customer's share of it.
BACKLOG_SEARCHED = 200


@dataclass(frozen=True)
class Backlog:
    """A customer's events that are received and not yet counted, of whatever period.

    latest_at: the greatest occurred_at among them.
    is_lower_bound: the tenant's backlog was too long to be searched to its end.
    """

    by_metric: dict[str, int]
    latest_at: datetime | None
    is_lower_bound: bool

    @property
    def events(self) -> int:
        return sum(self.by_metric.values())


# LATERAL with OFFSET 0 keeps the planner from scanning the ledger for a handful of rows.
_UNFOLDED = """
WITH waiting AS MATERIALIZED (
    SELECT recorded_at, idempotency_key FROM unfolded WHERE tenant_id = %(tenant_id)s
    ORDER BY recorded_at LIMIT %(most)s
)
SELECT e.metric, count(*) FILTER (WHERE e.customer_ref = %(customer_ref)s) AS mine,
       max(e.occurred_at) FILTER (WHERE e.customer_ref = %(customer_ref)s) AS latest_at,
       count(*) AS searched
FROM waiting
CROSS JOIN LATERAL (
    SELECT metric, customer_ref, occurred_at FROM events
    WHERE tenant_id = %(tenant_id)s AND idempotency_key = waiting.idempotency_key OFFSET 0
) AS e
GROUP BY 1
"""
NONE = Backlog(by_metric={}, latest_at=None, is_lower_bound=False)


def of_customer(session: Session, tenant_id: str, customer_ref: str) -> Backlog:
    """Searched from the tenant's oldest on, not beyond `BACKLOG_SEARCHED`."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "most": BACKLOG_SEARCHED,
    }
    rows = session.connection().exec_driver_sql(_UNFOLDED, parameters).all()
    return Backlog(
        by_metric={row.metric: row.mine for row in rows if row.mine},
        latest_at=max((row.latest_at for row in rows if row.latest_at), default=None),
        is_lower_bound=sum(row.searched for row in rows) >= BACKLOG_SEARCHED,
    )
