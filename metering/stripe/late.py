"""Usage that Stripe took after the period's invoice was final, or was never sent: as rows say it.

An invoice becomes final at an instant that we learn of only later. What Stripe accepted in between
is in its total and on no invoice; what was not sent by then is in `unsendable`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.database import plan_anew
from metering.stripe.spans import Periods, Source


@dataclass(frozen=True, order=True)
class Key:
    """A customer's metric in the billing period that starts then."""

    source: Source
    start_at: datetime


@dataclass(frozen=True)
class Late:
    """What Stripe accepted of a stream's segment after the invoice of its period was final.

    is_certain: False where some of it was on its way by then: Stripe may have taken it before.
    """

    key: Key
    stream_id: str
    basis: str
    segment_start: datetime
    invoice_id: str | None
    final_at: datetime
    quantity: Decimal
    first_at: datetime
    last_at: datetime
    is_certain: bool


@dataclass(frozen=True)
class Missing:
    """A row of `unsendable`, with the period that it is of."""

    key: Key
    stream_id: str
    basis: str
    segment_start: datetime
    quantity: Decimal
    kind: str


# Each table by its key, and what is not of the key only then: the planner would rather read all
# streams of a mode, once for each customer.
_TAKEN = """
SELECT w.customer_ref, w.metric, w.start_at, f.stream_id, p.basis, p.segment_start,
       b.invoice_id, b.final_at, sum(p.quantity) AS quantity, min(p.settled_at) AS first_at,
       max(p.settled_at) AS last_at, bool_and(p.claimed_at > b.final_at) AS is_certain
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[])
    AS w (customer_ref, metric, start_at)
CROSS JOIN LATERAL (
    SELECT start_at, end_at, invoice_id, final_at FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
      AND start_at = w.start_at AND mode = %(mode)s AND final_at IS NOT NULL
    OFFSET 0
) AS b
CROSS JOIN LATERAL (
    SELECT stream_id FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
    OFFSET 0
) AS f
CROSS JOIN LATERAL (
    SELECT mode FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = f.stream_id OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT basis, segment_start, quantity, claimed_at, settled_at, state FROM pushes
    WHERE tenant_id = %(tenant_id)s AND stream_id = f.stream_id
      AND segment_start >= b.start_at AND segment_start < b.end_at
    OFFSET 0
) AS p
WHERE t.mode = %(mode)s AND p.basis <> 'direct' AND p.state IN ('settled', 'confirmed')
  AND p.settled_at > b.final_at
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def taken(session: Session, tenant_id: str, mode: str, keys: Iterable[Key]) -> list[Late]:
    """What Stripe took too late of each period, by segment; of a stream that several feed, once for
    each of them that is named."""
    rows = _asked(session, _TAKEN, tenant_id, mode, keys)
    return [
        Late(
            Key(Source(row.customer_ref, row.metric), row.start_at),
            row.stream_id,
            row.basis,
            row.segment_start,
            row.invoice_id,
            row.final_at,
            row.quantity,
            row.first_at,
            row.last_at,
            row.is_certain,
        )
        for row in rows
    ]


_MISSING = """
SELECT w.customer_ref, w.metric, u.stream_id, u.basis, u.segment_start, u.quantity, u.kind
FROM (SELECT DISTINCT customer_ref, metric
      FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[])
          AS w (customer_ref, metric, start_at)) AS w
CROSS JOIN LATERAL (
    SELECT stream_id FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
    OFFSET 0
) AS f
CROSS JOIN LATERAL (
    SELECT mode FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = f.stream_id OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT stream_id, basis, segment_start, quantity, kind FROM unsendable
    WHERE tenant_id = %(tenant_id)s AND stream_id = f.stream_id OFFSET 0
) AS u
WHERE t.mode = %(mode)s
"""


def missing(
    session: Session, tenant_id: str, mode: str, keys: Iterable[Key], periods: Periods
) -> list[Missing]:
    """What could not be sent of each period, by segment; as `taken`."""
    wanted = set(keys)
    found = []
    for row in _asked(session, _MISSING, tenant_id, mode, wanted):
        source = Source(row.customer_ref, row.metric)
        key = Key(source, periods.at(source, row.segment_start).start_at)
        if key in wanted:
            found.append(
                Missing(key, row.stream_id, row.basis, row.segment_start, row.quantity, row.kind)
            )
    return found


def _asked(
    session: Session, statement: str, tenant_id: str, mode: str, keys: Iterable[Key]
) -> Sequence[Any]:
    ordered = sorted(set(keys))
    if not ordered:
        return []
    parameters = {
        "tenant_id": tenant_id,
        "mode": mode,
        "refs": [key.source.customer_ref for key in ordered],
        "metrics": [key.source.metric for key in ordered],
        "starts": [key.start_at for key in ordered],
    }
    plan_anew(session)
    return session.connection().exec_driver_sql(statement, parameters).all()


# Where to look: what cannot be sent; what was accepted lately of periods whose invoice is final
# (what was accepted before we learned that it is, was looked for then); and what is proposed.
_LOOK = """
SELECT f.customer_ref, f.metric, u.segment_start AS at
FROM unsendable u
CROSS JOIN LATERAL (
    SELECT mode FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = u.stream_id OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT customer_ref, metric FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND stream_id = u.stream_id OFFSET 0
) AS f
WHERE u.tenant_id = %(tenant_id)s AND NOT u.is_decided AND t.mode = %(mode)s
UNION
SELECT b.customer_ref, b.metric, b.start_at
FROM pushes p
CROSS JOIN LATERAL (
    SELECT customer_ref, metric FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND stream_id = p.stream_id OFFSET 0
) AS f
CROSS JOIN LATERAL (
    SELECT customer_ref, metric, start_at, end_at, final_at FROM billing_periods
    WHERE tenant_id = %(tenant_id)s AND customer_ref = f.customer_ref AND metric = f.metric
      AND start_at <= p.segment_start
    ORDER BY start_at DESC LIMIT 1
) AS b
WHERE p.tenant_id = %(tenant_id)s AND p.state = 'settled' AND p.basis <> 'direct'
  AND b.end_at > p.segment_start AND p.settled_at > b.final_at
