"""Counters and their segments, and the events that no counter holds."""

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, text
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
            # What is compared with a stretch of the ledger lies together: rows are made hour by
            # hour. It weighs nothing, and a fold does not notice it.
            Index("ix_segments_segment_start_brin", "segment_start", postgresql_using="brin"),
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
    """An event that came too late for its period: kept out of the counter, never lost.

    adjustment_id: the adjustment that decides whether it counts after all; None only until the
                   end of the transaction that set it aside.
    """

    __tablename__ = "set_aside"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "idempotency_key"),
        Index(None, "tenant_id", "customer_ref", "metric", "period_start"),
        Index("ix_set_aside_adjustment_id", "tenant_id", "adjustment_id"),
    )

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    quantity: Mapped[Quantity]
    reason: Mapped[str] = mapped_column(Text)
    set_aside_at: Mapped[Instant]
    adjustment_id: Mapped[Key | None]


class DeadLetter(Base):
    """An event whose folding the database refused, with the reason it gave.

    late: as in `ledger.models.Unfolded`, for when it is counted again.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "idempotency_key"),)

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    error: Mapped[str] = mapped_column(Text)
    failed_at: Mapped[Instant]
    late: Mapped[str | None] = mapped_column(Text)


class Adjustment(Base):
    """A decision, proposed or taken, about usage that the counter of a period does not tell.

    kind:          `events`: the set-aside events that name it; `delta`: a number.
    delta:         units, either sign; None of `events`.
    segment_start: of an approved delta, the hour in which it counts; with `carry_forward` an hour
                   of a later period.
    carried:       units that `carry_forward` counts there.
    disposition:   what approval made of it; only `apply` and `carry_forward` touch a total.
    origin:        `manual`; `set_aside`: proposed for late events; `unbilled`: proposed for usage
                   that Stripe took and no invoice bills.
    arrived_on:    of `set_aside`, the UTC day on which its events arrived.
    """

    __tablename__ = "adjustments"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "adjustment_id"),
        Index(None, "tenant_id", "customer_ref", "metric", "period_start"),
        Index("ix_adjustments_status", "tenant_id", "status", "created_at"),
        # Each fold asks for them.
        Index(
            "ix_adjustments_carried",
            "tenant_id",
            "customer_ref",
            "metric",
            postgresql_where=text(
                "status = 'approved' AND disposition = 'carry_forward' AND kind = 'events'"
            ),
        ),
        CheckConstraint("kind IN ('events', 'delta')", name="kind"),
        CheckConstraint("(kind = 'delta') = (delta IS NOT NULL)", name="delta_of_delta"),
        CheckConstraint(
            "reason IN ('backfill', 'correction', 'promo', 'credit', 'manual', 'late')",
            name="reason",
        ),
        CheckConstraint("status IN ('pending', 'approved', 'declined', 'reverted')", name="status"),
        CheckConstraint(
            "disposition IN ('apply', 'carry_forward', 'invoice_item', 'credit_note', 'write_off')",
            name="disposition",
        ),
        CheckConstraint(
            "(status IN ('approved', 'reverted')) = (disposition IS NOT NULL)", name="decided"
        ),
        CheckConstraint("origin IN ('manual', 'set_aside', 'unbilled')", name="origin"),
    )

    tenant_id: Mapped[Key]
    adjustment_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    kind: Mapped[str] = mapped_column(Text)
    delta: Mapped[Quantity | None]
    reason: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    disposition: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(Text)
    arrived_on: Mapped[Instant | None]
    segment_start: Mapped[Instant | None]
    carried: Mapped[Quantity | None]
    created_at: Mapped[Instant]
    created_by: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[Instant | None]
    decided_by: Mapped[str | None] = mapped_column(Text)


class AdjustmentStep(Base):
    """What was done to an adjustment, by whom and when: rows are only ever added."""

    __tablename__ = "adjustment_steps"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "adjustment_id", "number"),)

    tenant_id: Mapped[Key]
    adjustment_id: Mapped[Key]
    number: Mapped[int]
    action: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    taken_at: Mapped[Instant]


class Void(Base):
    """An event that counts nowhere, for a reason; the ledger and the counter still hold it."""

    __tablename__ = "voids"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "idempotency_key"),
        Index(None, "tenant_id", "customer_ref", "metric", "occurred_at"),
    )

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    occurred_at: Mapped[Instant]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    voided_at: Mapped[Instant]


class VoidStep(Base):
    """Every voiding and restoring of an event: rows are only ever added."""

    __tablename__ = "void_steps"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "idempotency_key", "number"),
        CheckConstraint("action IN ('void', 'restore')", name="action"),
    )

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    number: Mapped[int]
    action: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    taken_at: Mapped[Instant]


class CorrectedAggregates:
    """Aggregates of what counts: folded less voided, and what was approved of the set aside.

    No maximum and no last value where nothing counts.
    delta: the sum of the approved deltas; part of every reading.
    """

    event_count: Mapped[int] = mapped_column(BigInteger)
    sum_value: Mapped[Quantity]
    max_value: Mapped[Quantity | None]
    last_value: Mapped[Quantity | None]
    last_occurred_at: Mapped[Instant | None]
    last_key: Mapped[Key | None]
    delta: Mapped[Quantity] = mapped_column(server_default=text("0"))


class CorrectedCounter(CorrectedAggregates, Base):
    """What a period's counter becomes by decisions; there is none where nobody decided anything.

    Its unique count is the counter's, corrected by `corrected_members`.
    """

    __tablename__ = "corrected_counters"

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[object, ...]:
        return (PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "period_start"),)

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    period_end: Mapped[Instant]
    corrected_at: Mapped[Instant]


class CorrectedSegment(CorrectedAggregates, Base):
    """What a segment becomes by decisions."""

    __tablename__ = "corrected_segments"

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[object, ...]:
        return (PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "segment_start"),)

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    segment_start: Mapped[Instant]


class CorrectedMember(Base):
    """A resource of which decisions say otherwise than `unique_members`.

    is_counted: True: it counts though no counted event names it; False: all that name it are void.
    """

    __tablename__ = "corrected_members"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "period_start", "resource_key"),
    )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    period_start: Mapped[Instant]
    resource_key: Mapped[Key]
    is_counted: Mapped[bool]
