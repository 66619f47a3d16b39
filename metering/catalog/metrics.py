"""Metrics: how a tenant wants its numbers read. Made at first sight, edited here."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from metering.catalog.models import Metric, MetricMapping
from metering.errors import ConflictError, InvalidInputError, NotFoundError

AGGREGATIONS = ("sum", "count", "max", "last", "unique")
LATE_POLICIES = ("period", "age")
# Nothing occurred before: the wire refuses a `ts` before the year 2000.
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

_MAKE = """
INSERT INTO metrics (tenant_id, metric, lateness_seconds, created_at)
SELECT tenant_id, %(metric)s, lateness_seconds, %(now)s FROM tenants
WHERE tenant_id = %(tenant_id)s
ON CONFLICT DO NOTHING
"""


def get(session: Session, tenant_id: str, metric: str) -> Metric:
    """The metric, or NotFoundError."""
    found = session.scalar(
        select(Metric).where(Metric.tenant_id == tenant_id, Metric.metric == metric)
    )
    if found is None:
        raise NotFoundError(
            f"there is no metric {metric!r}; it is made when its first event is counted"
        )
    return found


def listed(session: Session, tenant_id: str) -> Sequence[Metric]:
    """The tenant's metrics by name."""
    return session.scalars(
        select(Metric).where(Metric.tenant_id == tenant_id).order_by(Metric.metric)
    ).all()


def found(session: Session, tenant_id: str, names: Iterable[str]) -> dict[str, Metric]:
    """Those of these metrics that exist, by name."""
    rows = session.scalars(
        select(Metric).where(Metric.tenant_id == tenant_id, Metric.metric.in_(set(names)))
    )
    return {row.metric: row for row in rows}


def edit(
    session: Session, tenant_id: str, metric: str, changes: Mapping[str, Any], *, now: datetime
) -> Metric:
    """Change the named attributes of a metric, making the metric if it is new.

    Reading by `unique` switches the unique counts on; the ledger is then searched for what was
    folded before (see `counters.unique.fill`).
    Raises: InvalidInputError if the unique counts are switched off while they are the reading,
            ConflictError while they are that of a mapping which has not ended.
    """
    parameters = {"tenant_id": tenant_id, "metric": metric, "now": now}
    session.connection().exec_driver_sql(_MAKE, parameters)
    row = session.scalars(
        select(Metric)
        .where(Metric.tenant_id == tenant_id, Metric.metric == metric)
        .with_for_update()
    ).one()
    was_kept = row.unique_enabled
    for name, value in changes.items():
        setattr(row, name, value)
    if row.aggregation == "unique":
        if changes.get("unique_enabled") is False:
            raise InvalidInputError(
                "unique counts cannot be switched off while aggregation is 'unique'",
                pointer="/unique",
            )
        row.unique_enabled = True
    if row.unique_enabled and not was_kept:
        row.unique_filled_to = BEGINNING
    if not row.unique_enabled:
        if was_kept:
            _refuse_while_billed(session, row, now)
        row.unique_filled_to = None
    session.flush()
    return row


def _refuse_while_billed(session: Session, row: Metric, now: datetime) -> None:
    until = MetricMapping.effective_until
    mapping_id = session.scalar(
        select(MetricMapping.mapping_id).where(
            MetricMapping.tenant_id == row.tenant_id,
            MetricMapping.metric == row.metric,
            MetricMapping.aggregation == "unique",
            or_(until.is_(None), and_(until > now, until > MetricMapping.effective_from)),
        )
    )
    if mapping_id is not None:
        raise ConflictError(
            f"mapping {mapping_id} bills the unique counts; end it before they are switched off",
            pointer="/unique",
        )
