"""From a counter to an invoice in one mode: price, push, Stripe's acceptance, invoice line."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.billing import prices
from metering.catalog.mirror import StripeInvoice
from metering.ledger.models import Event
from metering.proof import pushed
from metering.proof.place import Counting, Place
from metering.proof.pushed import Sent
from metering.proof.steps import DONE, NOT_APPLICABLE, STOPPED, WAITING, Step, first_open, on
from metering.stripe.destinations import Atlas, Found
from metering.stripe.invoices import FINAL

_NOT_COUNTED = "This comes once the event is counted."
_NOT_AT_ALL = "The event counts nowhere, so that nothing of it is billed."
_AFTER_PUSH = "This comes once it is sent."


@dataclass(frozen=True)
class Lane:
    """The way in one mode. name: `live`; `shadow`: test mode of a live tenant, which bills nobody;
    `test`: of a test tenant."""

    name: str
    mode: str
    steps: tuple[Step, ...]

    @property
    def first_not_done(self) -> Step | None:
        return first_open(self.steps)


@dataclass(frozen=True)
class Asked:
    """What a lane is made from. cannot_call: why Stripe cannot be called in the mode."""

    event: Event
    counting: Counting
    name: str
    mode: str
    atlas: Atlas
    cannot_call: str | None
    now: datetime

    @property
    def place(self) -> Place:
        return self.counting.place


def walked(session: Session, asked: Asked) -> Lane:
    """The four steps of a lane."""
    source, start = asked.place.source, asked.place.segment_start
    leads = asked.atlas.find(asked.mode, source.customer_ref, source.metric, start)
    price = _price(session, asked, leads)
    if not asked.counting.counts:
        # A dead letter may yet be counted.
        is_gone = asked.counting.step.status == STOPPED and asked.counting.status != "dead_letter"
        status, text = (NOT_APPLICABLE, _NOT_AT_ALL) if is_gone else (WAITING, _NOT_COUNTED)
        rest = tuple(Step(name, status, text) for name in ("push", "acceptance", "invoice"))
        return Lane(asked.name, asked.mode, (price, *rest))
    sent = pushed.look(session, asked.event.tenant_id, asked.mode, asked.place, leads)
    push = pushed.step(sent, asked.place, asked.atlas, asked.mode, asked.cannot_call, asked.now)
    acceptance = Step("acceptance", WAITING, _AFTER_PUSH)
    if sent.live:
        acceptance = pushed.acceptance(sent)
    invoice = _invoice(session, asked, sent)
    return Lane(asked.name, asked.mode, (price, push, acceptance, invoice))


def _price(session: Session, asked: Asked, leads: Found) -> Step:
    event = asked.event
    mappings = [each.mapping_id for each in leads.destinations]
    if asked.name == "shadow":
        if mappings or leads.obstacles:
            named = ", ".join(mappings) or "A shadow mapping"
            text = f"{named} sends it as a test, which nobody pays."
            return Step("price", DONE, text, facts={"mapping_ids": mappings})
        return Step("price", NOT_APPLICABLE, "No shadow mapping held when it was used.")
    found = prices.in_force(
        session, event.tenant_id, event.customer_ref, [event.metric], asked.place.span
    )[event.metric]
    facts: dict[str, Any] = {
        "mapping_id": found.mapping_id,
        "mapping_ids": mappings,
        "aggregation": found.aggregation,
        "note": found.note,
    }
    if found.price is not None:
        facts |= {"currency": found.price.currency.code}
        text = f"Mapping {found.mapping_id} prices it in {found.price.currency.code.upper()}."
        return Step("price", DONE, text, facts=facts)
    facts["reason"] = found.why_not
    if mappings:
        text = f"Mapping {mappings[0]} bills it, but its price is not known here: {found.why_not}."
        return Step("price", DONE, text, facts=facts)
    return Step("price", STOPPED, f"It has no price: {found.why_not}.", facts=facts)


def _invoice(session: Session, asked: Asked, sent: Sent) -> Step:
    row, now = asked.place.row, asked.now
    if row is None:
        if asked.name == "shadow":
            return Step("invoice", NOT_APPLICABLE, _NO_SHADOW_INVOICE)
        text = _NO_SUBSCRIPTION.format(ref=asked.event.customer_ref, metric=asked.event.metric)
        return Step("invoice", STOPPED, text)
    if row.mode != asked.mode:
        return Step("invoice", NOT_APPLICABLE, _OTHER_MODE.format(mode=row.mode))
    if row.invoice_id is None:
        if now < row.end_at:
            text = f"Its invoice is made when the billing period ends, on {on(row.end_at)}."
        else:
            text = f"The billing period ended on {on(row.end_at)}; its invoice is not known yet."
        return Step("invoice", WAITING, text)
    invoice = session.scalar(
        select(StripeInvoice).where(
            StripeInvoice.tenant_id == row.tenant_id,
            StripeInvoice.mode == row.mode,
            StripeInvoice.invoice_id == row.invoice_id,
        )
    )
    status = invoice.status if invoice is not None else None
    facts = {
        "invoice_id": row.invoice_id,
        "invoice_status": status,
        "finalizes_at": invoice.finalizes_at if invoice is not None else None,
        "final_at": row.final_at,
        "stripe_customer": invoice.stripe_customer if invoice is not None else None,
    }
    if row.final_at is None and status not in FINAL:
        when = invoice.finalizes_at if invoice is not None else None
        until = f" Stripe finalizes it on {on(when)}." if when is not None else ""
        text = f"Invoice {row.invoice_id} of its billing period is still a draft.{until}"
        return Step("invoice", WAITING, text, facts=facts)
    return _final(row.invoice_id, status, row.final_at, facts, sent)


def _final(
    invoice_id: str,
    status: str | None,
    final_at: datetime | None,
    facts: dict[str, Any],
    sent: Sent,
) -> Step:
    """Whether what was sent reached the invoice before it was final."""
    late = [
        each
        for each in sent.live
        if final_at is not None and (each.settled_at or final_at) > final_at
    ]
    in_time = [each for each in sent.live if each.settled_at is not None and each not in late]
    facts |= {"reached": bool(in_time) and not late}
    since = f" on {on(final_at)}" if final_at is not None else ""
    if status == "void":
        text = f"Invoice {invoice_id} bills its period, but was voided in Stripe."
        return Step("invoice", STOPPED, text, final_at, facts)
    if late:
        amount = Decimal(sum(each.quantity for each in late))
        facts["late_quantity"] = amount
        text = f"It reached Stripe only after invoice {invoice_id} had become final{since}."
        return Step("invoice", STOPPED, text, final_at, facts)
    if not in_time and not sent.is_nothing:
        text = f"Invoice {invoice_id} became final{since} before it was sent."
        return Step("invoice", STOPPED, text, final_at, facts)
    text = f"It is on invoice {invoice_id} ({status}), which became final{since}."
    return Step("invoice", DONE, text, final_at, facts)


_NO_SUBSCRIPTION = (
    "No subscription of {ref} is known that bills {metric} in this period: no invoice will hold it."
)
_NO_SHADOW_INVOICE = "What test mode invoices is not followed."
_OTHER_MODE = "The billing period is that of a subscription in {mode} mode."
