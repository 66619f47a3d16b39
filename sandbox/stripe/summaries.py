"""Event summaries: what a meter has counted for a customer, eventually."""

from sandbox.stripe import paging, params, streams
from sandbox.stripe.core import Call, Json, StripeError, missing, route
from sandbox.stripe.params import PAGE

_SECONDS = {"hour": 3600, "day": 86400}
_LIST = {
    **PAGE,
    "customer!": str,
    "start_time!": int,
    "end_time!": int,
    "value_grouping_window": ("day", "hour"),
}


@route("GET", "/v1/billing/meters/{id}/event_summaries")
def index(call: Call) -> Json:
    """The buckets that hold something, newest first; without a window one for the whole range."""
    given = params.check(call.params, _LIST)
    meter = call.partition.get("billing.meter", call.path["id"])
    customer = call.partition.of("customer").get(given["customer"])
    if customer is None or customer.get("deleted"):
        raise missing("customer", given["customer"], "customer")
    start, end = given["start_time"], given["end_time"]
    window = given.get("value_grouping_window")
    _refuse_crooked(start, end, _SECONDS[window] if window else 60, window)
    found = _buckets(call, meter, given["customer"], start, end, _SECONDS.get(window or ""))
    url = f"/v1/billing/meters/{meter['id']}/event_summaries"
    return paging.page(found, given, url)


def _buckets(
    call: Call, meter: Json, customer: str, start: int, end: int, seconds: int | None
) -> list[Json]:
    known = streams.of(call.partition)
    entries = known.between(meter["id"], customer, start, end)
    sorted_in: dict[int, list[streams.Entry]] = {}
    for each in entries:
        if streams.visible(each.record):
            slot = start if seconds is None else each.timestamp // seconds * seconds
            sorted_in.setdefault(slot, []).append(each)
    if seconds is None:
        sorted_in.setdefault(start, [])
    return [
        {
            "id": f"mtrusg_{meter['id'][-8:]}{customer[-8:]}{slot}{seconds or end}",
            "object": "billing.meter_event_summary",
            "aggregated_value": streams.total(meter, those, streams.visible, tie=known.tie),
            "end_time": end if seconds is None else slot + seconds,
            "livemode": call.partition.livemode,
            "meter": meter["id"],
            "start_time": slot,
        }
        for slot, those in sorted(sorted_in.items(), reverse=True)
    ]


def _refuse_crooked(start: int, end: int, seconds: int, window: str | None) -> None:
    unit = {None: "minute", "hour": "hour", "day": "UTC day"}[window]
    for name, instant in (("start_time", start), ("end_time", end)):
        if instant % seconds:
            message = f"Timestamps must be aligned with {unit} boundaries."
            raise StripeError(400, message, param=name)
    if start >= end:
        raise StripeError(400, "start_time must be before end_time.", param="start_time")
