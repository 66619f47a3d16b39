"""Adjustments: what people decide about usage that no counter tells.

Two kinds: set-aside `events`, proposed by themselves (see `proposals`), and a `delta`, a number of
units of either sign. Only an approved one touches a total, and only with two of the dispositions:
`apply` counts it in its own period, `carry_forward` as a number in the period that is open now.
The others say how it is settled outside the meter: an invoice item, a credit note, or not at all.

`deciding` takes the decisions.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.period import Span
from metering.counters import corrections
from metering.counters.models import Adjustment, AdjustmentStep, SetAside
from metering.counters.proposals import new_id
from metering.errors import ConflictError, InvalidInputError, NotFoundError
from metering.tenancy import locks

STATUSES = ("pending", "approved", "declined", "reverted")
KINDS = ("events", "delta")
# `late` and `backfill` are what is proposed; people give the others.
REASONS = ("backfill", "correction", "promo", "credit", "manual", "late")
COUNTED = ("apply", "carry_forward")
DISPOSITIONS = (*COUNTED, "invoice_item", "credit_note", "write_off")
ORIGINS = ("manual", "set_aside", "unbilled")
MAX_NOTE = 2_000


@dataclass(frozen=True)
class Wanted:
    """A number of units to add to a customer's metric in the period that holds `instant`.

    delta: not 0; less than 0 takes away.  instant: None: now.
    """

    customer_ref: str
    metric: str
    delta: Decimal
    reason: str
    instant: datetime | None = None
    note: str | None = None


@dataclass(frozen=True)
class Filter:
    """Which adjustments; None: whatever it is. after: (created_at, id) of the last one seen.

    oldest_first: not the latest first.
    """

    status: str | None = None
    customer_ref: str | None = None
    metric: str | None = None
    kind: str | None = None
    reason: str | None = None
    origin: str | None = None
    period_start: datetime | None = None
    after: tuple[datetime, str] | None = None
    limit: int = 25
    oldest_first: bool = False


@dataclass(frozen=True)
class Content:
    """What an adjustment is of. events: how many, voided ones too; quantity: the sum of them, or
    the delta."""

    events: int
    quantity: Decimal


def id_of(request_key: str | None) -> str:
    """A new id; the same for the same `Idempotency-Key`, so that a repetition finds the first."""
    if request_key is None:
        return new_id()
    return f"adj_{hashlib.sha256(request_key.encode()).hexdigest()[:24]}"


def create(
    session: Session,
    tenant_id: str,
    adjustment_id: str,
    wanted: Wanted,
    *,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Propose a delta; it counts once it is approved.

    Raises: InvalidInputError for a delta of 0, an unknown reason or a period that has not begun;
            NotFoundError for an unknown metric; ConflictError where the id has other content.
    """
    _check(wanted, now)
    metrics.get(session, tenant_id, wanted.metric)
    locks.lock(session, tenant_id)
    period = _period(session, tenant_id, wanted, now)
    known = _find(session, tenant_id, adjustment_id)
    if known is not None:
        same = (wanted.customer_ref, wanted.metric, wanted.delta, wanted.reason, wanted.note)
        is_other = wanted.instant is not None and period.start_at != known.period_start
        if is_other or same != (
            known.customer_ref, known.metric, known.delta, known.reason, known.note,
        ):  # fmt: skip
            raise ConflictError("the Idempotency-Key was already used for another adjustment")
        return known
    made = Adjustment(
        tenant_id=tenant_id,
        adjustment_id=adjustment_id,
        customer_ref=wanted.customer_ref,
        metric=wanted.metric,
        period_start=period.start_at,
        kind="delta",
        delta=wanted.delta,
        reason=wanted.reason,
        status="pending",
        note=wanted.note,
        origin="manual",
        created_at=now,
        created_by=actor,
    )
    session.add(made)
    write_down(session, made, "create", actor, wanted.note, now)
    return made


def _check(wanted: Wanted, now: datetime) -> None:
    if not wanted.delta:
        raise InvalidInputError("a delta of 0 changes nothing", pointer="/delta")
    if wanted.reason not in REASONS:
        raise InvalidInputError(f"must be one of {', '.join(REASONS)}", pointer="/reason")
    if wanted.instant is not None and wanted.instant > now:
        raise InvalidInputError("the period has not begun", pointer="/periodStart")
    check_note(wanted.note)


def check_note(note: str | None) -> None:
    """Raises: InvalidInputError if it is too long."""
    if note is not None and len(note) > MAX_NOTE:
        raise InvalidInputError(f"must be at most {MAX_NOTE} characters", pointer="/note")


def _period(session: Session, tenant_id: str, wanted: Wanted, now: datetime) -> Span:
    return corrections.period_at(
        session, tenant_id, wanted.customer_ref, wanted.metric, wanted.instant or now
    )


def get(session: Session, tenant_id: str, adjustment_id: str) -> Adjustment:
    """The adjustment, or NotFoundError."""
    found = _find(session, tenant_id, adjustment_id)
    if found is None:
        raise NotFoundError(f"there is no adjustment {adjustment_id!r}")
    return found


