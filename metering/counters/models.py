"""Counters and their segments, and the events that no counter holds."""

from sqlalchemy import BigInteger, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from metering.database import Base, Instant, Key, Quantity


class Aggregates:
    """The aggregates that are kept of any set of events; all but `unique` need no history.

    The latest event is the greatest by (occurred_at, idempotency_key), never by arrival.
    """

    event_count: Mapped[int] = mapped_column(BigInteger)
    sum_value: Mapped[Quantity]
    max_value: Mapped[Quantity]
    last_value: Mapped[Quantity]
    last_occurred_at: Mapped[Instant]
    last_key: Mapped[Key]


class Counter(Aggregates, Base):
    """Everything counted of one customer's metric in one billing period.

    watermark: the greatest occurred_at folded; shown, never a judge of lateness.
    reaggregations: events that lay behind the watermark when they were folded.
    """

    __tablename__ = "counters"

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[object, ...]:
        return (
            PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "period_start"),
            # Room on the page for the next version of the row: updates stay off the index.
            {"postgresql_with": {"fillfactor": "70"}},
        )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    period_end: Mapped[Instant]
    unique_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    watermark: Mapped[Instant]
    reaggregations: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    folded_at: Mapped[Instant]


class Segment(Aggregates, Base):
    """One UTC hour of a counter, cut at period starts: what history and pushes are made of."""

    __tablename__ = "segments"

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[object, ...]:
        return (
            PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "segment_start"),
            {"postgresql_with": {"fillfactor": "80"}},
        )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    segment_start: Mapped[Instant]


class UniqueMember(Base):
    """A resource seen in a period: one row, so that a unique count is exact.

    resource_key: the resource's id, or the SHA-256 of a long one: four names at their longest do
    not fit into an index row. `aggregation.RESOURCE_KEY` makes it.
    """

    __tablename__ = "unique_members"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "period_start", "resource_key"),
    )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    resource_key: Mapped[Key]


class SetAside(Base):
    """An event that came too late for its period: kept out of the counter, never lost."""

    __tablename__ = "set_aside"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "idempotency_key"),
        Index(None, "tenant_id", "customer_ref", "metric", "period_start"),
    )

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    quantity: Mapped[Quantity]
    reason: Mapped[str] = mapped_column(Text)
    set_aside_at: Mapped[Instant]


class DeadLetter(Base):
    """An event whose folding the database refused, with the reason it gave."""

    __tablename__ = "dead_letters"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "idempotency_key"),)

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    error: Mapped[str] = mapped_column(Text)
    failed_at: Mapped[Instant]
