"""Members of unique counts as the ledger has them. The caller holds the tenant's lock."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.counters.aggregation import RESOURCE_KEY
from metering.counters.doubts import Place
from metering.counters.doubts_members import Member
from metering.counters.located import columns, locate

# How long after its recorded_at an event may still appear: longer than any transaction lasts.
_APPEARS = timedelta(minutes=5)

_ADD_MEMBERS = """
INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
SELECT %(tenant_id)s, w.customer_ref, w.metric, w.at, w.resource_key
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[], %(resources)s::text[])
    AS w (customer_ref, metric, at, resource_key)
ORDER BY 2, 3, 4, 5
ON CONFLICT DO NOTHING
RETURNING customer_ref, metric, period_start, resource_key
"""
# Since the doubt was raised an event may have been folded that names the resource.
_REMOVE_MEMBERS = f"""
DELETE FROM unique_members WHERE tenant_id = %(tenant_id)s AND ctid = ANY (ARRAY(
    SELECT m.ctid
    FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[],
                %(resources)s::text[]) AS w (customer_ref, metric, at, resource_key)
    CROSS JOIN LATERAL (
        SELECT ctid FROM unique_members
        WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
          AND period_start = w.at AND resource_key = w.resource_key
        OFFSET 0
    ) AS m
    WHERE (w.customer_ref, w.metric, w.resource_key) NOT IN (
        SELECT e.customer_ref, e.metric, {RESOURCE_KEY.format(resource_id="e.resource_id")}
        FROM events e
        WHERE e.tenant_id = %(tenant_id)s AND e.recorded_at >= %(since)s
          AND e.metric = ANY(%(metrics)s::text[]) AND e.resource_id IS NOT NULL)))
RETURNING customer_ref, metric, period_start, resource_key
"""


def add(session: Session, tenant_id: str, missing: Sequence[Member]) -> list[Member]:
    """Add members that events name. Returns: those that were not there."""
    kept = []
    for member, start in _starts(session, tenant_id, missing):
        # Periods may have been drawn anew since.
        if start == member.period_start:
            kept.append(member)
    return _run(session, _ADD_MEMBERS, tenant_id, kept)


def remove(
    session: Session, tenant_id: str, superfluous: Sequence[Member], *, asked_at: datetime
) -> list[Member]:
    """Remove members that no event named at `asked_at`, or does now. Returns: those that went."""
    kept = [member for member, _ in _starts(session, tenant_id, superfluous)]
    return _run(session, _REMOVE_MEMBERS, tenant_id, kept, since=asked_at - _APPEARS)


def _starts(
    session: Session, tenant_id: str, members: Sequence[Member]
) -> list[tuple[Member, datetime]]:
    """Those of open periods, with the start of the period that theirs lies in."""
    if not members:
        return []
    found = locate(session, tenant_id, [_place(member) for member in members]).open
    return [(m, found[_place(m)].span.start_at) for m in members if _place(m) in found]


def _place(member: Member) -> Place:
    return Place(member.customer_ref, member.metric, member.period_start)


def _run(
    session: Session, statement: str, tenant_id: str, members: Sequence[Member], **more: object
) -> list[Member]:
    if not members:
        return []
    parameters = {
        "tenant_id": tenant_id,
        "resources": [member.resource_key for member in members],
        **columns([_place(member) for member in members]),
        **more,
    }
    return [Member(*row) for row in session.connection().exec_driver_sql(statement, parameters)]
