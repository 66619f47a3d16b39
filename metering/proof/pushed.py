"""What was sent to Stripe of the segment that holds an event, and what keeps the rest.

Stripe is told of segments, never of events: the event is there when its segment is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.proof.place import Place
from metering.proof.steps import DONE, STOPPED, WAITING, Step, number, on, sentence
from metering.stripe.destinations import Atlas, Found
from metering.stripe.models import Connection, Held, Unsent

_ROWS = """
SELECT t.stream_id, t.account_id, t.event_name, t.stripe_customer, t.blocked_kind,
       t.blocked_reason, t.retry_at, p.identifier, p.basis, p.quantity, p.state, p.attempts,
       p.claimed_at, p.lease_until, p.settled_at, p.confirmed_at, p.error,
       u.reason AS unsendable, u.quantity AS unsendable_quantity
FROM stream_sources f
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = f.stream_id
LEFT JOIN LATERAL (
    SELECT * FROM pushes
    WHERE tenant_id = %(tenant_id)s AND stream_id = t.stream_id
      AND (basis = 'hour' AND segment_start = %(segment_start)s
           OR basis = 'period' AND segment_start = %(period_start)s)
    OFFSET 0
) AS p ON true
LEFT JOIN LATERAL (
    SELECT min(reason) AS reason, sum(quantity) AS quantity FROM unsendable
    WHERE tenant_id = %(tenant_id)s AND stream_id = t.stream_id
      AND (basis = 'hour' AND segment_start = %(segment_start)s
           OR basis = 'period' AND segment_start = %(period_start)s)
    OFFSET 0
) AS u ON true
WHERE f.tenant_id = %(tenant_id)s AND f.customer_ref = %(customer_ref)s AND f.metric = %(metric)s
  AND t.mode = %(mode)s
ORDER BY p.claimed_at, p.identifier, t.stream_id
"""

# What the hour comes to, decisions and all.
_COUNTED = """
SELECT coalesce(c.sum_value + c.delta, s.sum_value) AS sum,
       coalesce(c.event_count + c.delta, s.event_count) AS count
FROM (VALUES (1)) AS one (row)
LEFT JOIN segments s ON s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
    AND s.metric = %(metric)s AND s.segment_start = %(segment_start)s
LEFT JOIN corrected_segments c ON c.tenant_id = %(tenant_id)s
    AND c.customer_ref = %(customer_ref)s AND c.metric = %(metric)s
    AND c.segment_start = %(segment_start)s
