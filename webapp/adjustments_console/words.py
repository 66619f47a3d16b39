"""What the pages about adjustments call things, and the sentences that they are told in."""

from datetime import UTC, datetime
from decimal import Decimal

from metering.billing.at_stake import Change, Money
from metering.catalog.period import Span, calendar_month
from metering.counters import adjustments
from metering.counters.bounds import Place
from metering.counters.models import Adjustment
from webapp import shown

STATUSES = {
    "pending": "Waits",
    "approved": "Approved",
    "declined": "Declined",
    "reverted": "Reverted",
}
REASONS = {
    "late": "late",
    "backfill": "backfill",
    "correction": "correction",
    "promo": "promotion",
    "credit": "credit",
    "manual": "by hand",
}
# Of an approved one: what was decided; and of a button: what it says.
DISPOSITIONS = {
    "apply": ("applied", "Apply"),
    "carry_forward": ("carried forward", "Carry forward into the current period"),
    "invoice_item": ("settled by an invoice item", "Invoice item"),
    "credit_note": ("settled by a credit note", "Credit note"),
    "write_off": ("written off", "Write off"),
}
STEPS = {
    "propose": "Proposed",
    "create": "Made",
    "approve": "Approved",
    "decline": "Declined",
    "revert": "Reverted",
    "change": "Changed",
}
EVENT_STATES = {
    "unfolded": "being counted",
    "counted": "counts",
    "set_aside": "set aside",
    "voided": "voided",
    "dead_letter": "dead letter",
}
NO_PRICE = "no price"


def period(span: Span) -> str:
    """`November 2026`, `Nov 15 – Dec 15, 2026`."""
    if span == calendar_month(span.start_at):
        return f"{span.start_at:%B %Y}"
    first = shown.day(span.start_at, year=span.start_at.year != span.end_at.year)
    return f"{first} – {shown.day(shown.last_day(span.end_at), year=True)}"


def day(at: datetime) -> str:
    """`Dec 5, 2026`."""
    return shown.day(at, year=True)


def who(actor: str) -> str:
    """Who did it, as people know them."""
    kind, _, name = actor.partition(":")
    match kind:
        case "console":
            return f"{name} (console)"
        case "key":
            return f"key {name}"
        case "stripemeter":
            return "StripeMeter"
    return actor


def counted(count: int, one: str) -> str:
    """`1 event`, `1,200 events`."""
    return f"1 {one}" if count == 1 else f"{count:,} {one}s"


def signed(value: Decimal) -> str:
    """`+20`, `−20`."""
    return f"{'+' if value > 0 else ''}{shown.quantity(value)}"


def money(minor: int | None, of: Money) -> str | None:
    """None where it is not known."""
    if minor is None or of.currency is None:
        return None
    return shown.amount(minor, of.currency)


def change(of: Money) -> str | None:
    """How the bill changes: `+$12.00`; None where it is not known."""
    if of.difference is None or of.currency is None:
        return None
    return shown.change(of.difference, of.currency)


def happened(one: Adjustment, events: int, place: Place, name: str | None) -> str:
    """What it is of, and why it is there. name: the customer's, where there is one."""
    whose = one.customer_ref if name is None else f"{name} ({one.customer_ref})"
    named, span = f"{one.metric} for {whose}", period(place.span)
    if one.kind == "events":
        told = f"{counted(events, 'event')} of {named} arrived"
        if one.arrived_on is not None:
            told += f" on {day(one.arrived_on)}"
        return f"{told}, {_too_late(one, place, span)}."
    units = shown.quantity(abs(one.delta or Decimal(0)))
    if one.origin == "unbilled":
        return f"Stripe took {units} units of {named} that no invoice of {span} bills."
    way = "taken off" if (one.delta or 0) < 0 else "added to"
    if one.status == "approved" and one.disposition in adjustments.COUNTED:
        return f"{units} units are {way} {named} in {span}."
    be = "are to be" if one.status == "pending" else "were to be"
    return f"{units} units {be} {way} {named} in {span}."


def _too_late(one: Adjustment, place: Place, span: str) -> str:
    arrived = one.arrived_on or one.created_at
    if place.final_at is not None and place.final_at.date() <= arrived.date():
        return f"after the invoice of {span} was final"
    if place.closed_at is not None and place.closed_at.date() <= arrived.date():
        return f"after {span} was closed"
    if one.reason == "backfill":
        return f"in a backfill that sets aside what is late for {span}"
    return f"too late for {span}"


def total(of: Change, verb: str) -> str:
    """`the total of November 2026 is 124 instead of 100, and costs $62.00 instead of $50.00`.

    verb: `is` of what counts already, `becomes` of what would.
    """
    said = (
        f"the total of {period(of.span)} {verb} {shown.quantity(of.effect.applied)}"
        f" instead of {shown.quantity(of.effect.without)}"
    )
    before, after = money(of.money.without, of.money), money(of.money.applied, of.money)
    if before is None or after is None:
        return f"{said}; what that costs is not known: {of.money.why_not}"
    if before == after:
        return f"{said}, and still costs {after}"
    return f"{said}, and costs {after} instead of {before}"


def exactly(at: datetime) -> str:
    """For the audit trail: `5 Dec 2026, 12:00:00 UTC`."""
    return shown.instant(at.astimezone(UTC))
