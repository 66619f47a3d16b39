"""Every part of the stand-in that serves routes; importing it registers them all."""

from sandbox.stripe import (
    alerts,
    coupons,
    credit_grants,
    credit_notes,
    customers,
    cycles_work,
    events,
    invoice_items,
    invoices,
    meter_events,
    meters,
    previews,
    prices,
    products,
    subscription_items,
    subscriptions,
    summaries,
    test_clocks,
    v2,
    webhooks,
)
from sandbox.stripe.core import ROUTES, Route

PARTS = (
    alerts,
    coupons,
    credit_grants,
    credit_notes,
    customers,
    cycles_work,
    events,
    invoice_items,
    invoices,
    meter_events,
    meters,
    previews,
    prices,
    products,
    subscription_items,
    subscriptions,
    summaries,
    test_clocks,
    v2,
    webhooks,
)


class Table:
    """The routes, those without a parameter found at once."""

    def __init__(self) -> None:
        self._exact = {(r.method, r.template): r for r in ROUTES if "{" not in r.template}
        self._others = [r for r in ROUTES if "{" in r.template]

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, {}
        for each in self._others:
            match = each.pattern.match(path) if each.method == method else None
            if match:
                return each, match.groupdict()
        return None
