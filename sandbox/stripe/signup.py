"""How a subscription begins: its anchor, its trial, its first items and its first invoice."""

from sandbox.stripe import (
    billables,
    clocks,
    customers,
    cycles,
    discounts,
    drafting,
    items,
    settling,
)
from sandbox.stripe.core import Call, Json, StripeError, new_id
from sandbox.stripe.drafting import Occasion

KIND = "subscription"


def begin(call: Call, given: Json, now: int) -> Json:
    """A subscription that is not yet kept, with its items made; raises for what cannot be."""
    customer = customers.known(call, given["customer"])
    start = given.get("backdate_start_date") or now
    trial_end = trial_of(given, now)
    subscription = _blank(call, given, start, now)
    if trial_end is not None:
        subscription |= {"status": "trialing", "trial_start": now, "trial_end": trial_end}
    _anchor(call, subscription, given, start)
    for at, each in enumerate(given["items"]):
        items.make(call, subscription, each, f"items[{at}]", start)
    customers.settle_currency(call, customer, subscription["currency"])
    subscription["discounts"] = discounts.made(call, given.get("discounts"), subscription)
    return subscription


def sketched(call: Call, given: Json, now: int) -> Json:
    """A subscription that will not be kept; its items are the caller's to remove."""
    subscription = _blank(call, given, now, now)
    for at, each in enumerate(given["items"]):
        items.make(call, subscription, each, f"subscription_details[items][{at}]", now)
    return subscription


def trial_of(given: Json, now: int) -> int | None:
    """When the trial ends, of `trial_end` or `trial_period_days`; None for no trial."""
    end, days = given.get("trial_end"), given.get("trial_period_days")
    if end and days is not None:
        message = "You may only specify one of these parameters: trial_end, trial_period_days."
        raise StripeError(400, message, param="trial_end")
    if days is not None:
        return now + days * 86400 if days > 0 else None
    if not end or end == "now":
        return None
    if not (end.isascii() and end.isdigit()) or int(end) <= now:
        message = "Invalid trial_end: must be `now` or a time in the future."
        raise StripeError(400, message, param="trial_end")
    return int(end)


def _anchor(call: Call, subscription: Json, given: Json, start: int) -> None:
    """Where the cycles are counted from: as asked, else the trial's end, else the start."""
    at, config = given.get("billing_cycle_anchor"), given.get("billing_cycle_anchor_config")
    if at is not None and config is not None:
        message = (
            "You may only specify one of these parameters: billing_cycle_anchor, "
            "billing_cycle_anchor_config."
        )
        raise StripeError(400, message, param="billing_cycle_anchor")
    anchor = cycles.Anchor(subscription["trial_end"] or start)
    if config is not None:
        _refuse_config(config)
        anchor = cycles.configured(subscription["trial_end"] or start, **config)
        subscription["billing_cycle_anchor_config"] = {
            name: config.get(name) for name in ("day_of_month", "hour", "minute", "month", "second")
        }
    elif at is not None:
        _refuse_anchor(call, given, at, start)
        anchor = cycles.Anchor(at)
    subscription |= {"billing_cycle_anchor": anchor.at, "_anchor_day": anchor.day}


def _refuse_config(config: Json) -> None:
    bounds = {"day_of_month": (1, 31), "hour": (0, 23), "minute": (0, 59), "month": (1, 12)}
    for name, value in config.items():
        least, most = bounds.get(name, (0, 59))
        if not least <= value <= most:
            message = f"This value must be between {least} and {most}."
            raise StripeError(400, message, param=f"billing_cycle_anchor_config[{name}]")


def _refuse_anchor(call: Call, given: Json, at: int, start: int) -> None:
    if at < start:
        message = "billing_cycle_anchor must be in the future."
        raise StripeError(400, message, param="billing_cycle_anchor")
    for item in given["items"]:
        price = call.partition.get("price", str(item.get("price")), "items[0][price]")
        recurring = price["recurring"] or {"interval": "year", "interval_count": 3}
        latest = cycles.within_one(start, recurring["interval"], recurring["interval_count"])
        if at > latest:
            message = (
                f"billing_cycle_anchor cannot be later than next natural billing date ({latest}) "
                "for plan"
            )
            raise StripeError(400, message, param="billing_cycle_anchor")


def _blank(call: Call, given: Json, start: int, now: int) -> Json:
    mode = (given.get("billing_mode") or {"type": "flexible"})["type"]
    flexible = {"proration_discounts": "included"} if mode == "flexible" else None
    return {
        "id": new_id("sub"),
        "object": KIND,
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": start,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": flexible, "type": mode, "updated_at": now},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": given.get("currency"),
        "customer": given["customer"],
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "latest_invoice": None,
        "livemode": call.partition.livemode,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": start,
        "status": "active",
        "test_clock": clocks.clock_of(call.partition, given["customer"]),
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
        "_anchor_day": None,
        "_items": [],
        "_leftover": [],
    }


def first_invoice(call: Call, subscription: Json, *, prorate: bool = True) -> None:
    """What is due in advance, final at once. Without a licensed item there is none: in flexible
    mode usage alone makes no invoice of 0 at the start."""
    those = items.of(call.partition, subscription)
    start = subscription["start_date"]
    sources = billables.advance(call.partition, subscription, those, start)
    if not prorate:
        sources = [each for each in sources if each["end"] - each["start"] == each["full"]]
    trial = subscription["status"] == "trialing"
    if sources:
        at_once(call, subscription, sources, "subscription_create", trial=trial)


def at_once(
    call: Call, subscription: Json, sources: list[Json], reason: str, *, trial: bool = False
) -> None:
    """An invoice that waits for nobody."""
    now, currency = call.world.now(), subscription["currency"]
    occasion = Occasion(
        reason, subscription["customer"], subscription, sources, (now, now), currency, trial
    )
    invoice = drafting.draft(call, occasion)
    if invoice["auto_advance"]:
        settling.finalize(call, invoice)
