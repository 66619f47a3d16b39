"""What can stand in the way of usage, each a sentence that ends in the way out."""

from dataclasses import dataclass
from datetime import timedelta

from metering.catalog.mirror import StripeMeter
from metering.stripe import answers


@dataclass(frozen=True)
class Obstacle:
    """Why nothing can be sent. kind: for programs.  reason: a sentence that says the way out.

    event_name: the meter it is about; None: any.
    """

    kind: str
    reason: str
    event_name: str | None = None
    retry_in: timedelta = timedelta(hours=1)


def no_account() -> Obstacle:
    return Obstacle("no_account", _NO_ACCOUNT)


def unbound(account_id: str) -> Obstacle:
    return Obstacle("unbound", _UNBOUND.format(account=account_id))


def unmapped(customer_ref: str, mode: str, told_by: str, event_name: str) -> Obstacle:
    return Obstacle(
        "unmapped", _UNMAPPED.format(ref=customer_ref, mode=mode, field=told_by), event_name
    )


def deleted_customer(stripe_customer: str, told_by: str, event_name: str) -> Obstacle:
    return Obstacle(
        "deleted_customer", _DELETED.format(customer=stripe_customer, field=told_by), event_name
    )


def conflict(stripe_customer: str, item_ids: str, event_name: str) -> Obstacle:
    return Obstacle(
        "conflict", _CONFLICT.format(customer=stripe_customer, items=item_ids), event_name
    )


def no_meter(named: str | None, account_id: str, event_name: str | None) -> Obstacle:
    return Obstacle("no_meter", _NO_METER.format(name=named, account=account_id), event_name)


def inactive(event_name: str) -> Obstacle:
    return Obstacle("meter_inactive", _METER_INACTIVE.format(name=event_name), event_name)


def refusal(meter: StripeMeter | answers.Meter) -> Obstacle | None:
    """Why deltas to this meter would be lost, or counted instead of added up."""
    if meter.window is not None:
        return Obstacle(
            "meter_window",
            _METER_WINDOW.format(name=meter.event_name, window=meter.window),
            meter.event_name,
        )
    if meter.formula != "sum":
        return Obstacle(
            "meter_formula",
            _METER_FORMULA.format(name=meter.event_name, is_=meter.formula),
            meter.event_name,
        )
    return None


_NO_ACCOUNT = (
    "no Stripe account is named: set STRIPE_ACCOUNT to the account of the keys, or stripeAccount"
    " in the mapping or the customer"
)
_UNBOUND = (
    "the Stripe account {account} is not bound to this tenant: an operator binds it with"
    " `stripemeter stripe bind`"
)
_UNMAPPED = (
    "it is not known which customer of Stripe {ref} is in {mode} mode: set its {field} at"
    " /v1/customers, or metadata[stripemeter_customer_ref] of the customer in Stripe"
)
_DELETED = (
    "the customer {customer} was deleted in Stripe, which bills nothing to it any more: name"
    " another of Stripe's customers as {field} at /v1/customers, or bill what is left by hand"
)
_CONFLICT = (
    "{customer} has several subscription items on this meter ({items}), and Stripe would bill the"
    " same usage on each of them: end all but one of their subscriptions"
)
_NO_METER = (
    "no meter for {name} is known in account {account}: create it (`stripemeter stripe provision`)"
    " or read the account again (`stripemeter stripe sync`)"
)
_METER_INACTIVE = (
    "the meter {name} is deactivated and refuses events: reactivate it, or map to another"
)
_METER_WINDOW = (
    "the meter {name} counts only the latest event of each {window}: deltas would be lost; map to"
    " a meter without event_time_window"
)
_METER_FORMULA = (
    "the meter {name} aggregates by {is_}, and differences can only be added up: map to a meter"
    " whose formula is sum"
)
