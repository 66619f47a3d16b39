"""A billing period closes: from then on its counter changes by decisions only.

What was recorded before `closes_at` counts, whenever it is folded; an event that is recorded later
is set aside by the fold, closed period or not. Closing says that nothing of the first kind can
come any more, so that the number is final.
"""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.counters import fold
from metering.tenancy import locks

# `recorded_at` is the beginning of a request, and no transaction lives longer than 30 s: after so
# long, what was recorded in time is there to be folded. Whatever commits later still is set aside.
GRACE = timedelta(minutes=1)
# Periods a transaction closes: well within the second that a tenant may stay locked.
STRETCH = 5_000
# And events that it folds before, where the folds are behind.
FOLDED_FIRST = 5_000

_DUE = """
SELECT EXISTS (
    SELECT 1 FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND closed_at IS NULL AND closes_at <= %(due_at)s
) OR EXISTS (
    SELECT 1 FROM periods
    WHERE tenant_id = %(tenant_id)s AND closed_at IS NULL AND closes_at <= %(due_at)s
)
"""
_OLDEST = "SELECT min(recorded_at) FROM unfolded WHERE tenant_id = %(tenant_id)s"

# The oldest first, each by its primary key: the planner may believe that there is only one.
_CLOSE = """
WITH due AS MATERIALIZED (
    SELECT customer_ref, metric, start_at FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND closed_at IS NULL AND closes_at <= %(due_at)s
    ORDER BY closes_at LIMIT %(most)s
)
UPDATE billing_periods p SET closed_at = %(now)s
FROM due
WHERE p.tenant_id = %(tenant_id)s AND p.customer_ref = due.customer_ref
  AND p.metric = due.metric AND p.start_at = due.start_at
"""
_CLOSE_CALENDAR = """
UPDATE periods SET closed_at = %(now)s
WHERE tenant_id = %(tenant_id)s AND closed_at IS NULL AND closes_at <= %(due_at)s
"""


def close_due(session: Session, tenant_id: str, *, now: datetime, most: int = STRETCH) -> int:
    """Close at most so many of a tenant's periods whose time is over, the oldest first.

    A period stays open while an event that was recorded before its `closes_at` is not folded; some
    are folded here first. One without `closes_at` is never closed.
    Returns: periods closed; fewer than `most`: what is left waits for folds, or nothing is left.
    """
    parameters = {"tenant_id": tenant_id, "due_at": now - GRACE, "now": now, "most": most}
    connection = session.connection()
    if not connection.exec_driver_sql(_DUE, parameters).scalar_one():
        return 0
    locks.lock(session, tenant_id)
    waits_since = connection.exec_driver_sql(_OLDEST, parameters).scalar()
    if waits_since is not None and waits_since < now - GRACE:
        fold.fold(session, tenant_id, now=now, limit=FOLDED_FIRST, is_alone=False)
        waits_since = connection.exec_driver_sql(_OLDEST, parameters).scalar()
    if waits_since is not None:
        # Folds take the oldest first: what was recorded before this one is counted.
        parameters["due_at"] = min(waits_since, now - GRACE)
    closed = connection.exec_driver_sql(_CLOSE, parameters).rowcount
    closed += connection.exec_driver_sql(_CLOSE_CALENDAR, parameters).rowcount
    if closed:
        locks.add_closed(session, tenant_id, closed)
    return closed
