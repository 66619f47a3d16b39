"""Credit grants and what is left of them, over HTTP."""

from sandbox.stripe import clocks, credits, customers, expanding, metadata, paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import METADATA, PAGE

KIND = credits.GRANT
_SCOPE = {"price_type": ("metered",), "prices": [{"id!": str}]}
_CREATE = {
    "amount!": {"monetary": {"currency!": str, "value!": int}, "type!": ("monetary",)},
    "applicability_config!": {"scope!": _SCOPE},
    "category": ("paid", "promotional"),
    "customer!": str,
    "effective_at": int,
    "expand": params.EXPAND,
    "expires_at": int,
    "metadata": METADATA,
    "name": str,
    "priority": int,
}
_BALANCE = {
    "customer!": str,
    "expand": params.EXPAND,
    "filter!": {
        "applicability_scope": _SCOPE,
        "credit_grant": str,
        "type!": ("applicability_scope", "credit_grant"),
    },
}


@route("POST", "/v1/billing/credit_grants")
def create(call: Call) -> Json:
    given = params.check(call.params, _CREATE)
    customers.known(call, given["customer"])
    monetary = given["amount"].get("monetary")
    if not monetary or monetary["value"] <= 0:
        raise StripeError(400, "The amount must be positive.", param="amount[monetary][value]")
    with clocks.living(call, given["customer"]) as now:
        grant = {
            "id": new_id("credgr"),
            "object": KIND,
            "amount": given["amount"],
            "applicability_config": given["applicability_config"],
            "category": given.get("category") or "paid",
            "created": now,
            "customer": given["customer"],
            "customer_account": None,
            "effective_at": given.get("effective_at") or now,
            "expires_at": given.get("expires_at"),
            "livemode": call.partition.livemode,
            "metadata": given.get("metadata") or {},
            "name": given.get("name") or None,
            "priority": 50 if given.get("priority") is None else given["priority"],
            "test_clock": clocks.clock_of(call.partition, given["customer"]),
            "updated": now,
            "voided_at": None,
        }
        call.partition.put(KIND, grant)
        call.emit("billing.credit_grant.created", grant)
        credits.transact(call, grant, "credit", monetary["value"], {"type": "credits_granted"})
    return expanding.shown(call, grant, given.get("expand"))


@route("GET", "/v1/billing/credit_grants")
def index(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "customer": str})
    chosen = [
        each
        for each in paging.newest(call.partition.of(KIND))
        if given.get("customer") in (None, each["customer"])
    ]
    return paging.page(chosen, given, "/v1/billing/credit_grants")


@route("GET", "/v1/billing/credit_grants/{id}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    return expanding.shown(call, call.partition.get(KIND, call.path["id"]), given.get("expand"))


@route("POST", "/v1/billing/credit_grants/{id}")
def update(call: Call) -> Json:
    shape = {"expand": params.EXPAND, "expires_at": int, "metadata": METADATA}
    given = params.check(call.params, shape)
    grant = call.partition.get(KIND, call.path["id"])
    if "expires_at" in given:
        grant["expires_at"] = given["expires_at"]
    grant["metadata"] = metadata.merged(grant["metadata"], given)
    return _changed(call, grant)


@route("POST", "/v1/billing/credit_grants/{id}/expire")
def expire(call: Call) -> Json:
    return _end(call, "expires_at", "credits_expired")


@route("POST", "/v1/billing/credit_grants/{id}/void")
def void(call: Call) -> Json:
    return _end(call, "voided_at", "credits_voided")


def _end(call: Call, member: str, type: str) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    grant = call.partition.get(KIND, call.path["id"])
    with clocks.living(call, grant["customer"]) as now:
        if not credits.usable(grant, max(now, grant["effective_at"])):
            raise StripeError(400, "The credit grant has already ended.")
        left = credits.balance(call.partition, grant)
        grant[member] = now
        if left:
            credits.transact(call, grant, "debit", left, {"credits_applied": None, "type": type})
        return _changed(call, grant)


def _changed(call: Call, grant: Json) -> Json:
    grant["updated"] = call.world.now()
    call.partition.put(KIND, grant)
    call.emit("billing.credit_grant.updated", grant)
    return grant


@route("GET", "/v1/billing/credit_balance_summary")
def summary(call: Call) -> Json:
    given = params.check(call.params, _BALANCE)
    customers.known(call, given["customer"])
    with clocks.living(call, given["customer"]) as now:
        totals: dict[str, int] = {}
        for grant in call.partition.of(KIND).values():
            named = given["filter"].get("credit_grant")
            if grant["customer"] == given["customer"] and named in (None, "", grant["id"]):
                currency = grant["amount"]["monetary"]["currency"]
                left = credits.balance(call.partition, grant)
                totals[currency] = totals.get(currency, 0) + (
                    left if credits.usable(grant, now) else 0
                )
    amounts = [{"currency": c, "value": v} for c, v in totals.items()]
    return {
        "object": "billing.credit_balance_summary",
        "balances": [
            {
                "available_balance": {"monetary": each, "type": "monetary"},
                "ledger_balance": {"monetary": each, "type": "monetary"},
            }
            for each in amounts
        ],
        "customer": given["customer"],
        "customer_account": None,
        "livemode": call.partition.livemode,
    }


@route("GET", "/v1/billing/credit_balance_transactions")
def transactions(call: Call) -> Json:
    given = params.check(call.params, {**PAGE, "credit_grant": str, "customer": str})
    grants = call.partition.of(KIND)
    chosen = [
        each
        for each in paging.newest(call.partition.of(credits.TRANSACTION))
        if given.get("credit_grant") in (None, each["credit_grant"])
        and given.get("customer") in (None, grants[each["credit_grant"]]["customer"])
    ]
    return paging.page(chosen, given, "/v1/billing/credit_balance_transactions")


@route("GET", "/v1/billing/credit_balance_transactions/{id}")
def transaction(call: Call) -> Json:
    params.check(call.params, {"expand": params.EXPAND})
    return call.partition.get(credits.TRANSACTION, call.path["id"])