UNION
SELECT customer_ref, metric, period_start FROM adjustments
WHERE tenant_id = %(tenant_id)s AND status = 'pending' AND origin = 'unbilled'
"""


def places(session: Session, tenant_id: str, mode: str) -> list[Key]:
    """The periods that are to be looked at, in order."""
    parameters = {"tenant_id": tenant_id, "mode": mode}
    plan_anew(session)
    rows = session.connection().exec_driver_sql(_LOOK, parameters).all()
    sources = [Source(row.customer_ref, row.metric) for row in rows]
    periods = Periods(session, tenant_id, sources)
    return sorted(
        {
            Key(source, periods.at(source, row.at).start_at)
            for source, row in zip(sources, rows, strict=True)
        }
    )


_USED = """
SELECT DISTINCT w.stream_id, w.basis, w.segment_start, f.customer_ref, f.metric
FROM unnest(%(ids)s::text[], %(bases)s::text[], %(starts)s::timestamptz[])
    AS w (stream_id, basis, segment_start)
CROSS JOIN LATERAL (
    SELECT customer_ref, metric FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND stream_id = w.stream_id OFFSET 0
) AS f
WHERE EXISTS (
    SELECT 1 FROM used_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = f.customer_ref AND s.metric = f.metric
      AND s.segment_start = w.segment_start AND w.basis = 'hour'
) OR EXISTS (
    SELECT 1 FROM used_counters c
    WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = f.customer_ref AND c.metric = f.metric
      AND c.period_start = w.segment_start AND w.basis = 'period'
)
"""

_DECIDED = """
UPDATE unsendable u SET is_decided = true
FROM unnest(%(ids)s::text[], %(bases)s::text[], %(starts)s::timestamptz[],
            %(quantities)s::numeric[])
    AS w (stream_id, basis, segment_start, quantity)
WHERE u.tenant_id = %(tenant_id)s AND u.stream_id = w.stream_id AND u.basis = w.basis
  AND u.segment_start = w.segment_start AND u.quantity = w.quantity AND NOT u.is_decided
"""


def note_decided(session: Session, tenant_id: str, decided: Sequence[Missing]) -> None:
    """Nothing of these is pending any more. Of what has changed by now, something may be."""
    if not decided:
        return
    ordered = sorted(decided, key=lambda each: (each.stream_id, each.basis, each.segment_start))
    parameters = {
        "tenant_id": tenant_id,
        "ids": [each.stream_id for each in ordered],
        "bases": [each.basis for each in ordered],
        "starts": [each.segment_start for each in ordered],
        "quantities": [each.quantity for each in ordered],
    }
    session.connection().exec_driver_sql(_DECIDED, parameters)


Segment = tuple[str, str, datetime]


def users(
    session: Session, tenant_id: str, segments: Iterable[Segment]
) -> Mapping[Segment, list[Source]]:
    """Who has used anything in each (stream, basis, start), in order."""
    ordered = sorted(set(segments))
    found: dict[Segment, list[Source]] = defaultdict(list)
    if not ordered:
        return found
    parameters = {
        "tenant_id": tenant_id,
        "ids": [stream_id for stream_id, _, _ in ordered],
        "bases": [basis for _, basis, _ in ordered],
        "starts": [start_at for _, _, start_at in ordered],
    }
    for row in session.connection().exec_driver_sql(_USED, parameters):
        segment = row.stream_id, row.basis, row.segment_start
        found[segment].append(Source(row.customer_ref, row.metric))
    return {segment: sorted(sources) for segment, sources in found.items()}
