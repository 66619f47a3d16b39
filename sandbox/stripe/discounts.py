"""Discounts: a coupon's use by a subscription."""

from collections.abc import Sequence

from sandbox.stripe import cycles
from sandbox.stripe.core import Call, Json, StripeError, new_id

KIND = "discount"


def made(call: Call, given: Sequence[Json] | None, subscription: Json) -> list[str]:
    """The ids of new discounts, one for each coupon named."""
    return [_made(call, each, at, subscription) for at, each in enumerate(given or ())]


def _made(call: Call, given: Json, at: int, subscription: Json) -> str:
    if given.get("discount"):
        return str(call.partition.get(KIND, given["discount"], f"discounts[{at}][discount]")["id"])
    coupon = call.partition.get("coupon", given.get("coupon") or "", f"discounts[{at}][coupon]")
    if not coupon["valid"]:
        message = f"Coupon expired: {coupon['id']}"
        raise StripeError(400, message, code="coupon_expired", param=f"discounts[{at}][coupon]")
    now = call.world.now()
    end = None
    if coupon["duration"] == "repeating":
        end = cycles.bound(cycles.Anchor(now), "month", coupon["duration_in_months"], 1)
    discount = {
        "id": new_id("di"),
        "object": KIND,
        "checkout_session": None,
        "customer": subscription["customer"],
        "end": end,
        "invoice": None,
        "invoice_item": None,
        "promotion_code": None,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": now,
        "subscription": subscription["id"],
        "subscription_item": None,
    }
    call.partition.put(KIND, discount)
    coupon["times_redeemed"] += 1
    if coupon["max_redemptions"] is not None:
        coupon["valid"] = coupon["times_redeemed"] < coupon["max_redemptions"]
    call.partition.put("coupon", coupon)
    return str(discount["id"])
