"""What is received and not yet counted, of one customer."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from metering.ledger.read import at_key

# How far the backlog is searched for one customer's share of it.
BACKLOG_SEARCHED = 200


@dataclass(frozen=True)
class Backlog:
    """A customer's events that are received and not yet counted, of whatever period.

    latest: the greatest occurred_at among them, by metric.
    is_lower_bound: the tenant's backlog was too long to be searched to its end.
    """

    by_metric: dict[str, int]
    latest: dict[str, datetime]
    is_lower_bound: bool

    @property
    def events(self) -> int:
        return sum(self.by_metric.values())

    @property
    def latest_at(self) -> datetime | None:
        return max(self.latest.values(), default=None)

    def narrowed(self, metrics: Collection[str]) -> "Backlog":
        """Only what waits of these metrics."""
        return replace(
            self,
            by_metric={name: n for name, n in self.by_metric.items() if name in metrics},
            latest={name: at for name, at in self.latest.items() if name in metrics},
        )


# LATERAL, and each event by its key, keep the planner from scanning the ledger for a handful of
# rows.
_UNFOLDED = f"""
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
    WHERE tenant_id = %(tenant_id)s AND {at_key("waiting.idempotency_key")}
) AS e
GROUP BY 1
"""
NONE = Backlog(by_metric={}, latest={}, is_lower_bound=False)


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
        latest={row.metric: row.latest_at for row in rows if row.mine},
        is_lower_bound=sum(row.searched for row in rows) >= BACKLOG_SEARCHED,
    )
