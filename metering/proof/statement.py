"""A customer's billing period as lines: every event of the ledger, every decision, every total.

It is written page by page, in short transactions, while usage goes on; its lines are those of one
instant, which `frame.fix` has fixed. What came later is left out; if a decision changes what was
fixed while it is written, the statement is broken off and bears no signature.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.billing.projection import Line
from metering.catalog.period import Span
from metering.counters.models import Adjustment
from metering.errors import ConflictError
from metering.proof import form
from metering.proof import frame as frames
from metering.proof.form import Record
from metering.proof.frame import Frame
from metering.proof.tally import Tally
from metering.stripe.spans import Periods, Source
from pricing import money
from pricing.numbers import plain

VERSION = "1"
# Events of a page.
PAGE = 2_000
_HOUR, _MOST, _LEAST = timedelta(hours=1), timedelta(days=2), timedelta(seconds=1)

# Each call gives a session in a transaction of its own.
Step = Callable[[], AbstractContextManager[Session]]


def records(frame: Frame, step: Step, *, generated_at: datetime) -> Iterator[Record]:
    """The statement's records in their order; at last the totals.

    Raises: ConflictError if what was fixed no longer holds, or the lines do not add up to it.
    """
    tally = Tally()
    yield {
        "type": "statement",
        "version": VERSION,
        "tenantId": frame.tenant_id,
        "customerRef": frame.customer_ref,
        "periodStart": _instant(frame.span.start_at),
        "periodEnd": _instant(frame.span.end_at),
        "asOf": _instant(frame.as_of),
        "generatedAt": _instant(generated_at),
    }
    for number, record in enumerate(_numbered(frame, step), start=1):
        made = _with_digest({"type": record["type"], "n": number} | record)
        tally.take(made)
        yield made
    with step() as session:
        if frames.decisions(session, frame.tenant_id, frame.customer_ref) != frame.decisions:
            raise ConflictError(_CHANGED)
    totals = [_total(line, frame, tally) for line in frame.totals]
    if tally.metrics - {str(total["metric"]) for total in totals}:
        raise ConflictError(_CHANGED)
    yield from totals


def _numbered(frame: Frame, step: Step) -> Iterator[dict[str, Any]]:
    for page in _pages(frame, step):
        yield from page
    spans = frame.spans
    for each in frame.adjustments:
        yield _adjustment(each, spans.get(each.metric))


def _with_digest(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"digest": form.record_digest(record)}


def _pages(frame: Frame, step: Step) -> Iterator[list[dict[str, Any]]]:
    """Slices of time, as long as a page takes; where even a second holds more, by key."""
    at, length, after = frame.span.start_at, _HOUR, ("", None)
    spans: dict[str, Span] = {}
    while at < frame.span.end_at:
        until = min(at + length, frame.span.end_at)
        with step() as session:
            rows = _read(session, frame, at, until, after)
            if len(rows) > PAGE and length > _LEAST and after[1] is None:
                length = max(length / 8, _LEAST)
                continue
            page = [row for row in rows[:PAGE] if frame.moment.shows(row.recorded_at, row.xid)]
            made = _events(session, frame, page, spans)
        yield made
        if len(rows) > PAGE:
            after = (rows[PAGE - 1].idempotency_key, rows[PAGE - 1].occurred_at)
            continue
        at, after = until, ("", None)
        if len(rows) < PAGE / 8:
            length = min(length * 2, _MOST)


_PAGE = """
SELECT e.idempotency_key, e.metric, e.customer_ref, e.quantity, e.occurred_at, e.recorded_at,
       e.resource_id, e.source, e.xmin::text::bigint AS xid
FROM events e
WHERE e.tenant_id = %(tenant_id)s AND e.customer_ref = %(customer_ref)s
  AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(end_at)s
  AND (%(after_at)s::timestamptz IS NULL
       OR (e.occurred_at, e.idempotency_key) > (%(after_at)s::timestamptz, %(after)s))
