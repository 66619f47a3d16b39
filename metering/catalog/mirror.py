"""What Stripe said of its own objects, as we last heard it: meters, prices, items, customers.

Written by `metering.stripe` alone; read wherever a price or a period is needed. Every row carries
`fetched_at`, the instant at which Stripe was asked: an older answer never overwrites a newer one,
so that webhooks may come in any order.
"""

from typing import Any

from sqlalchemy import JSON, CheckConstraint, Index, PrimaryKeyConstraint, Text, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, Key

MODES = "mode IN ('live', 'test')"


class StripeMeter(Base):
    """A billing meter. window: `hour` or `day` where only the latest event of one counts."""

    __tablename__ = "stripe_meters"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id", "meter_id"),
        Index(None, "tenant_id", "mode", "account_id", "event_name"),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    meter_id: Mapped[Key]
    event_name: Mapped[Key]
    formula: Mapped[str] = mapped_column(Text)
    window: Mapped[str | None] = mapped_column("event_time_window", Text)
    is_active: Mapped[bool]
    fetched_at: Mapped[Instant]


class StripePrice(Base):
    """A price. definition: the canonical `priceConfig`, None where we cannot price by it, and
    then `unreadable` says why."""

    __tablename__ = "stripe_prices"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id", "price_id"),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    price_id: Mapped[Key]
    meter_id: Mapped[Key | None]
    currency: Mapped[str] = mapped_column(Text)
    definition: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    unreadable: Mapped[str | None] = mapped_column(Text)
    is_active: Mapped[bool]
    fetched_at: Mapped[Instant]


class SubscriptionItem(Base):
    """One metered price of one subscription, with the billing period it is in.

    status:     the subscription's: `active`, `trialing`, `past_due`, `paused`, `canceled` …
    anchor_at:  from which its periods are reckoned, `interval_count` `interval`s at a time.
    started_at: since when the item bills.  ended_at: from when on it no longer does.
    cancel_at:  when it will end, as far as is known.
    past_prices: `{until, price_id}` of each price that it had before the present one, since we
                know it; `until` as ISO 8601.
    """

    __tablename__ = "subscription_items"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id", "item_id"),
        Index(None, "tenant_id", "mode", "account_id", "stripe_customer"),
        Index(None, "tenant_id", "subscription_id"),
        Index(None, "tenant_id", "item_id"),
        CheckConstraint(MODES, name="mode"),
        CheckConstraint("current_start < current_end", name="span"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    item_id: Mapped[Key]
    subscription_id: Mapped[Key]
    stripe_customer: Mapped[Key]
    price_id: Mapped[Key]
    meter_id: Mapped[Key | None]
    status: Mapped[str] = mapped_column(Text)
    interval: Mapped[str] = mapped_column("recurring_interval", Text)
    interval_count: Mapped[int]
    anchor_at: Mapped[Instant]
    current_start: Mapped[Instant]
    current_end: Mapped[Instant]
    started_at: Mapped[Instant]
    ended_at: Mapped[Instant | None]
    cancel_at: Mapped[Instant | None]
    trial_end: Mapped[Instant | None]
    is_paused: Mapped[bool] = mapped_column(server_default=false())
    past_prices: Mapped[list[dict[str, str]]] = mapped_column(JSONB, server_default=text("'[]'"))
    fetched_at: Mapped[Instant]


class StripeCustomer(Base):
    """A customer of Stripe that names one of ours in `metadata[stripemeter_customer_ref]`."""

    __tablename__ = "stripe_customers"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id", "stripe_customer"),
        Index(None, "tenant_id", "mode", "customer_ref"),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    stripe_customer: Mapped[Key]
    customer_ref: Mapped[Key | None]
    is_deleted: Mapped[bool] = mapped_column(server_default=false())
    fetched_at: Mapped[Instant]


class StripeInvoice(Base):
    """An invoice of a subscription: until when usage still reaches it.

    finalizes_at: when Stripe will finalize it by itself; None: not yet said, or never.
    """

    __tablename__ = "stripe_invoices"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id", "invoice_id"),
        Index(None, "tenant_id", "subscription_id"),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    invoice_id: Mapped[Key]
    stripe_customer: Mapped[Key]
    subscription_id: Mapped[Key | None]
    status: Mapped[str] = mapped_column(Text)
    period_start: Mapped[Instant]
    period_end: Mapped[Instant]
    finalizes_at: Mapped[Instant | None]
    finalized_at: Mapped[Instant | None]
    fetched_at: Mapped[Instant]
