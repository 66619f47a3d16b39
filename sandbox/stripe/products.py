"""Products: what prices are prices of."""

from sandbox.stripe import expanding, metadata, paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import METADATA, PAGE, Text

KIND = "product"
_FIELDS = {
    "active": bool,
    "description": str,
    "images": [str],
    "metadata": METADATA,
    "name": Text(250),
    "shippable": bool,
    "statement_descriptor": str,
    "tax_code": str,
    "unit_label": str,
    "url": str,
    "expand": params.EXPAND,
}
_CREATE = {name: kind for name, kind in _FIELDS.items() if name != "name"}
CREATE = {**_CREATE, "id": str, "name!": Text(250)}


@route("POST", "/v1/products")
def create(call: Call) -> Json:
    given = params.check(call.params, CREATE)
    return expanding.shown(call, make(call, given), given.get("expand"))


def make(call: Call, given: Json) -> Json:
    id = given.get("id") or new_id("prod")
    if id in call.partition.of(KIND):
        message = f"Product already exists with ID: {id}."
        raise StripeError(400, message, code="resource_already_exists", param="id")
    product = {
        "id": id,
        "object": KIND,
        "active": True,
        "created": call.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": call.partition.livemode,
        "marketing_features": [],
        "metadata": {},
        "name": given["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "unit_label": None,
        "updated": call.now,
        "url": None,
    }
    _fill(product, given)
    call.partition.put(KIND, product)
    call.emit("product.created", product)
    return product


@route("GET", "/v1/products")
def index(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "active": bool, "ids": [str], "shippable": bool})
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if given.get("active") in (None, each["active"])
        and (not given.get("ids") or each["id"] in given["ids"])
    ]
    return expanding.shown(call, paging.page(chosen, given, "/v1/products"), given.get("expand"))


@route("GET", "/v1/products/{id}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    return expanding.shown(call, call.partition.get(KIND, call.path["id"]), given.get("expand"))


@route("POST", "/v1/products/{id}")
def update(call: Call) -> Json:
    given = params.check(call.params, {**_FIELDS, "default_price": str})
    product = call.partition.get(KIND, call.path["id"])
    before = dict(product)
    _fill(product, given)
    product["updated"] = call.now
    call.partition.put(KIND, product)
    changed = {name: value for name, value in before.items() if product[name] != value}
    call.emit("product.updated", product, previous_attributes=changed)
    return expanding.shown(call, product, given.get("expand"))


@route("DELETE", "/v1/products/{id}")
def delete(call: Call) -> Json:
    params.check(call.params, {})
    product = call.partition.get(KIND, call.path["id"])
    if any(each["product"] == product["id"] for each in call.partition.of("price").values()):
        message = "This product cannot be deleted because it has one or more user-created prices."
        raise StripeError(400, message)
    call.partition.remove(KIND, product["id"])
    call.emit("product.deleted", product)
    return {"id": product["id"], "object": KIND, "deleted": True}


def _fill(product: Json, given: Json) -> None:
    for name in given.keys() - {"metadata", "expand", "id"}:
        product[name] = None if given[name] == "" else given[name]
    product["metadata"] = metadata.merged(product["metadata"], given)
