"""`python -m sandbox.demo.data`: makes the demo's data, in the stand-in and in the product.

Whatever is there already is left alone, so that it runs at every start. What is made in Stripe is
found again by names that a user would give: event names, product ids, lookup keys, metadata.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from sandbox.demo import TENANT, places
from sandbox.demo.http import Api, Json, RefusedError
from sandbox.demo.plan import CUSTOMERS, METERED, MONTH_BEGINS, DemoCustomer, Metered

REF = "stripemeter_customer_ref"
EVENTS = (
    "customer.created",
    "customer.updated",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "invoice.created",
    "invoice.finalized",
    "invoice.updated",
    "price.created",
    "price.updated",
    "billing.meter.created",
    "billing.meter.updated",
    "billing.meter.deactivated",
    "billing.meter.reactivated",
)
THIN_EVENTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


def make(web: Api, stripe: Api) -> None:
    """Make what is missing. The account is bound before anything is made in it, so that what
    Stripe's webhooks tell of it is listened to."""
    for each in METERED:
        describe(web, each)
    bind()
    listen(web, stripe)
    meters = {each.metric: ensure_meter(stripe, each) for each in METERED}
    prices = {each.metric: ensure_price(stripe, each, meters[each.metric]) for each in METERED}
    for customer in CUSTOMERS:
        ensure_subscription(stripe, customer, ensure_customer(stripe, customer), prices)
    sync()
    for each in METERED:
        ensure_mapping(web, each, meters[each.metric], prices[each.metric])


def listen(web: Api, stripe: Api) -> None:
    """Have Stripe's webhooks sent to the web, whose port may have changed since."""
    url = f"{web.base}/v1/stripe/webhook"
    known = next(iter(listed(stripe, "/v1/webhook_endpoints")), None)
    if known is None:
        stripe.form("/v1/webhook_endpoints", url=url, enabled_events=EVENTS)
    elif known["url"] != url:
        stripe.form(f"/v1/webhook_endpoints/{known['id']}", url=url)
    for each in stripe.get("/v2/core/event_destinations")["data"]:
        shown = stripe.get(
            f"/v2/core/event_destinations/{each['id']}",
            **{"include[0]": "webhook_endpoint.url"},
        )
        if shown["webhook_endpoint"].get("url") == url:
            return
        stripe.delete(f"/v2/core/event_destinations/{each['id']}")
    stripe.post(
        "/v2/core/event_destinations",
        {
            "name": "StripeMeter",
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": THIN_EVENTS,
            "webhook_endpoint": {"url": url},
        },
    )


def ensure_meter(stripe: Api, wanted: Metered) -> Json:
    for meter in listed(stripe, "/v1/billing/meters", status="active"):
        if meter["event_name"] == wanted.metric:
            return meter
    made: Json = stripe.form(
        "/v1/billing/meters",
        display_name=wanted.name,
        event_name=wanted.metric,
        default_aggregation={"formula": "sum"},
        customer_mapping={"event_payload_key": "stripe_customer_id", "type": "by_id"},
        value_settings={"event_payload_key": "value"},
    )
    return made


def ensure_price(stripe: Api, wanted: Metered, meter: Json) -> Json:
    """The price with its tiers."""
    key = f"demo_{wanted.metric}"
    for price in listed(stripe, "/v1/prices", **{"lookup_keys[0]": key}):
        if price.get("lookup_key") == key:
            return _with_tiers(stripe, price)
    product = next(
        (each for each in listed(stripe, "/v1/products") if each["name"] == wanted.name), None
    ) or stripe.form("/v1/products", name=wanted.name, unit_label=wanted.unit)
    made = stripe.form(
        "/v1/prices",
        product=product["id"],
        currency="usd",
        lookup_key=key,
        recurring={"interval": "month", "usage_type": "metered", "meter": meter["id"]},
        **wanted.price,
    )
    return _with_tiers(stripe, made)