"""


@dataclass(frozen=True)
class Sent:
    """All that is known between a segment and Stripe in one mode.

    rows: streams that the customer's metric feeds, each with its pushes of the segment.
    is_nothing: the segment adds nothing, so that nothing need be sent.
    """

    rows: Sequence[Any]
    leads: Found
    held: Held | None
    unsent: Unsent | None
    halted: Connection | None
    is_nothing: bool

    @property
    def pushes(self) -> list[Any]:
        return [row for row in self.rows if row.identifier is not None]

    @property
    def live(self) -> list[Any]:
        """Those that Stripe has, or may have."""
        return [row for row in self.pushes if row.state != "rejected"]

    @property
    def is_all_sent(self) -> bool:
        """Whether nothing waits, neither here nor on the way."""
        is_answered = all(row.state != "claimed" for row in self.live)
        return bool(self.live) and is_answered and self.unsent is None


def look(session: Session, tenant_id: str, mode: str, place: Place, leads: Found) -> Sent:
    """Read what there is of the segment, in a handful of look-ups by key."""
    source, start = place.source, place.segment_start
    name = (tenant_id, mode, source.customer_ref, source.metric)
    parameters = {
        "tenant_id": tenant_id,
        "mode": mode,
        "customer_ref": source.customer_ref,
        "metric": source.metric,
        "segment_start": start,
        "period_start": place.span.start_at,
    }
    rows = session.connection().exec_driver_sql(_ROWS, parameters).all()
    held = session.get(Held, name)
    accounts = {each.stream.account_id for each in leads.destinations}
    halted = session.scalar(
        select(Connection)
        .where(
            Connection.tenant_id == tenant_id,
            Connection.mode == mode,
            Connection.account_id.in_(accounts),
            Connection.halted_kind.is_not(None),
            Connection.halted_kind != "rate_limited",
        )
        .limit(1)
    )
    counted = session.connection().exec_driver_sql(_COUNTED, parameters).one()
    is_nothing = any(
        getattr(counted, each.aggregation) == 0
        for each in leads.destinations
        if each.basis == "hour"
    )
    return Sent(
        rows,
        leads,
        held if held is not None and held.since_segment <= start else None,
        session.get(Unsent, (*name, start)),
        halted,
        is_nothing,
    )


def step(
    sent: Sent, place: Place, atlas: Atlas, mode: str, cannot_call: str | None, now: datetime
) -> Step:
    """Whether the segment was sent, and what keeps it."""
    facts = _facts(sent)
    stopped = _stopped(sent, cannot_call, facts)
    if stopped is not None:
        return stopped
    if not sent.live and not sent.leads.destinations:
        return Step("push", STOPPED, _nowhere(atlas, mode, place), facts=facts)
    if sent.unsent is not None:
        part = "A part of its hour was sent; the rest" if sent.live else "It"
        at = max(sent.unsent.due_at, now)
        text = f"{part} waits to be sent to Stripe, and is looked at on {on(at)} or before."
        if place.segment_start > now:
            text = f"It is sent once its hour has begun, on {on(place.segment_start)}."
        return Step("push", WAITING, text, facts=facts | {"due_at": sent.unsent.due_at})
    if sent.live:
        last = sent.live[-1]
        total = sum((row.quantity for row in sent.live), Decimal(0))
        what = "its billing period" if last.basis == "period" else "its hour"
        if last.state == "claimed":
            text = f"It is on its way to Stripe as part of {what}, not answered yet."
            return Step("push", WAITING, text, last.claimed_at, facts)
        text = f"It was sent to Stripe as part of {what}: {number(total)} in all."
        return Step("push", DONE, text, last.claimed_at, facts)
    if sent.is_nothing:
        return Step("push", DONE, "Its hour adds nothing, so that nothing is sent.", facts=facts)
    return Step(
        "push", WAITING, "It has not been looked at yet for sending to Stripe.", facts=facts
    )


def _stopped(sent: Sent, cannot_call: str | None, facts: dict[str, Any]) -> Step | None:
    """What keeps the segment, with the way out where there is one."""
    if sent.held is not None:
        return _ours(sent.held.reason, facts | {"kind": sent.held.kind}, sent.held.held_at)
    if sent.leads.obstacles:
        obstacle = sent.leads.obstacles[0]
        return _ours(obstacle.reason, facts | {"kind": obstacle.kind})
    for row in sent.rows:
        if row.unsendable is not None:
            more = {"kind": "unsendable", "unsendable_quantity": row.unsendable_quantity}
            return _ours(row.unsendable, facts | more)
    if sent.is_all_sent:
        return None
    for row in sent.rows:
        if row.blocked_kind is not None:
            more = {"kind": row.blocked_kind, "next_try_at": row.retry_at}
            return _stop(f"Stripe refuses what is sent: {row.blocked_reason}", facts | more)
    if cannot_call is not None and sent.leads.destinations:
        return _ours(cannot_call, facts | {"kind": "no_key"})
    if sent.halted is not None:
        more = {"kind": sent.halted.halted_kind, "next_try_at": sent.halted.halted_until}
        return _stop(f"Stripe cannot be reached: {sent.halted.halted_reason}", facts | more)
    return None


def _ours(reason: str, facts: dict[str, Any], at: datetime | None = None) -> Step:
    """Our own sentences say what is wrong, a colon, and the way out, which is for whoever mends it
    and not for the customer."""
    what, _, way_out = reason.partition(": ")
    return _stop(what, facts | {"way_out": way_out or None}, at)


def _stop(reason: str, facts: dict[str, Any], at: datetime | None = None) -> Step:
    text = sentence(f"It is not sent to Stripe: {reason}")
    return Step("push", STOPPED, text, at, facts | {"reason": reason})


def _nowhere(atlas: Atlas, mode: str, place: Place) -> str:
    """No mapping that holds at the segment leads to Stripe: is there a later one?"""
    later = atlas.beginnings(mode, place.source.customer_ref, place.source.metric)
    after = [each for each in later if each > place.segment_start]
    if after:
        return f"It was used before the mapping to Stripe begins, on {on(min(after))}: not sent."
    return "No mapping leads to Stripe for the time at which it was used, so that it is not sent."


def acceptance(sent: Sent) -> Step:
    """What Stripe said of the pushes, and whether its own total shows them."""
    facts = _facts(sent)
    for row in sent.live:
        if row.state == "suspect":
            text = "Stripe may have dropped it after all; its own total will tell. " + (
                row.error or ""
            )
            return Step("acceptance", STOPPED, sentence(text.strip()), facts=facts)
    for row in sent.live:
        if row.state == "ambiguous":
            text = (
                "Whether Stripe took it is not known: its own total will tell, and is read on"
                f" {on(row.lease_until)} or after. Nothing is sent twice."
            )
            return Step("acceptance", WAITING, text, facts=facts)
        if row.state == "claimed":
            return Step("acceptance", WAITING, "Stripe has not answered yet.", facts=facts)
        if row.state == "settled" and row.error is not None:
            text = f"Stripe accepted it, but its own total is another: {row.error}"
            return Step("acceptance", STOPPED, sentence(text), row.settled_at, facts)
    settled_at = max((row.settled_at for row in sent.live if row.settled_at), default=None)
    confirmed = [row.confirmed_at for row in sent.live if row.confirmed_at]
    when = f" on {on(settled_at)}" if settled_at is not None else ""
    if all(row.state in ("confirmed", "adopted") for row in sent.live):
        seen = f", and its own total showed it on {on(max(confirmed))}" if confirmed else ""
        return Step("acceptance", DONE, f"Stripe accepted it{when}{seen}.", settled_at, facts)
    text = f"Stripe accepted it{when}; that its own total shows it is looked at once a day."
    return Step("acceptance", DONE, text, settled_at, facts)


_OF_PUSH = (
    "identifier", "basis", "state", "quantity", "attempts", "claimed_at", "settled_at",
    "confirmed_at", "error",
)  # fmt: skip
_OF_STREAM = ("stream_id", "account_id", "event_name", "stripe_customer")


def _facts(sent: Sent) -> dict[str, Any]:
    streams = {
        row.stream_id: {name: getattr(row, name) for name in _OF_STREAM} for row in sent.rows
    }
    for each in sent.leads.destinations:
        key = each.stream
        if not any(of["event_name"] == key.event_name for of in streams.values()):
            streams[key.event_name] = {
                "stream_id": None,
                "account_id": key.account_id,
                "event_name": key.event_name,
                "stripe_customer": key.stripe_customer,
            }
    pushes = [{name: getattr(row, name) for name in _OF_PUSH} for row in sent.pushes]
    return {"streams": list(streams.values()), "pushes": pushes}
