"""What the pages about events show."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering.counters.dead_letters import Letter
from metering.ledger.models import Event
from metering.proof.lane import Lane
from metering.proof.steps import Step
from metering.proof.trail import Trail
from webapp import shown
from webapp.stripe_console import words
from webapp.stripe_console.words import Moment

STEPS = {
    "received": "Received",
    "ledger": "In the ledger",
    "counter": "Counted",
    "price": "Priced",
    "push": "Sent to Stripe",
    "acceptance": "Accepted by Stripe",
    "invoice": "On the invoice",
}
# The API's word, then how it is said, and the mark beside it.
STATUSES = {
    "done": ("Done", "✓"),
    "waiting": ("Waits", "…"),
    "stopped": ("Stopped", "!"),
    "not_applicable": ("Does not apply", "–"),
}
STANDINGS = {
    "unfolded": "not counted yet",
    "counted": "counted",
    "set_aside": "set aside",
    "voided": "voided",
    "dead_letter": "dead letter",
}
LANES = {"live": "Live", "shadow": "Shadow, which bills nobody", "test": "Test mode"}
# Facts that are words of the API's.
_WORDS = ("period_state", "disposition", "adjustment_status", "kind")
_DONE = "It is on the bill: every step is done."


@dataclass(frozen=True)
class ShownStep:
    """facts: (what, value); streams, pushes: rows of the same, for a small table each."""

    name: str
    status: str
    status_words: str
    mark: str
    sentence: str
    way_out: str | None
    adjustment: str | None
    at: Moment | None
    facts: list[tuple[str, str]]
    pushes: list[dict[str, Any]]


@dataclass(frozen=True)
class ShownLane:
    name: str
    steps: list[ShownStep]


@dataclass(frozen=True)
class ShownWalk:
    """sentence: the headline. first: the name of the first step not done, and how it stands."""

    sentence: str
    first: tuple[str, str] | None
    way_out: str | None
    event_id: str
    quantity: str
    metric: str
    customer: str
    happened: Moment
    steps: list[ShownStep]
    lanes: list[ShownLane]
    is_dead: bool
    meta: str | None


def walk(trail: Trail, now: datetime) -> ShownWalk:
    """A trail as the page shows it."""
    event, first = trail.event, trail.first_not_done
    happened = words.moment(event.occurred_at, now)
    assert happened is not None
    return ShownWalk(
        sentence=first.sentence if first is not None else _DONE,
        first=(STEPS[first.step], STATUSES[first.status][0].lower()) if first else None,
        way_out=first.facts.get("way_out") if first else None,
        event_id=event.idempotency_key,
        quantity=shown.quantity(event.quantity),
        metric=event.metric,
        customer=event.customer_ref,
        happened=happened,
        steps=[_step(each, now) for each in trail.steps],
        lanes=[_lane(each, now) for each in trail.lanes],
        is_dead=trail.status == "dead_letter",
        meta=event.meta,
    )


def _lane(lane: Lane, now: datetime) -> ShownLane:
    return ShownLane(LANES[lane.name], [_step(each, now) for each in lane.steps])


def _step(step: Step, now: datetime) -> ShownStep:
    text, mark = STATUSES[step.status]
    return ShownStep(
        name=STEPS[step.step],
        status=step.status,
        status_words=text,
        mark=mark,
        sentence=step.sentence,
        way_out=step.facts.get("way_out"),
        adjustment=step.facts.get("adjustment_id"),
        at=words.moment(step.at, now),
        facts=list(_facts(step.facts).items()),
        pushes=[_push(each, now) for each in step.facts.get("pushes", ())],
    )


def _facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """What has a value, by its name in words; lists of streams by their places in Stripe."""
    found = {}
    for name, value in facts.items():
        if value is None or name in ("pushes", "reason", "way_out") or value == []:
            continue
        label = name.replace("_", " ").removesuffix(" at").removesuffix(" ids")
        if name == "streams":
            for stream in value:
                place = (stream["event_name"], stream["stripe_customer"], stream["account_id"])
                found["meter, customer, account"] = ", ".join(place)
        else:
            found[label] = _value(value).replace("_", " ") if name in _WORDS else _value(value)
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return shown.instant(value)
    if isinstance(value, Decimal):
        return shown.quantity(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _push(push: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "identifier": push["identifier"],
        "quantity": shown.quantity(push["quantity"]),
        "state": push["state"],
        "at": words.moment(push["settled_at"] or push["claimed_at"], now),
        "error": push["error"],
    }


def row(event: Event, status: str, now: datetime, link: str) -> dict[str, Any]:
    """One of the list of events."""
    return {
        "id": event.idempotency_key,
        "link": link,
        "metric": event.metric,
        "customer": event.customer_ref,
        "quantity": shown.quantity(event.quantity),
        "happened": words.moment(event.occurred_at, now),
        "received": words.moment(event.recorded_at, now),
        "status": STANDINGS[status],
        "is_well": status in ("counted", "unfolded"),
    }


def letter(letter: Letter, now: datetime, link: str) -> dict[str, Any]:
    """One of the dead letters."""
    return {
        "id": letter.event_id,
        "link": link,
        "metric": letter.metric,
        "customer": letter.customer_ref,
        "quantity": shown.quantity(letter.quantity),
        "error": letter.error[:1].upper() + letter.error[1:],
        "failed": words.moment(letter.failed_at, now),
        "is_void": letter.is_void,
    }
