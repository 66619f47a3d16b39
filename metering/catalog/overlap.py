"""At most one mapping of a metric to a meter for anybody at any instant.

Of the mappings of one metric in the same scope (everyone, one customer, one subscription item) no
two that are active may overlap in time, unless they lead to different meters: to one meter the
same usage goes once. Nor may two that are shadow. A narrower scope may overlap a wider one, and
goes before it.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session

from metering.catalog import places
from metering.catalog.models import MetricMapping
from metering.errors import ConflictError

_KINDS = (
    ("active", MetricMapping.is_active, MetricMapping.subscription_item_id),
    ("shadow", MetricMapping.is_shadow, MetricMapping.shadow_subscription_item_id),
)


def refuse(session: Session, mapping: MetricMapping) -> None:
    """Raise ConflictError if another mapping stands in this one's way."""
    if mapping.effective_until == mapping.effective_from:
        return  # ended before it began
    for kind, flag, item in _KINDS:
        if not getattr(mapping, flag.key):
            continue
        others = session.scalars(
            select(MetricMapping)
            .where(
                MetricMapping.tenant_id == mapping.tenant_id,
                MetricMapping.metric == mapping.metric,
                MetricMapping.mapping_id != mapping.mapping_id,
                MetricMapping.customer_ref.is_not_distinct_from(mapping.customer_ref),
                item.is_not_distinct_from(getattr(mapping, item.key)),
                flag,
                _overlaps(mapping),
            )
            .order_by(MetricMapping.effective_from)
        )
        for other in others:
            if not places.are_apart(mapping, other):
                raise ConflictError(_reason(kind, other), pointer="/effectiveFrom")


def _overlaps(mapping: MetricMapping) -> ColumnElement[bool]:
    since, until = MetricMapping.effective_from, MetricMapping.effective_until
    begins_in_time: ColumnElement[bool] = true()
    if mapping.effective_until is not None:
        begins_in_time = since < mapping.effective_until
    goes_on = and_(until > mapping.effective_from, until > since)
    return and_(begins_in_time, or_(until.is_(None), goes_on))


def _reason(kind: str, other: MetricMapping) -> str:
    until = "" if other.effective_until is None else f" until {_shown(other.effective_until)}"
    return (
        f"mapping {other.mapping_id} of this metric is {kind} from"
        f" {_shown(other.effective_from)}{until}: end it first, or let one begin where the other"
        " ends"
    )


def _shown(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
