"""What is metered, for whom, and in which billing period."""

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, Key


class Metric(Base):
    """How one tenant wants a metric read; made at first sight, edited later.

    Counters keep sum, count, max and last whatever `aggregation` says; it only chooses which
    of them is *the* number. Unique counts cost more and are kept while `unique_enabled`.

    unique_filled_to: while not None, the ledger is still being searched for the resources of
    events folded before `unique_enabled`; the instant is how far the search has come.
    """

    __tablename__ = "metrics"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "metric"),
        CheckConstraint(
            "aggregation IN ('sum', 'count', 'max', 'last', 'unique')", name="aggregation"
        ),
        CheckConstraint("late_policy IN ('period', 'age')", name="late_policy"),
        CheckConstraint("lateness_seconds >= 0", name="lateness_seconds"),
    )

    tenant_id: Mapped[Key]
    metric: Mapped[Key]
    display_name: Mapped[str | None] = mapped_column(Text)
    unit: Mapped[str | None] = mapped_column(Text)
    aggregation: Mapped[str] = mapped_column(Text, server_default="sum")
    lateness_seconds: Mapped[int] = mapped_column(server_default=text("172800"))
    late_policy: Mapped[str] = mapped_column(Text, server_default="period")
    unique_enabled: Mapped[bool] = mapped_column(server_default=false())
    unique_filled_to: Mapped[Instant | None]
    carry_over: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[Instant]


class Customer(Base):
    """What we were told of a customer; usage counts whether or not a row exists."""

    __tablename__ = "customers"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "customer_ref"),)

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    stripe_customer_id: Mapped[str | None] = mapped_column(Text)
    stripe_account: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Instant]


class Period(Base):
    """One billing period of one schedule, `[start_at, end_at)`; a row of history.

    closes_at: events recorded at or after it are set aside; None while the period is bound to
    no subscription, for then it never closes.
    """

    __tablename__ = "periods"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "schedule", "start_at"),
        CheckConstraint("start_at < end_at", name="span"),
        CheckConstraint("closed_at IS NULL OR closed_at >= closes_at", name="closed_in_time"),
    )

    tenant_id: Mapped[Key]
    schedule: Mapped[Key]
    start_at: Mapped[Instant]
    end_at: Mapped[Instant]
    closes_at: Mapped[Instant | None]
    closed_at: Mapped[Instant | None]
