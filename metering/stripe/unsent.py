"""Which segments Stripe may not have heard all of: the one table that a push job reads.

The fold writes a row for every segment it changes (see `counters.fold`); this module does the
same for whatever else changes what Stripe should have. A row is only a suspicion: looking at one
whose delta is nothing deletes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters.destined import DESTINATIONS

_DESTINATIONS = f"{DESTINATIONS} AND m.metric = %(metric)s"
_WRITE = """
INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at,
                    is_urgent)
SELECT %(tenant_id)s, d.mode, s.customer_ref, %(metric)s, s.segment_start, %(now)s,
       greatest(%(now)s, s.segment_start), %(urgent)s
FROM ({segments}) AS s CROSS JOIN ({destinations}) AS d
ORDER BY 2, 3, 4, 5
ON CONFLICT (tenant_id, mode, customer_ref, metric, segment_start) {once_more}
"""
_SOONER = """DO UPDATE SET
    changed_at = excluded.changed_at, due_at = least(unsent.due_at, excluded.due_at),
    is_urgent = unsent.is_urgent OR excluded.is_urgent
"""
# Also segments that are no more, if anything was pushed of them.
_SEGMENTS = """
    SELECT s.customer_ref, s.segment_start FROM used_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.metric = %(metric)s {of_customer_segments}
      AND s.segment_start >= %(since)s
      AND (%(until)s::timestamptz IS NULL OR s.segment_start < %(until)s)
    UNION
    SELECT f.customer_ref, p.segment_start
    FROM stream_sources f
    JOIN pushes p ON p.tenant_id = %(tenant_id)s AND p.stream_id = f.stream_id
    WHERE f.tenant_id = %(tenant_id)s AND f.metric = %(metric)s {of_customer_sources}
      AND p.segment_start >= %(since)s
      AND (%(until)s::timestamptz IS NULL OR p.segment_start < %(until)s)
"""
_OF_ONE = _SEGMENTS.format(
    of_customer_segments="AND s.customer_ref = %(customer_ref)s",
    of_customer_sources="AND f.customer_ref = %(customer_ref)s",
)
_ONE = _WRITE.format(segments=_OF_ONE, destinations=_DESTINATIONS, once_more=_SOONER)
# Whoever works on a row that is there already is not waited for: it is looked at anyhow.
_MISSING = _WRITE.format(segments=_OF_ONE, destinations=_DESTINATIONS, once_more="DO NOTHING")
_ALL = _WRITE.format(
    segments=_SEGMENTS.format(of_customer_segments="", of_customer_sources=""),
    destinations=_DESTINATIONS,
    once_more=_SOONER,
)


def mark(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    *,
    since: datetime,
    until: datetime | None = None,
    now: datetime,
    urgent: bool = False,
) -> int:
    """Have all segments of a customer's metric looked at again, in every mode it goes to.

    since: inclusive; until: exclusive.  Returns: rows written.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "since": since,
        "until": until,
        "now": now,
        "urgent": urgent,
    }
    return session.connection().exec_driver_sql(_ONE, parameters).rowcount


def remind(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metric: str,
    *,
    since: datetime,
    now: datetime,
) -> None:
    """As `mark`, but what is unsent already stays as it is; safe while rows are looked at."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metric": metric,
        "since": since,
        "until": None,
        "now": now,
        "urgent": False,
    }
    session.connection().exec_driver_sql(_MISSING, parameters)


@dataclass(frozen=True, order=True)
class Stretch:
    """The segments of a customer's metric within a span."""

    customer_ref: str
    metric: str
    since: datetime
    until: datetime


_AT_ONCE = """
INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at)
SELECT DISTINCT %(tenant_id)s, way.mode, w.customer_ref, w.metric, s.segment_start,
       %(now)s::timestamptz, greatest(%(now)s::timestamptz, s.segment_start)
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(sinces)s::timestamptz[],
            %(untils)s::timestamptz[]) AS w (customer_ref, metric, since, until)
JOIN mappings m ON m.tenant_id = %(tenant_id)s AND m.metric = w.metric
CROSS JOIN LATERAL (VALUES ('live', m.is_active), ('test', m.is_shadow)) AS way (mode, is_on)
CROSS JOIN LATERAL ({segments}) AS s
WHERE way.is_on
  AND coalesce(m.meter_event_name, m.meter_id, m.price_id, m.shadow_price_id) IS NOT NULL
  AND (way.mode = 'test' OR EXISTS (
      SELECT 1 FROM tenants t WHERE t.tenant_id = %(tenant_id)s AND t.mode = 'live'))
ORDER BY 2, 3, 4, 5
ON CONFLICT (tenant_id, mode, customer_ref, metric, segment_start) {once_more}
"""
_MANY = _AT_ONCE.format(
    segments="""
    SELECT segment_start FROM used_segments
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
      AND segment_start >= w.since AND segment_start < w.until
    UNION
    SELECT p.segment_start FROM stream_sources f
    JOIN pushes p ON p.tenant_id = %(tenant_id)s AND p.stream_id = f.stream_id
    WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = w.customer_ref
      AND f.metric = w.metric AND p.segment_start >= w.since AND p.segment_start < w.until
    """,
    once_more="""DO UPDATE SET
    changed_at = excluded.changed_at, due_at = least(unsent.due_at, excluded.due_at)
    """,
)
_INSTANTS = _AT_ONCE.format(segments="SELECT w.since AS segment_start", once_more="DO NOTHING")


