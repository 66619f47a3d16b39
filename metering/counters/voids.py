"""Void one event: it counts nowhere any more, and can be restored.

The ledger keeps the event and the counter keeps holding it; what counts is made anew without it,
exactly for all aggregations, in open periods and in closed ones.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from metering.counters import carried, corrections, fold
from metering.counters.models import Void, VoidStep
from metering.errors import ConflictError, InvalidInputError, NotFoundError
from metering.ledger.models import Event, Unfolded
from metering.tenancy import locks

MAX_REASON = 2_000


def void(
    session: Session, tenant_id: str, key: str, *, reason: str, actor: str, now: datetime
) -> Void:
    """Leave an event out of every total. Voiding it again changes nothing, not even the reason.

    Raises: NotFoundError for an unknown event; ConflictError where it is still waiting behind more
            events than are counted at once.
    """
    _check(reason)
    event = _event(session, tenant_id, key)
    locks.lock(session, tenant_id)
    _fold_first(session, event, now)
    known = get(session, tenant_id, key)
    if known is not None:
        return known
    made = Void(
        tenant_id=tenant_id,
        idempotency_key=key,
        customer_ref=event.customer_ref,
        metric=event.metric,
        occurred_at=event.occurred_at,
        reason=reason,
        actor=actor,
        voided_at=now,
    )
    session.add(made)
    _write_down(session, event, "void", reason, actor, now)
    _refresh(session, event, now)
    return made


def restore(
    session: Session, tenant_id: str, key: str, *, reason: str, actor: str, now: datetime
) -> None:
    """Let a voided event count as it did. Raises: NotFoundError for an unknown event,
    ConflictError for one that is not void."""
    _check(reason)
    event = _event(session, tenant_id, key)
    locks.lock(session, tenant_id)
    known = get(session, tenant_id, key)
    if known is None:
        raise ConflictError(f"the event {key!r} is not void")
    session.delete(known)
    _write_down(session, event, "restore", reason, actor, now)
    _refresh(session, event, now)


def get(session: Session, tenant_id: str, key: str) -> Void | None:
    """Why and by whom the event is void, if it is."""
    return session.scalar(
        select(Void)
        .where(Void.tenant_id == tenant_id, Void.idempotency_key == key)
        .execution_options(populate_existing=True)
    )


def steps(session: Session, tenant_id: str, key: str) -> Sequence[VoidStep]:
    """Every voiding and restoring of the event, the first first."""
    return session.scalars(
        select(VoidStep)
        .where(VoidStep.tenant_id == tenant_id, VoidStep.idempotency_key == key)
        .order_by(VoidStep.number)
    ).all()


def _check(reason: str) -> None:
    if not 1 <= len(reason) <= MAX_REASON:
        raise InvalidInputError(f"must be 1 to {MAX_REASON} characters", pointer="/reason")


def _event(session: Session, tenant_id: str, key: str) -> Event:
    event = session.get(Event, (tenant_id, key))
    if event is None:
        raise NotFoundError(f"there is no event {key!r}")
    return event


def _fold_first(session: Session, event: Event, now: datetime) -> None:
    """What waits to be counted would be added to the corrected rows as if it were not void."""
    if not _is_waiting(session, event):
        return
    fold.fold(session, event.tenant_id, now=now, is_alone=False)
    if _is_waiting(session, event):
        raise ConflictError("the event is still waiting to be counted; try again in a moment")


def _is_waiting(session: Session, event: Event) -> bool:
    waiting = select(Unfolded.tenant_id).where(
        Unfolded.tenant_id == event.tenant_id,
        Unfolded.recorded_at == event.recorded_at,
        Unfolded.idempotency_key == event.idempotency_key,
    )
    return session.execute(waiting).first() is not None


def _refresh(session: Session, event: Event, now: datetime) -> None:
    key = event.tenant_id, event.customer_ref, event.metric
    instant = event.occurred_at.astimezone(UTC)
    span = corrections.period_at(session, *key, instant)
    corrections.refresh(session, *key, span, now=now)
    carried.bring_up(session, *key, span, now=now)


def _write_down(
    session: Session, event: Event, action: str, reason: str, actor: str, now: datetime
) -> None:
    latest = session.scalar(
        select(func.max(VoidStep.number)).where(
            VoidStep.tenant_id == event.tenant_id,
            VoidStep.idempotency_key == event.idempotency_key,
        )
    )
    session.add(
        VoidStep(
            tenant_id=event.tenant_id,
            idempotency_key=event.idempotency_key,
            number=(latest or 0) + 1,
            action=action,
            reason=reason,
            actor=actor,
            taken_at=now,
        )
    )
