"""Adjustments in the contract's form."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from metering.billing.at_stake import Change, Decision, Money
from metering.catalog.period import Span
from metering.counters import adjustments, bounds, standing
from metering.counters.adjustments import Content
from metering.counters.bounds import Bounds
from metering.counters.deciding import Effect
from metering.counters.models import Adjustment, AdjustmentStep, SetAside
from metering.ledger import read
from pricing.money import show
from webapp import wire
from webapp.events import presenters as events

CSV_HEADER = (
    "id", "metric", "customerRef", "periodStart", "periodEnd", "periodState", "kind", "delta",
    "reason", "status", "disposition", "origin", "events", "quantity", "carried", "carriedTo",
    "createdAt", "createdBy", "decidedAt", "decidedBy", "note",
)  # fmt: skip


def listed(
    session: Session, tenant_id: str, page: Sequence[Adjustment], now: datetime
) -> list[dict[str, Any]]:
    """Each of a page."""
    contents = adjustments.contents(session, tenant_id, page)
    places = bounds.of_adjustments(session, tenant_id, page, now=now)
    return [one(each, contents[each.adjustment_id], places[each.adjustment_id]) for each in page]


def one(of: Adjustment, content: Content, place: Bounds) -> dict[str, Any]:
    """All that the row itself says."""
    is_carried = of.disposition == "carry_forward" and of.carried is not None
    return {
        "id": of.adjustment_id,
        "tenantId": of.tenant_id,
        "metric": of.metric,
        "customerRef": of.customer_ref,
        "periodStart": wire.instant(of.period_start),
        "periodEnd": wire.instant(place.own.span.end_at),
        "periodState": place.own.state,
        "kind": of.kind,
        "delta": None if of.delta is None else wire.decimal(of.delta),
        "reason": of.reason,
        "status": of.status,
        "disposition": of.disposition,
        "note": of.note,
        "origin": of.origin,
        "events": content.events,
        "quantity": wire.decimal(content.quantity),
        "carried": wire.decimal(of.carried) if is_carried and of.carried is not None else None,
        "carriedTo": _range(place.carried.span) if place.carried is not None else None,
        "arrivedOn": _instant(of.arrived_on),
        "createdAt": wire.instant(of.created_at),
        "createdBy": of.created_by,
        "decidedAt": _instant(of.decided_at),
        "decidedBy": of.decided_by,
    }


def detail(aggregation: str, decision: Decision, steps: Iterable[AdjustmentStep]) -> dict[str, Any]:
    """What it does, and what was done to it."""
    return {
        "aggregation": aggregation,
        "effect": effect(decision.own.effect),
        "money": money(decision.own.money),
        "carryForward": _carried(decision.carried),
        "steps": [step(each) for each in steps],
    }


def effect(of: Effect) -> dict[str, str]:
    return {
        "without": wire.decimal(of.without),
        "applied": wire.decimal(of.applied),
        "difference": wire.decimal(of.difference),
    }


def money(of: Money) -> dict[str, Any]:
    """Amounts in major units and in minor ones."""
    shown: dict[str, Any] = {"currency": of.currency.code if of.currency else None}
    amounts = {"without": of.without, "applied": of.applied, "difference": of.difference}
    for name, minor in amounts.items():
        known = of.currency is not None and minor is not None
        shown[name] = show(minor, of.currency) if known else None  # type: ignore[arg-type]
        shown[f"{name}Minor"] = minor
    return shown | ({} if of.why_not is None else {"warning": of.why_not})


def _carried(of: Change) -> dict[str, Any]:
    return {
        "periodStart": wire.instant(of.span.start_at),
        "periodEnd": wire.instant(of.span.end_at),
        "effect": effect(of.effect),
        "money": money(of.money),
    }


def step(of: AdjustmentStep) -> dict[str, Any]:
    """An approval names its disposition."""
    action, _, disposition = of.action.partition(": ")
    return {
        "action": action,
        "disposition": disposition or None,
        "actor": of.actor,
        "note": of.note,
        "at": wire.instant(of.taken_at),
    }


def events_of(session: Session, tenant_id: str, rows: Sequence[SetAside]) -> list[dict[str, Any]]:
    """Set-aside events as the ledger holds them, in the order given."""
    found = read.by_keys(session, tenant_id, [row.idempotency_key for row in rows])
    known = [found[row.idempotency_key] for row in rows]
    standings = standing.of_events(session, tenant_id, known)
    return [events.event(each, standings[each.idempotency_key]) for each in known]


def csv_rows(
    session: Session, tenant_id: str, pages: Iterable[Sequence[Adjustment]], now: datetime
) -> Iterator[Sequence[object]]:
    """Numbers stay numbers, so that they can be summed up."""
    for page in pages:
        contents = adjustments.contents(session, tenant_id, page)
        for shown, each in zip(listed(session, tenant_id, page, now), page, strict=True):
            numbers = {
                "delta": each.delta,
                "quantity": contents[each.adjustment_id].quantity,
                "carried": None if shown["carried"] is None else each.carried,
                "carriedTo": (shown["carriedTo"] or {}).get("start"),
            }
            yield [(shown | numbers)[name] for name in CSV_HEADER]


def _range(span: Span) -> dict[str, str]:
    return {"start": wire.instant(span.start_at), "end": wire.instant(span.end_at)}


def _instant(at: datetime | None) -> str | None:
    return None if at is None else wire.instant(at)
