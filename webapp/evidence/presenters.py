"""The walk of an event in the contract's form."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering.proof.lane import Lane
from metering.proof.steps import Step
from metering.proof.trail import Trail
from webapp import wire
from webapp.events.presenters import event


def walk(trail: Trail, now: datetime) -> dict[str, Any]:
    """The answer of `GET /v1/events/walk`."""
    return {
        "event": event(trail.event, trail.status),
        "status": trail.status,
        "steps": [_step(each) for each in trail.steps],
        "lanes": [_lane(each) for each in trail.lanes],
        "firstNotDone": _first(trail.first_not_done),
        "asOf": wire.instant(now),
    }


def _lane(lane: Lane) -> dict[str, Any]:
    return {
        "lane": lane.name,
        "mode": lane.mode,
        "steps": [_step(each) for each in lane.steps],
        "firstNotDone": _first(lane.first_not_done),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.step,
        "status": step.status,
        "at": wire.instant(step.at) if step.at is not None else None,
        "sentence": step.sentence,
        "facts": _wired(step.facts),
    }


def _first(step: Step | None) -> dict[str, Any] | None:
    if step is None:
        return None
    return {"step": step.step, "status": step.status, "sentence": step.sentence}


def _wired(value: Any) -> Any:
    """camelCase names, decimals and instants as text."""
    if isinstance(value, Mapping):
        return {_camel(name): _wired(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_wired(inner) for inner in value]
    if isinstance(value, Decimal):
        return wire.decimal(value)
    return wire.instant(value) if isinstance(value, datetime) else value


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