ORDER BY e.occurred_at, e.idempotency_key LIMIT %(limit)s
"""


def _read(
    session: Session,
    frame: Frame,
    start_at: datetime,
    end_at: datetime,
    after: tuple[str, datetime | None],
) -> list[Any]:
    parameters = {
        "tenant_id": frame.tenant_id,
        "customer_ref": frame.customer_ref,
        "start_at": start_at,
        "end_at": end_at,
        "after": after[0],
        "after_at": after[1],
        "limit": PAGE + 1,
    }
    return list(session.connection().exec_driver_sql(_PAGE, parameters))


# What is in none of these is counted, unless it was unfolded at the statement's instant; so is what
# was set aside and approved for its own period.
_STANDING = """
SELECT idempotency_key, 'dead_letter' AS status FROM dead_letters
WHERE tenant_id = %(tenant_id)s AND idempotency_key = ANY(%(keys)s)
UNION ALL
SELECT s.idempotency_key, 'set_aside'
FROM set_aside s
LEFT JOIN adjustments a ON a.tenant_id = %(tenant_id)s AND a.adjustment_id = s.adjustment_id
WHERE s.tenant_id = %(tenant_id)s AND s.idempotency_key = ANY(%(keys)s)
  AND (a.status = 'approved' AND a.disposition = 'apply') IS NOT TRUE
"""
_VOIDED = """
SELECT idempotency_key FROM voids
WHERE tenant_id = %(tenant_id)s AND idempotency_key = ANY(%(keys)s)
"""


def _events(
    session: Session, frame: Frame, rows: list[Any], spans: dict[str, Span]
) -> list[dict[str, Any]]:
    """The page's events of the period, each with where it stands.

    spans: by metric, its billing period at the statement's start; what is not known is added.
    """
    if not rows:
        return []
    new = {row.metric for row in rows} - spans.keys()
    sources = {metric: Source(frame.customer_ref, metric) for metric in new}
    periods = Periods(session, frame.tenant_id, sources.values())
    for metric, source in sources.items():
        period = periods.at(source, frame.span.start_at)
        spans[metric] = Span(period.start_at, period.end_at)
    parameters = {
        "tenant_id": frame.tenant_id,
        "keys": [row.idempotency_key for row in rows],
    }
    connection = session.connection()
    voids = set(connection.exec_driver_sql(_VOIDED, parameters).scalars())
    elsewhere = {
        row.idempotency_key: row.status for row in connection.exec_driver_sql(_STANDING, parameters)
    }
    made = []
    for row in rows:
        key, span = row.idempotency_key, spans[row.metric]
        if span.start_at != frame.span.start_at or row.occurred_at >= span.end_at:
            continue
        state = "unfolded" if key in frame.unfolded else elsewhere.get(key, "counted")
        made.append(_event(row, "voided" if key in voids else state))
    return made


def _event(row: Any, state: str) -> dict[str, Any]:
    return {
        "type": "event",
        "id": row.idempotency_key,
        "metric": row.metric,
        "quantity": plain(row.quantity),
        "ts": _instant(row.occurred_at),
        "recordedAt": _instant(row.recorded_at),
        "resourceId": row.resource_id,
        "source": row.source,
        "status": state,
        "counts": state == "counted",
    }


def _adjustment(each: Adjustment, span: Span | None) -> dict[str, Any]:
    """delta: what it adds to this period's total by itself; approved events do by their lines."""
    delta = None
    if each.disposition == "carry_forward":
        delta = each.carried if frames.counts_in(each, span) else None
    elif each.disposition == "apply":
        delta = each.delta
    return {
        "type": "adjustment",
        "id": each.adjustment_id,
        "metric": each.metric,
        "kind": each.kind,
        "reason": each.reason,
        "disposition": each.disposition,
        "delta": None if delta is None else plain(delta),
        "decidedAt": None if each.decided_at is None else _instant(each.decided_at),
        "decidedBy": each.decided_by,
        "note": each.note,
    }


def _total(line: Line, frame: Frame, tally: Tally) -> dict[str, Any]:
    """The one total, as it is shown everywhere; ConflictError if the lines say another."""
    usage, carried = line.usage, Decimal(0)
    found = tally.total(usage.metric, usage.aggregation)
    if usage.aggregation == "last" and not tally.counts(usage.metric):
        carried = usage.value - found
        found = usage.value
    if found != usage.value:
        raise ConflictError(_CHANGED)
    amounts, is_other = line.amounts, usage.span != frame.span
    return {
        "type": "total",
        "metric": usage.metric,
        "aggregation": usage.aggregation,
        "value": plain(usage.value),
        "unit": usage.unit,
        "amount": None if amounts is None else money.show(amounts.current, amounts.currency),
        "currency": None if amounts is None else amounts.currency.code,
        "carried": plain(carried) if carried else None,
        "periodEnd": _instant(usage.span.end_at) if is_other else None,
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


_CHANGED = (
    "the customer's usage was changed by a decision while the statement was written; ask for it"
    " again"
)
