"""Mappings in the contract's form."""

from typing import Any

from metering.catalog.models import Metric, MetricMapping
from metering.stripe.readiness import Standing, Standings
from webapp import wire


def mapping(shown: MetricMapping, metric: Metric, standings: Standings) -> dict[str, Any]:
    """One mapping. metric: the one it maps, whose aggregation holds where it has none."""
    until, total = shown.effective_until, shown.opening_total
    return {
        "id": shown.mapping_id,
        "tenantId": shown.tenant_id,
        "metric": shown.metric,
        "aggregation": shown.aggregation or metric.aggregation,
        "customerRef": shown.customer_ref,
        "stripeAccount": shown.stripe_account,
        "priceId": shown.price_id,
        "meterId": shown.meter_id,
        "meterEventName": shown.meter_event_name,
        "subscriptionItemId": shown.subscription_item_id,
        "currency": shown.currency,
        "priceConfig": shown.price,
        "active": shown.is_active,
        "shadow": shown.is_shadow,
        "shadowStripeAccount": shown.shadow_stripe_account,
        "shadowPriceId": shown.shadow_price_id,
        "shadowSubscriptionItemId": shown.shadow_subscription_item_id,
        "effectiveFrom": wire.instant(shown.effective_from),
        "effectiveUntil": wire.instant(until) if until else None,
        "createdAt": wire.instant(shown.created_at),
        "updatedAt": wire.instant(shown.updated_at),
        "openingTotal": None if total is None else wire.decimal(total),
        "destinations": {
            "live": _destination(standings.of(shown, "live")),
            "shadow": _destination(standings.of(shown, "test")),
        },
        "warnings": standings.warnings(shown),
    }


def _destination(standing: Standing) -> dict[str, str]:
    return {"state": standing.state, "reason": standing.reason}