def ensure_customer(stripe: Api, wanted: DemoCustomer) -> Json:
    for customer in listed(stripe, "/v1/customers"):
        if customer["metadata"].get(REF) == wanted.ref:
            return customer
    made: Json = stripe.form("/v1/customers", name=wanted.name, metadata={REF: wanted.ref})
    return made


def ensure_subscription(
    stripe: Api, wanted: DemoCustomer, customer: Json, prices: dict[str, Json]
) -> None:
    for _ in listed(stripe, "/v1/subscriptions", customer=customer["id"]):
        return
    stripe.form(
        "/v1/subscriptions",
        customer=customer["id"],
        billing_mode={"type": "flexible"},
        backdate_start_date=int(begun(wanted.anchor, customer["created"]).timestamp()),
        billing_cycle_anchor_config=wanted.anchor,
        items=[{"price": prices[metric]["id"]} for metric in wanted.metrics],
    )


def describe(web: Api, wanted: Metered) -> None:
    """Say how the metric is read; the first mention also makes the tenant."""
    web.post(
        f"/v1/metrics/{wanted.metric}",
        {
            "tenantId": TENANT,
            "displayName": wanted.name,
            "unit": wanted.unit,
            "aggregation": wanted.aggregation,
        },
        method="PUT",
    )


def bind() -> None:
    """The account is the demo's, as an operator says; nothing is called for it otherwise."""
    _operate("bind", "--tenant", TENANT, "--account", "acct_standin0000001")


def sync() -> None:
    """Have StripeMeter read what Stripe knows, at once and not with the next webhook."""
    _operate("sync", "--tenant", TENANT)


def ensure_mapping(web: Api, wanted: Metered, meter: Json, price: Json) -> None:
    """The metric's price and its meter. A test tenant has no live destination: `active` prices,
    `shadow` sends in Stripe's test mode."""
    query = {"tenantId": TENANT, "metric": wanted.metric}
    if web.get("/v1/mappings", **query)["mappings"]:
        return
    web.post(
        "/v1/mappings",
        {
            **query,
            "meterId": meter["id"],
            "meterEventName": meter["event_name"],
            "shadowPriceId": price["id"],
            "stripePrice": price,
            "active": True,
            "shadow": True,
            "effectiveFrom": _before_all(meter["created"]).isoformat(),
        },
    )


def listed(stripe: Api, path: str, **query: object) -> Iterator[Json]:
    """All pages of a list of Stripe's."""
    after: str | None = None
    while True:
        page = stripe.get(path, limit=100, starting_after=after, **query)
        yield from page["data"]
        if not page.get("has_more"):
            return
        after = page["data"][-1]["id"]


def _with_tiers(stripe: Api, price: Json) -> Json:
    found: Json = stripe.get(f"/v1/prices/{price['id']}", **{"expand[0]": "tiers"})
    return found


def begun(anchor: Mapping[str, int], unix_seconds: int) -> datetime:
    """When the billing period of then began: a pace of a few minutes would foretell fantasies."""
    now = datetime.fromtimestamp(unix_seconds, UTC)
    day, hour, minute, second = (anchor[name] for name in _ANCHOR)
    start = now.replace(day=day, hour=hour, minute=minute, second=second, microsecond=0)
    if start > now:
        start = (start.replace(day=1) - timedelta(days=1)).replace(day=day)
    return start


_ANCHOR = ("day_of_month", "hour", "minute", "second")


def _before_all(unix_seconds: int) -> datetime:
    """The month before: no customer's period began earlier."""
    first = begun(MONTH_BEGINS, unix_seconds)
    return (first - timedelta(days=1)).replace(day=1)


def _operate(*arguments: str) -> None:
    """Run the operator's command; what it says goes to our own output, which is the log.

    A refusal is no reason to stop: the clock binds and reads the account of an only tenant too.
    """
    subprocess.run([sys.executable, "-m", "webapp", "stripe", *arguments], check=False)


def main() -> None:
    try:
        make(*places.apis(places.parser(__doc__).parse_args()))
    except (RefusedError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
