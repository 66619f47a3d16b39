"""Customers. A deleted one stays known as such, and its subscriptions end."""

from collections.abc import Callable

from sandbox.stripe import clocks, expanding, metadata, paging, params
from sandbox.stripe.core import Call, Json, StripeError, missing, new_id, route
from sandbox.stripe.events import within
from sandbox.stripe.params import METADATA, PAGE, Either

KIND = "customer"
ENDINGS: list[Callable[[Call, str], None]] = []  # what ends with a customer, by the id
_RANGE = Either(int, {"gt": int, "gte": int, "lt": int, "lte": int})
_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), str)
_FIELDS = {
    "address": _ADDRESS,
    "balance": int,
    "description": str,
    "email": str,
    "invoice_prefix": str,
    "metadata": METADATA,
    "name": str,
    "next_invoice_sequence": int,
    "phone": str,
    "preferred_locales": [str],
    "tax_exempt": ("none", "exempt", "reverse"),
    "expand": params.EXPAND,
}
_LIST = {**PAGE, "created": _RANGE, "email": str, "test_clock": str}


@route("POST", "/v1/customers")
def create(call: Call) -> Json:
    given = params.check(call.params, {**_FIELDS, "test_clock": str})
    clock = given.get("test_clock")
    now = call.now
    if clock:
        now = call.partition.get(clocks.KIND, clock, "test_clock")["frozen_time"]
    id = new_id("cus")
    customer: Json = {
        "id": id,
        "object": KIND,
        "address": None,
        "balance": 0,
        "created": now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": id[-8:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": call.partition.livemode,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": clock or None,
    }
    _fill(customer, given)
    call.partition.put(KIND, customer)
    call.emit("customer.created", customer)
    return expanding.shown(call, customer, given.get("expand"))


@route("GET", "/v1/customers")
def index(call: Call) -> Json:
    given = params.check(call.params, _LIST)
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if not each.get("deleted")
        and given.get("email") in (None, each["email"])
        and given.get("test_clock") == each["test_clock"]
        and within(each["created"], given.get("created"))
    ]
    return expanding.shown(call, paging.page(chosen, given, "/v1/customers"), given.get("expand"))


@route("GET", "/v1/customers/{customer}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    found = call.partition.get(KIND, call.path["customer"])
    return expanding.shown(call, found, given.get("expand"))


@route("POST", "/v1/customers/{customer}")
def update(call: Call) -> Json:
    given = params.check(call.params, _FIELDS)
    customer = known(call, call.path["customer"], "id")
    before = dict(customer)
    _fill(customer, given)
    call.partition.put(KIND, customer)
    changed = {name: value for name, value in before.items() if customer[name] != value}
    call.emit("customer.updated", customer, previous_attributes=changed)
    return expanding.shown(call, customer, given.get("expand"))


@route("DELETE", "/v1/customers/{customer}")
def delete(call: Call) -> Json:
    params.check(call.params, {})
    return remove(call, known(call, call.path["customer"], "id"))


def remove(call: Call, customer: Json) -> Json:
    for end in ENDINGS:
        end(call, customer["id"])
    gone = {"id": customer["id"], "object": KIND, "deleted": True}
    call.partition.put(KIND, gone)
    call.emit("customer.deleted", customer)
    return gone


def known(call: Call, id: str, param: str = "customer") -> Json:
    """Raises: StripeError (404) for a customer who is unknown or deleted."""
    found = call.partition.of(KIND).get(id)
    if found is None or found.get("deleted"):
        raise missing("customer", id, param)
    return found


def settle_currency(call: Call, customer: Json, currency: str) -> None:
    """A customer has one currency, that of the first invoice or subscription."""
    if customer["currency"] not in (None, currency):
        message = (
            f"You cannot combine currencies on a single customer. This customer has had a "
            f"subscription, coupon, or invoice item with currency {customer['currency']}"
        )
        raise StripeError(400, message)
    if customer["currency"] is None:
        call.partition.put(KIND, customer | {"currency": currency})
        customer["currency"] = currency
        call.partition.put(KIND, customer)


def _fill(customer: Json, given: Json) -> None:
    for name in given.keys() - {"metadata", "expand", "test_clock"}:
        value = given[name]
        if name == "address" and value is not None:
            value = dict.fromkeys(_ADDRESS) | value
        customer[name] = None if value == "" else value
    customer["metadata"] = metadata.merged(customer["metadata"], given)
