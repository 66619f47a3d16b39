"""What an event makes us ask Stripe, and what follows from the answer.

ask      no transaction is open
note     in one transaction, under the tenant's lock
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from metering.stripe import answers, invoices, reports, sync
from metering.stripe.calls import Calls
from metering.stripe.faults import StripeFault
from metering.stripe.modes import Mode
from metering.stripe.sync import Place
from metering.stripe.webhooks import Delivery
from metering.tenancy import locks


@dataclass(frozen=True)
class Answer:
    """Objects as Stripe has them now. is_gone: there is none (any more) of the event's id."""

    meters: Sequence[answers.Meter] = ()
    prices: Sequence[answers.Price] = ()
    customers: Sequence[answers.Customer] = ()
    subscriptions: Sequence[answers.Subscription] = ()
    invoices: Sequence[answers.Invoice] = ()
    report: answers.MeterReport | None = None
    is_gone: bool = False


def place_of(delivery: Delivery) -> Place:
    return Place(delivery.tenant_id, delivery.mode, delivery.account_id)


def ask(stripe: Calls, delivery: Delivery) -> Answer:
    """Ask Stripe for what the event is about. Raises StripeFault if there is no answer."""
    try:
        return _ask(stripe, delivery)
    except StripeFault as fault:
        if fault.kind != "gone":
            raise
        return Answer(is_gone=True)


def _ask(stripe: Calls, delivery: Delivery) -> Answer:
    mode: Mode = "live" if delivery.mode == "live" else "test"
    account, id = delivery.account_id, delivery.object_id or ""
    match delivery.subject:
        case "customer":
            return Answer(customers=[stripe.customer(mode, account, id)])
        case "invoice":
            return Answer(invoices=[stripe.invoice(mode, account, id)])
        case "meter":
            return Answer(meters=[stripe.meter(mode, account, id)])
        case "price":
            return Answer(prices=[stripe.price(mode, account, id)])
        case "subscription":
            return Answer(subscriptions=[stripe.subscription(mode, account, id)])
        case "report":
            report = stripe.meter_report(mode, account, delivery.event_id)
            return Answer(report=report, meters=_meters(stripe, mode, account, report.meter_id))
    return Answer()


def _meters(
    stripe: Calls, mode: Mode, account: str, meter_id: str | None
) -> Sequence[answers.Meter]:
    """What has become of the meters that a report is about; all, where it found none."""
    if meter_id is None:
        return list(stripe.meters(mode, account))
    try:
        return [stripe.meter(mode, account, meter_id)]
    except StripeFault as fault:
        if fault.kind != "gone":
            raise
        return []


def unknown_prices(session: Session, delivery: Delivery, answer: Answer) -> list[str]:
    """Prices that are to be asked for as well: those within a subscription lack their tiers."""
    return sync.unknown_prices(session, place_of(delivery), answer.subscriptions)


def with_prices(
    stripe: Calls, delivery: Delivery, answer: Answer, price_ids: Sequence[str]
) -> Answer:
    """The answer, and these prices with it. Raises StripeFault."""
    mode: Mode = "live" if delivery.mode == "live" else "test"
    prices = [stripe.price(mode, delivery.account_id, price_id) for price_id in price_ids]
    return replace(answer, prices=[*answer.prices, *prices])


def note(
    session: Session, delivery: Delivery, answer: Answer, *, asked_at: datetime, now: datetime
) -> None:
    """Write down what Stripe said. asked_at: when it was asked; later answers stand."""
    place = place_of(delivery)
    locks.lock(session, place.tenant_id)
    if answer.is_gone:
        _note_gone(session, place, delivery, asked_at, now)
    sync.note_meters(session, place, answer.meters, now=asked_at)
    sync.note_prices(session, place, answer.prices, now=asked_at)
    sync.note_customers(session, place, answer.customers, now=asked_at)
    sync.note_subscriptions(session, place, answer.subscriptions, now=asked_at)
    for subscription in answer.subscriptions:
        invoices.apply_known(session, place, subscription.id, now=now)
    invoices.note(session, place, answer.invoices, asked_at=asked_at, now=now)
    if answer.report is not None:
        reports.apply(
            session, place.tenant_id, place.mode, place.account_id, answer.report, now=now
        )


def _note_gone(
    session: Session, place: Place, delivery: Delivery, asked_at: datetime, now: datetime
) -> None:
    subject, object_id = delivery.subject, delivery.object_id
    if object_id is None or subject is None or subject == "report":
        return
    if subject == "invoice":
        invoices.note_gone(session, place, object_id, asked_at=asked_at)
    else:
        sync.note_gone(session, place, subject, object_id, now=asked_at)
