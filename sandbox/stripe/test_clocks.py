"""Test clocks: customers whose time stands still until it is told to go on."""

from sandbox.stripe import clocks, customers, cycles_work, expanding, paging, params
from sandbox.stripe.core import Call, Json, StripeError, new_id, route
from sandbox.stripe.params import PAGE

KIND = clocks.KIND
_LIFE_SECONDS = 30 * 86400
_URL = "/v1/test_helpers/test_clocks"


@route("POST", _URL)
def create(call: Call) -> Json:
    shape = {"frozen_time!": int, "name": str, "expand": params.EXPAND}
    given = params.check(call.params, shape)
    if call.partition.livemode:
        raise StripeError(400, "Test clocks cannot be used in live mode.")
    clock = {
        "id": new_id("clock"),
        "object": KIND,
        "created": call.now,
        "deletes_after": call.now + _LIFE_SECONDS,
        "frozen_time": given["frozen_time"],
        "livemode": False,
        "name": given.get("name") or None,
        "status": "ready",
        "status_details": {},
    }
    call.partition.put(KIND, clock)
    call.emit(f"{KIND}.created", clock)
    return clock


@route("GET", _URL)
def index(call: Call) -> Json:
    given = params.check(call.params, PAGE)
    return paging.page(paging.newest(call.partition.of(KIND)), given, _URL)


@route("GET", _URL + "/{test_clock}")
def retrieve(call: Call) -> Json:
    given = params.check(call.params, {"expand": params.EXPAND})
    return expanding.shown(call, _found(call), given.get("expand"))


@route("POST", _URL + "/{test_clock}/advance")
def advance(call: Call) -> Json:
    """Go on through all that falls due. The work is done before the answer, which says
    `advancing` as Stripe's does; the next reading says `ready`."""
    given = params.check(call.params, {"frozen_time!": int, "expand": params.EXPAND})
    clock, to = _found(call), given["frozen_time"]
    if to <= clock["frozen_time"]:
        message = "The frozen_time must be later than the clock's current one."
        raise StripeError(400, message, param="frozen_time")
    told = clock | {
        "status": "advancing",
        "status_details": {"advancing": {"target_frozen_time": to}},
    }
    call.emit(f"{KIND}.advancing", told)

    def reached(at: int) -> None:
        clock["frozen_time"] = max(at, clock["frozen_time"])

    cycles_work.run(call.world, call.partition, clock["id"], to, reached)
    clock["frozen_time"] = to
    call.partition.put(KIND, clock)
    call.emit(f"{KIND}.ready", clock)
    return told


@route("DELETE", _URL + "/{test_clock}")
def delete(call: Call) -> Json:
    """The customers of the clock go with it, and their subscriptions end."""
    params.check(call.params, {})
    clock = _found(call)
    for each in cycles_work.of_clock(call.partition, clock["id"], customers.KIND):
        customers.remove(call, each)
    call.partition.remove(KIND, clock["id"])
    call.emit(f"{KIND}.deleted", clock)
    # Its specification lists no `deleted` here, as it does of other kinds.
    return {"id": clock["id"], "object": KIND}


def _found(call: Call) -> Json:
    return call.partition.get(KIND, call.path["test_clock"], "test_clock")
