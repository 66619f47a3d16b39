"""An event of the ledger in the contract's form."""

from typing import Any

from metering.ledger.models import Event
from webapp import wire


def event(event: Event, status: str) -> dict[str, Any]:
    """One of `GET /v1/events`."""
    return {
        "id": event.idempotency_key,
        "tenantId": event.tenant_id,
        "metric": event.metric,
        "customerRef": event.customer_ref,
        "resourceId": event.resource_id,
        "quantity": wire.decimal(event.quantity),
        "timestamp": wire.instant(event.occurred_at),
        "recordedAt": wire.instant(event.recorded_at),
        "meta": wire.RawJson(event.meta) if event.meta is not None else None,
        "source": event.source,
        "status": status,
    }
