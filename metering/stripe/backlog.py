"""Which of a tenant's unsent rows are looked at next.

The ones whose invoice is near go first, then the oldest; a few rows of each customer's metric at a
time, so that a long backlog of one does not keep the others waiting. To rank them all takes longer
than to push a few where a million wait: a ranking is kept for a moment, and taken from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from metering.stripe.spans import Source

# Rows a look takes for each push that it may make, and of one customer's metric at most.
ROWS_PER_PUSH = 2
OF_ONE = 24
# How many rows a ranking holds, and for how long what becomes urgent may wait for the next.
RANKED = 2000
KEPT = timedelta(seconds=2)

_RANKED = """
SELECT row_id::text FROM (
    SELECT ctid AS row_id, is_urgent, segment_start,
           row_number() OVER (PARTITION BY mode, customer_ref, metric
                              ORDER BY segment_start) AS place
    FROM unsent
    WHERE tenant_id = %(tenant_id)s AND due_at <= %(now)s
) AS due
WHERE place <= %(of_one)s
ORDER BY is_urgent DESC, place, segment_start LIMIT %(most)s
"""
# A row that was changed since is elsewhere by now; what has come into its place is due as well.
_TAKEN = """
SELECT mode, customer_ref, metric, segment_start, is_urgent FROM unsent
WHERE tenant_id = %(tenant_id)s AND due_at <= %(now)s AND ctid = ANY (%(ids)s::tid[])
ORDER BY is_urgent DESC, segment_start, mode, customer_ref, metric
FOR UPDATE SKIP LOCKED
"""


@dataclass(frozen=True)
class Row:
    """One unsent row."""

    mode: str
    source: Source
    segment_start: datetime
    is_urgent: bool


class Backlog:
    """A tenant's unsent rows in their order, as one job goes through them."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._ranked: list[str] = []
        self._until: datetime | None = None

    def take(self, session: Session, *, now: datetime, most: int) -> list[Row]:
        """The rows to look at now, locked; those that another worker looks at are left to it.

        most: pushes that are wanted.
        """
        is_ranked = False
        while True:
            if not self._is_ranked(now):
                # What a new ranking holds and cannot be taken is another worker's, which would be
                # ranked again and again until that one is done.
                if is_ranked:
                    return []
                self._rank(session, now, most * ROWS_PER_PUSH)
                is_ranked = True
            rows_wanted = most * ROWS_PER_PUSH
            ids, self._ranked = self._ranked[:rows_wanted], self._ranked[rows_wanted:]
            if not ids:
                return []
            parameters = {"tenant_id": self.tenant_id, "now": now, "ids": ids}
            rows = session.connection().exec_driver_sql(_TAKEN, parameters).all()
            if rows:
                return [
                    Row(
                        row.mode,
                        Source(row.customer_ref, row.metric),
                        row.segment_start,
                        row.is_urgent,
                    )
                    for row in rows
                ]

    def _is_ranked(self, now: datetime) -> bool:
        is_kept = self._until is not None and self._until - KEPT <= now < self._until
        return bool(self._ranked) and is_kept

    def _rank(self, session: Session, now: datetime, most: int) -> None:
        parameters = {
            "tenant_id": self.tenant_id,
            "now": now,
            "of_one": OF_ONE,
            "most": max(RANKED, most),
        }
        found = session.connection().exec_driver_sql(_RANKED, parameters)
        self._ranked, self._until = list(found.scalars()), now + KEPT


def finish(
    session: Session, tenant_id: str, rows: Sequence[Row], later: Mapping[Row, datetime]
) -> None:
    """Delete the rows that are done with, and say when to look again at the others.

    later: the others.
    """
    connection = session.connection()
    done = [row for row in rows if row not in later]
    if done:
        connection.exec_driver_sql(_DONE, names(tenant_id, done))
    if later:
        parameters = {**names(tenant_id, list(later)), "dues": list(later.values())}
        connection.exec_driver_sql(_LATER, parameters)


def names(tenant_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The rows' keys as a statement's parameters."""
    return {
        "tenant_id": tenant_id,
        "modes": [row.mode for row in rows],
        "refs": [row.source.customer_ref for row in rows],
        "metrics": [row.source.metric for row in rows],
        "starts": [row.segment_start for row in rows],
    }


_DONE = """
DELETE FROM unsent u
USING unnest(%(modes)s::text[], %(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[])
    AS w (mode, customer_ref, metric, segment_start)
WHERE u.tenant_id = %(tenant_id)s AND u.mode = w.mode AND u.customer_ref = w.customer_ref
  AND u.metric = w.metric AND u.segment_start = w.segment_start
"""
_LATER = """
UPDATE unsent u SET due_at = w.due_at
FROM unnest(%(modes)s::text[], %(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[],
            %(dues)s::timestamptz[])
    AS w (mode, customer_ref, metric, segment_start, due_at)
WHERE u.tenant_id = %(tenant_id)s AND u.mode = w.mode AND u.customer_ref = w.customer_ref
  AND u.metric = w.metric AND u.segment_start = w.segment_start
"""