def mark_many(
    session: Session, tenant_id: str, stretches: Iterable[Stretch], *, now: datetime
) -> None:
    """As `mark`, all at once: the rows are locked in the order in which the fold locks them."""
    _write_at_once(session, _MANY, tenant_id, stretches, now)


def suspect(session: Session, tenant_id: str, at: Iterable[Stretch], *, now: datetime) -> None:
    """Have the beginnings of these looked at, of which there may be no segment and no push yet."""
    _write_at_once(session, _INSTANTS, tenant_id, at, now)


def _write_at_once(
    session: Session, statement: str, tenant_id: str, stretches: Iterable[Stretch], now: datetime
) -> None:
    ordered = sorted(set(stretches))
    if not ordered:
        return
    parameters = {
        "tenant_id": tenant_id,
        "refs": [each.customer_ref for each in ordered],
        "metrics": [each.metric for each in ordered],
        "sinces": [each.since for each in ordered],
        "untils": [each.until for each in ordered],
        "now": now,
    }
    session.connection().exec_driver_sql(statement, parameters)


def mark_metric(
    session: Session, tenant_id: str, metric: str, *, since: datetime, now: datetime
) -> int:
    """Have all segments of a metric looked at again, whoever's: a mapping was made or changed."""
    parameters = {
        "tenant_id": tenant_id,
        "metric": metric,
        "since": since,
        "until": None,
        "now": now,
        "urgent": False,
    }
    return session.connection().exec_driver_sql(_ALL, parameters).rowcount


def flush(
    session: Session, tenant_id: str, customer_ref: str, metric: str, span: Span, *, now: datetime
) -> int:
    """Send what is left of a period before others and without waiting: its invoice is near."""
    release(session, tenant_id, customer_ref, [metric], now=now)
    return mark(
        session,
        tenant_id,
        customer_ref,
        metric,
        since=span.start_at,
        until=span.end_at,
        now=now,
        urgent=True,
    )


_HELD = """
SELECT mode, customer_ref, metric, since_segment FROM held
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = ANY(%(metrics)s)
"""
_HELD_DUE = """
SELECT mode, customer_ref, metric, since_segment FROM held
WHERE tenant_id = %(tenant_id)s AND retry_at <= %(now)s
ORDER BY retry_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""
# What still cannot be sent is held again by whoever looks; until then the row stays to be seen.
_LATER = """
UPDATE held SET retry_at = %(later)s
WHERE tenant_id = %(tenant_id)s AND mode = %(mode)s AND customer_ref = %(customer_ref)s
  AND metric = %(metric)s
"""


def release(
    session: Session, tenant_id: str, customer_ref: str, metrics: Sequence[str], *, now: datetime
) -> int:
    """Look again at what is held of a customer's metrics. Returns: how many were held."""
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": list(metrics),
    }
    rows = session.connection().exec_driver_sql(_HELD, parameters).all()
    for row in rows:
        mark(session, tenant_id, row.customer_ref, row.metric, since=row.since_segment, now=now)
    return len(rows)


def release_due(
    session: Session, tenant_id: str, *, now: datetime, later: datetime, most: int = 200
) -> int:
    """Look again at what has been held long enough; it is looked at next at `later`."""
    parameters = {"tenant_id": tenant_id, "now": now, "most": most}
    rows = session.connection().exec_driver_sql(_HELD_DUE, parameters).all()
    for row in rows:
        # Never waiting for rows that another worker looks at: it may be waiting for these here.
        remind(session, tenant_id, row.customer_ref, row.metric, since=row.since_segment, now=now)
        session.connection().exec_driver_sql(
            _LATER,
            {
                "tenant_id": tenant_id,
                "mode": row.mode,
                "customer_ref": row.customer_ref,
                "metric": row.metric,
                "later": later,
            },
        )
    return len(rows)


_BUSY = """
SELECT t.mode, count(*) AS streams
FROM (
    SELECT DISTINCT stream_id FROM pushes
    WHERE tenant_id = %(tenant_id)s AND state = 'settled' AND settled_at > %(since)s
) AS p
CROSS JOIN LATERAL (
    SELECT mode FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = p.stream_id OFFSET 0
) AS t
GROUP BY 1
"""


def busy_streams(session: Session, tenant_id: str, *, now: datetime) -> dict[str, int]:
    """How many streams were pushed within the last ten minutes, by mode: they want to be pushed
    again, and share the limit."""
    parameters = {"tenant_id": tenant_id, "since": now - timedelta(minutes=10)}
    rows = session.connection().exec_driver_sql(_BUSY, parameters)
    return {row.mode: row.streams for row in rows}
