"""The buttons of a decision: what each will do to the totals and to the money, and which of them
the core would refuse."""

from dataclasses import dataclass
from decimal import Decimal

from metering.billing.at_stake import Decision
from metering.counters.bounds import Place
from metering.counters.models import Adjustment
from webapp import shown
from webapp.adjustments_console import words


@dataclass(frozen=True)
class Choice:
    """A button. says: what it will do.  amount: what it does to the bill, `+$12.00`, or None.

    refused: why it cannot be pressed; None: it can.
    """

    value: str
    text: str
    says: str
    amount: str | None
    refused: str | None = None


def choices(one: Adjustment, decision: Decision, place: Place) -> list[Choice]:
    """Those that make sense now, the usual one first."""
    if one.status == "approved":
        return [_revert(one, decision)]
    found = [_apply(one, decision, place)]
    # Carried into its own period it would only be applied.
    if decision.own.span != decision.carried.span or found[0].refused is not None:
        found.append(_carry_forward(decision))
    found += _outside(decision)
    if one.status == "pending":
        found.append(_DECLINE)
    return found


_DECLINE = Choice(
    "decline", "Decline", "It does not count, and no total changes. It can be approved later.", None
)


def _apply(one: Adjustment, decision: Decision, place: Place) -> Choice:
    refused = _negative(decision.own.effect.applied)
    if one.origin == "unbilled":
        refused = "The total and Stripe have it already; only no invoice bills it."
    elif place.final_at is not None:
        refused = (
            f"The invoice of this period has been final since {words.day(place.final_at)} and can"
            " bill nothing more."
        )
    says = f"{_capital(words.total(decision.own, 'becomes'))}. Stripe is told of the difference."
    return Choice(
        "apply", words.DISPOSITIONS["apply"][1], says, words.change(decision.own.money), refused
    )


def _carry_forward(decision: Decision) -> Choice:
    own, carried = words.period(decision.own.span), decision.carried
    says = f"{_capital(words.total(carried, 'becomes'))}."
    if decision.own.span != carried.span:
        says += f" {own} stays as it is."
    return Choice(
        "carry_forward",
        words.DISPOSITIONS["carry_forward"][1],
        says,
        words.change(carried.money),
        _refused(decision.not_carried) or _negative(carried.effect.applied),
    )


def _refused(said: str | None) -> str | None:
    """The core's refusal, its way out said by the buttons beside it."""
    return (
        None if said is None else f"{_capital(said.partition(': choose')[0].partition('. ')[0])}."
    )


def _outside(decision: Decision) -> list[Choice]:
    """Settled by hand in Stripe, or not at all."""
    money = decision.own.money
    worth = words.money(abs(money.difference), money) if money.difference else None
    of = f" of {worth}" if worth else ""
    is_credit = decision.own.effect.difference < 0
    if is_credit:
        less = f" of {shown.MINUS}{worth}" if worth else ""
        item = f"You add an invoice item{less} to the customer's next invoice in Stripe"
        note = f"You give the customer a credit note{of} in Stripe"
        off = f"The customer gets nothing{of} back"
    else:
        item = f"You add an invoice item{of} to the customer's next invoice in Stripe"
        note = "You settle it by a credit note in Stripe, which lowers what the customer pays"
        off = f"Nobody pays {'the ' + worth if worth else 'for it'}"
    found = [
        Choice("invoice_item", words.DISPOSITIONS["invoice_item"][1], item + _HERE, None),
        Choice("credit_note", words.DISPOSITIONS["credit_note"][1], note + _HERE, None),
    ]
    if is_credit:
        found.reverse()
    return [*found, Choice("write_off", words.DISPOSITIONS["write_off"][1], off + _HERE, None)]


_HERE = "; no total changes here."


def _revert(one: Adjustment, decision: Decision) -> Choice:
    changed = {"apply": decision.own, "carry_forward": decision.carried}.get(one.disposition or "")
    if changed is None:
        says = (
            "No total changes: it was settled outside. It waits for no decision, but can get one."
        )
        return Choice("revert", "Revert", says, None)
    money, effect = changed.money, changed.effect
    says = (
        f"The total of {words.period(changed.span)} goes back to"
        f" {shown.quantity(effect.without)} from {shown.quantity(effect.applied)}"
    )
    before, after = words.money(money.applied, money), words.money(money.without, money)
    if before and after:
        says += f", its cost to {after} from {before}"
    amount = None
    if money.difference is not None and money.currency is not None:
        amount = shown.change(-money.difference, money.currency)
    refused = _negative(effect.without)
    return Choice("revert", "Revert", f"{says}. Stripe is told of it.", amount, refused)


def _negative(total: Decimal) -> str | None:
    if total >= 0:
        return None
    return f"The total would be {shown.quantity(total)}, less than nothing."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
