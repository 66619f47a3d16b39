"""Metrics and customers: what is metered, and for whom."""

from typing import Any

from flask import Blueprint, Response, g

from metering.catalog import customers, metrics
from metering.catalog.models import Customer, Metric
from metering.counters import customers as counted
from metering.database import after_commit, unit_of_work
from metering.errors import NotFoundError
from metering.stripe import schedules
from webapp import auth, runtime, wire
from webapp.catalog.schemas import (
    CustomerChangesSchema,
    CustomersAnswerSchema,
    CustomerSchema,
    CustomersQuerySchema,
    MetricChangesSchema,
    MetricsAnswerSchema,
    MetricSchema,
    TenantQuerySchema,
)
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db

blueprint = Blueprint("catalog", __name__, url_prefix="/v1")

MAX_METRIC, MAX_CUSTOMER = 100, 255
_COLUMN = {"unique": "unique_enabled"}
# What says who a customer is in Stripe.
_IDENTITY = {"stripe_customer_id", "shadow_stripe_customer_id", "stripe_account"}


@blueprint.get("/metrics")
@endpoint(
    Contract(
        summary="List metrics",
        scope="usage:read",
        query=TenantQuerySchema,
        answer=MetricsAnswerSchema,
        statuses=(401, 403, 422),
        tag="Catalogue",
    )
)
def list_metrics(tenant_id: str, query: dict[str, Any]) -> Response:
    """Every metric of the tenant that has been counted or edited."""
    found = metrics.listed(db.session(), tenant_id)
    return wire.answer({"metrics": [_metric(metric) for metric in found]})


@blueprint.get("/metrics/<rest:metric>")
@endpoint(
    Contract(
        summary="Read a metric",
        scope="usage:read",
        query=TenantQuerySchema,
        answer=MetricSchema,
        statuses=(401, 403, 404, 422),
        tag="Catalogue",
    )
)
def read_metric(metric: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """How the metric is read."""
    _check_name("metric", metric, MAX_METRIC)
    return wire.answer(_metric(metrics.get(db.session(), tenant_id, metric)))


@blueprint.put("/metrics/<rest:metric>")
@blueprint.patch("/metrics/<rest:metric>")
@endpoint(
    Contract(
        summary="Edit a metric",
        scope="usage:write",
        body=MetricChangesSchema,
        answer=MetricSchema,
        statuses=(400, 401, 403, 409, 415, 422),
        tag="Catalogue",
    )
)
def edit_metric(metric: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Counters always keep sum, count, max and last: a new aggregation reads what was counted.
    Unique counts are completed from the ledger once they are switched on."""
    _check_name("metric", metric, MAX_METRIC)
    changes = {_COLUMN.get(name, name): value for name, value in body.items()}
    hints = runtime.current().hints
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        edited = metrics.edit(session, tenant_id, metric, changes, now=g.now)
        answer = _metric(edited)
        if edited.unique_filled_to is not None:
            after_commit(session, lambda: hints.fill_unique(tenant_id, metric))
    return wire.answer(answer)


@blueprint.get("/customers")
@endpoint(
    Contract(
        summary="List customers",
        scope="usage:read",
        query=CustomersQuerySchema,
        answer=CustomersAnswerSchema,
        statuses=(401, 403, 422),
        tag="Catalogue",
    )
)
def list_customers(tenant_id: str, query: dict[str, Any]) -> Response:
    """Everyone who has counted usage or was told of here."""
    session, limit = db.session(), query["limit"]
    refs = counted.refs(session, tenant_id, after=query["cursor"], limit=limit + 1)
    known = customers.found(session, tenant_id, refs[:limit])
    return wire.answer(
        {
            "customers": [_customer(ref, known.get(ref)) for ref in refs[:limit]],
            "nextCursor": refs[limit - 1] if len(refs) > limit else None,
        }
    )


@blueprint.get("/customers/<rest:customer_ref>")
@endpoint(
    Contract(
        summary="Read a customer",
        scope="usage:read",
        query=TenantQuerySchema,
        answer=CustomerSchema,
        statuses=(401, 403, 404, 422),
        tag="Catalogue",
    )
)
def read_customer(customer_ref: str, tenant_id: str, query: dict[str, Any]) -> Response:
    """Who the customer is in Stripe, as far as is known."""
    _check_name("customerRef", customer_ref, MAX_CUSTOMER)
    session = db.session()
    known = customers.find(session, tenant_id, customer_ref)
    if known is None and not counted.has_usage(session, tenant_id, customer_ref):
        raise NotFoundError(f"there is no customer {customer_ref!r}, nor any usage of one")
    return wire.answer(_customer(customer_ref, known))


@blueprint.put("/customers/<rest:customer_ref>")
@blueprint.patch("/customers/<rest:customer_ref>")
@endpoint(
    Contract(
        summary="Edit a customer",
        scope="usage:write",
        body=CustomerChangesSchema,
        answer=CustomerSchema,
        statuses=(400, 401, 403, 415, 422),
        tag="Catalogue",
    )
)
def edit_customer(customer_ref: str, tenant_id: str, body: dict[str, Any]) -> Response:
    """Say who a customer is in Stripe. What had nowhere to go is sent there; what is open of what
    was sent to another of Stripe's customers is taken back there."""
    _check_name("customerRef", customer_ref, MAX_CUSTOMER)
    hints = runtime.current().hints
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        edited = customers.edit(session, tenant_id, customer_ref, body, now=g.now)
        if not _IDENTITY.isdisjoint(body):
            schedules.apply_for_customer(session, tenant_id, customer_ref, now=g.now)
            after_commit(session, lambda: hints.push(tenant_id))
        answer = _customer(customer_ref, edited)
    return wire.answer(answer)


def _check_name(name: str, value: str, most: int) -> None:
    if len(value) > most:
        raise wire.invalid_field(name, f"has at most {most} characters")
    if "\x00" in value:
        raise wire.invalid_field(name, "must not contain a NUL character")


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "metric": metric.metric,
        "displayName": metric.display_name,
        "unit": metric.unit,
        "aggregation": metric.aggregation,
        "latenessSeconds": metric.lateness_seconds,
        "latePolicy": metric.late_policy,
        "unique": metric.unique_enabled,
        "uniqueComplete": metric.unique_enabled and metric.unique_filled_to is None,
        "carryOver": metric.carry_over,
    }


def _customer(customer_ref: str, known: Customer | None) -> dict[str, Any]:
    stripe_id = customers.stripe_id(customer_ref, known)
    return {
        "customerRef": customer_ref,
        "name": known.name if known else None,
        "stripeCustomerId": stripe_id,
        "shadowStripeCustomerId": known.shadow_stripe_customer_id if known else None,
        "stripeAccount": known.stripe_account if known else None,
        "state": "mapped" if stripe_id else "unmapped",
    }
