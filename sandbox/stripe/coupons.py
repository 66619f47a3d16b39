"""Coupons and tax rates: as much of them as invoices need."""

from decimal import Decimal

from sandbox.stripe import decimals, expanding, metadata, paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import METADATA, PAGE

COUPON, TAX_RATE = "coupon", "tax_rate"
_COUPON = {
    "amount_off": int,
    "currency": str,
    "duration": ("forever", "once", "repeating"),
    "duration_in_months": int,
    "expand": params.EXPAND,
    "id": str,
    "max_redemptions": int,
    "metadata": METADATA,
    "name": str,
    "percent_off": str,
    "redeem_by": int,
}
_RATE = {
    "active": bool,
    "country": str,
    "description": str,
    "display_name": str,
    "expand": params.EXPAND,
    "jurisdiction": str,
    "metadata": METADATA,
    "state": str,
}


@route("POST", "/v1/coupons")
def create(call: Call) -> Json:
    given = params.check(call.params, _COUPON)
    percent, amount = given.get("percent_off") or None, given.get("amount_off")
    if (percent is None) == (amount is None):
        message = "You must specify exactly one of `percent_off` and `amount_off`."
        raise StripeError(400, message, code="parameter_missing", param="percent_off")
    share = None if percent is None else decimals.read(percent, "percent_off", 4)
    if share is not None and not 0 < share <= 100:
        raise StripeError(400, "percent_off must be between 0 and 100.", param="percent_off")
    duration = given.get("duration") or "once"
    if (duration == "repeating") != (given.get("duration_in_months") is not None):
        message = "`duration_in_months` belongs to the duration `repeating`."
        raise StripeError(400, message, param="duration_in_months")
    coupon = {
        "id": given.get("id") or new_id("co"),
        "object": COUPON,
        "amount_off": amount,
        "created": call.now,
        "currency": given.get("currency"),
        "duration": duration,
        "duration_in_months": given.get("duration_in_months"),
        "livemode": call.partition.livemode,
        "max_redemptions": given.get("max_redemptions"),
        "metadata": given.get("metadata") or {},
        "name": given.get("name") or None,
        "percent_off": None if share is None else float(share),
        "redeem_by": given.get("redeem_by"),
        "times_redeemed": 0,
        "valid": True,
    }
    call.partition.put(COUPON, coupon)
    call.emit("coupon.created", coupon)
    return coupon


@route("GET", "/v1/coupons")
def index(call: Call) -> Json:
    given = params.check(call.params, PAGE)
    return paging.page(paging.newest(call.partition.of(COUPON)), given, "/v1/coupons")


@route("GET", "/v1/coupons/{coupon}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    found = call.partition.get(COUPON, call.path["coupon"], "coupon")
    return expanding.shown(call, found, given.get("expand"))


@route("DELETE", "/v1/coupons/{coupon}")
def delete(call: Call) -> Json:
    params.check(call.params, {})
    coupon = call.partition.get(COUPON, call.path["coupon"], "coupon")
    call.partition.put(COUPON, coupon | {"valid": False})  # discounts made of it go on
    call.emit("coupon.deleted", coupon)
    return {"id": coupon["id"], "object": COUPON, "deleted": True}


@route("POST", "/v1/tax_rates")
def create_rate(call: Call) -> Json:
    shape = {**_RATE, "display_name!": str, "inclusive!": bool, "percentage!": str}
    shape.pop("display_name")
    given = params.check(call.params, shape)
    percentage = decimals.read(given["percentage"], "percentage", 4)
    if not Decimal(0) <= percentage <= 100:
        raise StripeError(400, "percentage must be between 0 and 100.", param="percentage")
    rate: Json = {
        "id": new_id("txr"),
        "object": TAX_RATE,
        "active": True,
        "country": None,
        "created": call.now,
        "description": None,
        "display_name": "",
        "effective_percentage": None,
        "flat_amount": None,
        "inclusive": given["inclusive"],
        "jurisdiction": None,
        "jurisdiction_level": None,
        "livemode": call.partition.livemode,
        "metadata": {},
        "percentage": float(percentage),
        "rate_type": "percentage",
        "state": None,
        "tax_type": None,
    }
    return _kept(call, rate, given, "created")


@route("GET", "/v1/tax_rates")
def index_rates(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "active": bool, "inclusive": bool})
    chosen = [
        each
        for each in paging.newest(call.partition.of(TAX_RATE))
        if all(given.get(n) in (None, each[n]) for n in ("active", "inclusive"))
    ]
    return paging.page(chosen, given, "/v1/tax_rates")


@route("GET", "/v1/tax_rates/{tax_rate}")
def retrieve_rate(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(TAX_RATE, call.path["tax_rate"])


@route("POST", "/v1/tax_rates/{tax_rate}")
def update_rate(call: Call) -> Json:
    given = params.check(call.params, _RATE)
    return _kept(call, call.partition.get(TAX_RATE, call.path["tax_rate"]), given, "updated")


def _kept(call: Call, rate: Json, given: Json, how: str) -> Json:
    for name in given.keys() & _RATE.keys() - {"metadata", "expand"}:
        rate[name] = None if given[name] == "" else given[name]
    rate["metadata"] = metadata.merged(rate["metadata"], given)
    call.partition.put(TAX_RATE, rate)
    call.emit(f"tax_rate.{how}", rate)
    return rate
