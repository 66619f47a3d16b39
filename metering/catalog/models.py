"""What is metered, for whom, and in which billing period."""

from typing import Any

from sqlalchemy import JSON, CheckConstraint, Index, PrimaryKeyConstraint, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, Key, Quantity


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
    """What we were told of a customer; usage counts whether or not a row exists.

    shadow_stripe_customer_id: who it is in Stripe's test mode.
    """

    __tablename__ = "customers"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "customer_ref"),
        # Whose usage a Stripe customer's is.
        Index(None, "tenant_id", "stripe_customer_id"),
        Index(None, "tenant_id", "shadow_stripe_customer_id"),
    )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    stripe_customer_id: Mapped[str | None] = mapped_column(Text)
    shadow_stripe_customer_id: Mapped[str | None] = mapped_column(Text)
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


class BillingPeriod(Base):
    """One billing period of one customer's metric, as its subscription item has it.

    Periods tile time: where no row holds an instant, it is billed by the calendar month in UTC,
    clipped by the rows beside it. Rows are history; what a subscription says later changes only
    those that are not closed.

    closes_at: events recorded at or after it are set aside; None: not yet known.
    invoice_id: the invoice that bills it.  final_at: since when that invoice is final.
    """

    __tablename__ = "billing_periods"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "customer_ref", "metric", "start_at"),
        Index(None, "tenant_id", "item_id"),
        Index(None, "tenant_id", "end_at"),
        Index(
            "ix_billing_periods_closing",
            "tenant_id",
            "closes_at",
            postgresql_where=text("closed_at IS NULL"),
        ),
        CheckConstraint("start_at < end_at", name="span"),
        CheckConstraint("closed_at IS NULL OR closed_at >= closes_at", name="closed_in_time"),
    )

    tenant_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    start_at: Mapped[Instant]
    end_at: Mapped[Instant]
    mode: Mapped[Key]
    item_id: Mapped[Key]
    closes_at: Mapped[Instant | None]
    closed_at: Mapped[Instant | None]
    invoice_id: Mapped[Key | None]
    final_at: Mapped[Instant | None]


class MetricMapping(Base):
    """What a metric costs, and where in Stripe it is billed, over `[effective_from,
    effective_until)`; a row of history once it is over.

    aggregation:   None while the metric's own holds.
    customer_ref, subscription_item_id: its scope; None: everyone.
    price:         the canonical `priceConfig`; None where only Stripe knows the price.
    currency:      the one of the price's currencies that is billed.
    is_active, is_shadow: live and test, independent of each other.
    opening_total: what Stripe's total was when a mapping that begins in the past was made.
    pushed_at:     when usage first went to Stripe by it; since then its meaning cannot change.
    """

    __tablename__ = "mappings"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mapping_id"),
        Index(None, "tenant_id", "metric", "effective_from"),
        CheckConstraint(
            "aggregation IN ('sum', 'count', 'max', 'last', 'unique')", name="aggregation"
        ),
        # Ended before it began, it is never in force.
        CheckConstraint("effective_from <= effective_until", name="span"),
    )

    tenant_id: Mapped[Key]
    mapping_id: Mapped[Key]
    metric: Mapped[Key]
    aggregation: Mapped[str | None] = mapped_column(Text)
    customer_ref: Mapped[Key | None]
    stripe_account: Mapped[str | None] = mapped_column(Text)
    price_id: Mapped[str | None] = mapped_column(Text)
    meter_id: Mapped[str | None] = mapped_column(Text)
    meter_event_name: Mapped[str | None] = mapped_column(Text)
    subscription_item_id: Mapped[Key | None]
    currency: Mapped[str | None] = mapped_column(Text)
    # `json`, not `jsonb`: the members keep the order in which people read them.
    price: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    is_active: Mapped[bool]
    is_shadow: Mapped[bool]
    shadow_stripe_account: Mapped[str | None] = mapped_column(Text)
    shadow_price_id: Mapped[str | None] = mapped_column(Text)
    shadow_subscription_item_id: Mapped[Key | None]
    effective_from: Mapped[Instant]
    effective_until: Mapped[Instant | None]
    opening_total: Mapped[Quantity | None]
    pushed_at: Mapped[Instant | None]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]
