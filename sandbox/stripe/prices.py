"""Prices: fixed once made, but for what they are called and whether they may still be chosen."""

from sandbox.stripe import expanding, metadata, paging, params, price_checks, products
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.events import within
from sandbox.stripe.params import METADATA, PAGE, Either

KIND = "price"
_FIELDS = {
    "active": bool,
    "lookup_key": str,
    "metadata": METADATA,
    "nickname": str,
    "tax_behavior": ("exclusive", "inclusive", "unspecified"),
    "transfer_lookup_key": bool,
    "expand": params.EXPAND,
}
_PRODUCT = {k: v for k, v in products.CREATE.items() if k in ("id", "name!", "metadata", "active")}
_CREATE = {
    **_FIELDS,
    **price_checks.SHAPE,
    "currency!": str,
    "product": str,
    "product_data": {**_PRODUCT, "statement_descriptor": str, "tax_code": str, "unit_label": str},
}
_LIST = {
    **PAGE,
    "active": bool,
    "created": Either(int, {"gt": int, "gte": int, "lt": int, "lte": int}),
    "currency": str,
    "lookup_keys": [str],
    "product": str,
    "recurring": {
        "interval": ("month", "year", "week", "day"),
        "meter": str,
        "usage_type": ("metered", "licensed"),
    },
    "type": ("one_time", "recurring"),
}


@route("POST", "/v1/prices")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    amounts = price_checks.amounts(given)
    recurring = price_checks.recurring(given.get("recurring"))
    if recurring is not None and recurring["meter"] is not None:
        _refuse_meter(call, recurring["meter"])
    currency = _currency(given["currency"])
    price: Json = {
        "id": new_id("price"),
        "object": KIND,
        "active": given.get("active") is not False,
        "created": call.now,
        "currency": currency,
        "custom_unit_amount": None,
        "livemode": call.partition.livemode,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": _product(call, given),
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "type": "one_time" if recurring is None else "recurring",
        **amounts,
    }
    option = {"custom_unit_amount": None, "tax_behavior": "unspecified"}
    option |= {name: price[name] for name in ("unit_amount", "unit_amount_decimal")}
    if "_tiers" in price:
        option["tiers"] = price["_tiers"]
    price["_currency_options"] = {currency: option}
    _fill(call, price, given)
    call.partition.put(KIND, price)
    call.emit("price.created", price)
    return expanding.shown(call, price, given.get("expand"))


@route("GET", "/v1/prices")
def index(call: Call) -> Json:
    given = params.check(call.params, _LIST)
    chosen = [each for each in paging.newest(call.partition.of(KIND)) if _wanted(each, given)]
    return expanding.shown(call, paging.page(chosen, given, "/v1/prices"), given.get("expand"))


def _wanted(price: Json, given: Json) -> bool:
    plain = ("active", "currency", "product", "type")
    if any(given.get(name) not in (None, price[name]) for name in plain):
        return False
    if given.get("lookup_keys") and price["lookup_key"] not in given["lookup_keys"]:
        return False
    recurring = price["recurring"] or {}
    if any(recurring.get(k) != v for k, v in (given.get("recurring") or {}).items()):
        return False
    return within(price["created"], given.get("created"))


@route("GET", "/v1/prices/{price}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    found = call.partition.get(KIND, call.path["price"], "price")
    return expanding.shown(call, found, given.get("expand"))


@route("POST", "/v1/prices/{price}")
def update(call: Call) -> Json:
    given = params.check(call.params, _FIELDS)
    price = call.partition.get(KIND, call.path["price"], "price")
    before = dict(price)
    _fill(call, price, given)
    call.partition.put(KIND, price)
    changed = {name: value for name, value in before.items() if price[name] != value}
    call.emit("price.updated", price, previous_attributes=changed)
    return expanding.shown(call, price, given.get("expand"))


def _currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise StripeError(400, f"Invalid currency: {text}.", param="currency")
    return text.lower()


def _product(call: Call, given: Json) -> str:
    product, data = given.get("product"), given.get("product_data")
    if (product is None) == (data is None):
        message = "You must specify exactly one of `product` and `product_data`."
        raise StripeError(400, message, code="parameter_missing", param="product")
    if data is not None:
        return str(products.make(call, data)["id"])
    return str(call.partition.get(products.KIND, str(product), "product")["id"])


def _refuse_meter(call: Call, id: str) -> None:
    meter = call.partition.get("billing.meter", id, "recurring[meter]")
    if meter["status"] != "active":
        message = f"The meter {id} is inactive: a price cannot be created for it."
        raise StripeError(400, message, param="recurring[meter]")


def _fill(call: Call, price: Json, given: Json) -> None:
    for name in given.keys() & {"active", "nickname", "tax_behavior"}:
        price[name] = None if given[name] == "" else given[name]
    if "lookup_key" in given:
        _take_lookup_key(call, price, given["lookup_key"] or None, given)
    price["metadata"] = metadata.merged(price["metadata"], given)


def _take_lookup_key(call: Call, price: Json, key: str | None, given: Json) -> None:
    for each in call.partition.of(KIND).values():
        if key is not None and each["lookup_key"] == key and each["id"] != price["id"]:
            if not given.get("transfer_lookup_key"):
                message = f"A price (`{each['id']}`) already uses that lookup key."
                raise StripeError(400, message, param="lookup_key")
            call.partition.put(KIND, each | {"lookup_key": None})
    price["lookup_key"] = key