def _find(session: Session, tenant_id: str, adjustment_id: str) -> Adjustment | None:
    # Not locked: whoever changes one holds the tenant's lock, and whoever reads one first and then
    # waits for that lock must not hold a row that the other waits for.
    return session.scalar(
        select(Adjustment)
        .where(Adjustment.tenant_id == tenant_id, Adjustment.adjustment_id == adjustment_id)
        .execution_options(populate_existing=True)
    )


def page(session: Session, tenant_id: str, wanted: Filter) -> Sequence[Adjustment]:
    """The latest first, or the oldest; one more than `limit` where there are more."""
    equal = {
        Adjustment.status: wanted.status,
        Adjustment.customer_ref: wanted.customer_ref,
        Adjustment.metric: wanted.metric,
        Adjustment.kind: wanted.kind,
        Adjustment.reason: wanted.reason,
        Adjustment.origin: wanted.origin,
        Adjustment.period_start: wanted.period_start,
    }
    statement = select(Adjustment).where(
        Adjustment.tenant_id == tenant_id,
        *(column == value for column, value in equal.items() if value is not None),
    )
    place = tuple_(Adjustment.created_at, Adjustment.adjustment_id)
    if wanted.after is not None:
        beyond = place > wanted.after if wanted.oldest_first else place < wanted.after
        statement = statement.where(beyond)
    order = (Adjustment.created_at, Adjustment.adjustment_id)
    ordered = order if wanted.oldest_first else tuple(column.desc() for column in order)
    return session.scalars(statement.order_by(*ordered).limit(wanted.limit + 1)).all()


def every(
    session: Session, tenant_id: str, wanted: Filter, *, size: int = 500
) -> Iterator[Sequence[Adjustment]]:
    """All of them, page by page; no transaction stays open between two."""
    after = wanted.after
    while True:
        found = page(session, tenant_id, replace(wanted, after=after, limit=size))
        if found:
            yield found[:size]
        if len(found) <= size:
            return
        after = found[size - 1].created_at, found[size - 1].adjustment_id
        session.rollback()


def contents(
    session: Session, tenant_id: str, adjustments: Sequence[Adjustment]
) -> dict[str, Content]:
    """What each of them is of, by id."""
    found = {one.adjustment_id: Content(0, one.delta or Decimal(0)) for one in adjustments}
    ids = [one.adjustment_id for one in adjustments if one.kind == "events"]
    if ids:
        rows = session.execute(
            select(SetAside.adjustment_id, func.count(), func.sum(SetAside.quantity))
            .where(SetAside.tenant_id == tenant_id, SetAside.adjustment_id.in_(ids))
            .group_by(SetAside.adjustment_id)
        )
        found |= {str(row[0]): Content(row[1], row[2]) for row in rows}
    return found


def events_of(
    session: Session, tenant_id: str, adjustment_id: str, *, after: str = "", limit: int = 100
) -> Sequence[SetAside]:
    """Its set-aside events by key, those beyond `after`."""
    return session.scalars(
        select(SetAside)
        .where(
            SetAside.tenant_id == tenant_id,
            SetAside.adjustment_id == adjustment_id,
            SetAside.idempotency_key > after,
        )
        .order_by(SetAside.idempotency_key)
        .limit(limit)
    ).all()


def steps(session: Session, tenant_id: str, adjustment_id: str) -> Sequence[AdjustmentStep]:
    """What was done to it, the first first."""
    return session.scalars(
        select(AdjustmentStep)
        .where(AdjustmentStep.tenant_id == tenant_id, AdjustmentStep.adjustment_id == adjustment_id)
        .order_by(AdjustmentStep.number)
    ).all()


def write_down(
    session: Session,
    adjustment: Adjustment,
    action: str,
    actor: str,
    note: str | None,
    now: datetime,
) -> None:
    """Add to what was done to it."""
    session.flush()
    latest = session.scalar(
        select(func.max(AdjustmentStep.number)).where(
            AdjustmentStep.tenant_id == adjustment.tenant_id,
            AdjustmentStep.adjustment_id == adjustment.adjustment_id,
        )
    )
    session.add(
        AdjustmentStep(
            tenant_id=adjustment.tenant_id,
            adjustment_id=adjustment.adjustment_id,
            number=(latest or 0) + 1,
            action=action,
            actor=actor,
            note=note,
            taken_at=now,
        )
    )
    session.flush()


def pending(session: Session, tenant_id: str, customer_ref: str | None = None) -> int:
    """How many wait for a decision."""
    waiting = select(func.count()).where(
        Adjustment.tenant_id == tenant_id, Adjustment.status == "pending"
    )
    if customer_ref is not None:
        waiting = waiting.where(Adjustment.customer_ref == customer_ref)
    return session.scalar(waiting) or 0


def by_status(session: Session, tenant_id: str) -> dict[str, int]:
    """How many there are of each status that any has."""
    rows = session.execute(
        select(Adjustment.status, func.count())
        .where(Adjustment.tenant_id == tenant_id)
        .group_by(Adjustment.status)
    )
    return {row[0]: row[1] for row in rows}
