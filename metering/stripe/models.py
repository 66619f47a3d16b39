"""Streams to Stripe, what is unsent of them, and every promise ever made to Stripe."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from metering.catalog.mirror import MODES
from metering.database import Base, Instant, Key, Quantity

OPEN_STATES = ("claimed", "ambiguous")
STATES = (*OPEN_STATES, "settled", "confirmed", "suspect", "rejected", "adopted")


class Connection(Base):
    """One account in one mode: whether it can be reached, and what was read of it last.

    halted_until: nothing is sent before it; `halted_reason` is the sentence for people.
    failures:     calls in a row that Stripe did not answer, or answered for all customers alike.
    last_event:   the newest of Stripe's events that were read; listed_at: the last full listing.
    """

    __tablename__ = "stripe_connections"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "account_id"),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    halted_until: Mapped[Instant | None]
    halted_kind: Mapped[str | None] = mapped_column(Text)
    halted_reason: Mapped[str | None] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    last_ok_at: Mapped[Instant | None]
    last_event: Mapped[str | None] = mapped_column(Text)
    events_read_at: Mapped[Instant | None]
    listed_at: Mapped[Instant | None]


class PushStream(Base):
    """Where pushes go: an account in a mode, a meter by its event name, a Stripe customer.

    Two prices on one meter are one stream, and so are two of our customers that are one of
    Stripe's.

    retry_at: nothing is sent before it, for the reason in `blocked_reason`.
    """

    __tablename__ = "push_streams"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "stream_id"),
        UniqueConstraint("tenant_id", "mode", "account_id", "event_name", "stripe_customer"),
        Index(
            "ix_push_streams_blocked",
            "tenant_id",
            "blocked_at",
            postgresql_where=text("blocked_kind IS NOT NULL"),
        ),
        CheckConstraint(MODES, name="mode"),
    )

    tenant_id: Mapped[Key]
    stream_id: Mapped[Key]
    mode: Mapped[Key]
    account_id: Mapped[Key]
    event_name: Mapped[Key]
    stripe_customer: Mapped[Key]
    created_at: Mapped[Instant]
    blocked_kind: Mapped[str | None] = mapped_column(Text)
    blocked_reason: Mapped[str | None] = mapped_column(Text)
    blocked_at: Mapped[Instant | None]
    retry_at: Mapped[Instant | None]
    confirmed_at: Mapped[Instant | None]


class StreamSource(Base):
    """A customer's metric that feeds a stream, or once did."""

    __tablename__ = "stream_sources"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "stream_id", "customer_ref", "metric"),
        Index(None, "tenant_id", "customer_ref", "metric"),
    )

    tenant_id: Mapped[Key]
    stream_id: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]


class Push(Base):
    """One promise to Stripe: written before it is sent, settled once Stripe has answered.

    basis:      `hour`; `period` for readings that only differences can carry; `direct` for usage
                that is no counter's (see `recording`).
    segment_start: the start of the hour's segment, or of the billing period.
    quantity:   the delta; at most 15 significant digits.
    stamped_at: the `timestamp` that Stripe is told.
    identifier: random, made here, sent byte for byte the same however often.
    attempts:   calls begun.  outcomes: of these, ended before our eyes.  answered_failures:
                answered with a 5xx, which Stripe would replay to the same idempotency key.
    is_uncertain: at least one call's outcome is unknown.
    is_missing: rejected because Stripe's own total did not hold it, and for nothing Stripe said.
    state:      `claimed`; `settled` (Stripe accepted), `confirmed` (a summary agrees), `ambiguous`
                (only a summary can tell), `suspect` (an error report may mean it), `rejected`;
                `adopted`: sent by other code before we took over.
    """

    __tablename__ = "pushes"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "identifier"),
        Index(
            "uq_pushes_one_open_per_stream",
            "tenant_id",
            "stream_id",
            unique=True,
            postgresql_where=text("state IN ('claimed', 'ambiguous')"),
        ),
        Index(None, "tenant_id", "stream_id", "segment_start"),
        Index(
            "ix_pushes_open",
            "tenant_id",
            "lease_until",
            postgresql_where=text("state IN ('claimed', 'ambiguous', 'suspect')"),
        ),
        Index(
            "ix_pushes_unconfirmed",
            "tenant_id",
            "settled_at",
            postgresql_where=text("state = 'settled'"),
        ),
        Index(
            "ix_pushes_drifting",
            "tenant_id",
            "stream_id",
            postgresql_where=text("state = 'settled' AND error IS NOT NULL"),
        ),
        CheckConstraint("basis IN ('hour', 'period', 'direct')", name="basis"),
        CheckConstraint(f"state IN ({', '.join(repr(state) for state in STATES)})", name="state"),
    )

    tenant_id: Mapped[Key]
    identifier: Mapped[Key]
    stream_id: Mapped[Key]
    basis: Mapped[str] = mapped_column(Text)
    segment_start: Mapped[Instant]
    quantity: Mapped[Quantity]
    stamped_at: Mapped[Instant]
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    outcomes: Mapped[int] = mapped_column(server_default=text("0"))
    answered_failures: Mapped[int] = mapped_column(server_default=text("0"))
    is_uncertain: Mapped[bool] = mapped_column(server_default=text("false"))
    is_missing: Mapped[bool] = mapped_column(server_default=text("false"))
    claimed_at: Mapped[Instant]
    lease_until: Mapped[Instant]
    settled_at: Mapped[Instant | None]
    confirmed_at: Mapped[Instant | None]
    error: Mapped[str | None] = mapped_column(Text)


class PushTotal(Base):
    """How many calls and verdicts there were, ever: the running totals behind `/metrics`.

    outcome: what Stripe said to a call (`accepted`, `rejected`, `retry` …), `not_sent` of a call
             that never left, or what its own totals said of a push (`confirmed`, `missing`).
    """

    __tablename__ = "push_totals"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "outcome"),
        CheckConstraint(MODES, name="mode"),
        {"postgresql_with": {"fillfactor": "50"}},
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    outcome: Mapped[Key]
    total: Mapped[int] = mapped_column(BigInteger)


class Unsent(Base):
    """A segment of which Stripe may not have heard all; written by whoever changes it.

    due_at: when it is looked at next.  is_urgent: before others, and whatever the cadence says.
    """

    __tablename__ = "unsent"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "customer_ref", "metric", "segment_start"),
        Index(None, "tenant_id", "due_at"),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "10000",
            }
        },
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    segment_start: Mapped[Instant]
    changed_at: Mapped[Instant]
    due_at: Mapped[Instant]
    is_urgent: Mapped[bool] = mapped_column(server_default=text("false"))


class Held(Base):
    """A customer's metric that cannot be sent as things are, from a segment on.

    kind: a word for programs (`unmapped`, `conflict`, `meter`, `foreign_account` …); reason: the
    sentence.
    """

    __tablename__ = "held"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "customer_ref", "metric"),
        Index(None, "tenant_id", "retry_at"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    customer_ref: Mapped[Key]
    metric: Mapped[Key]
    since_segment: Mapped[Instant]
    kind: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    held_at: Mapped[Instant]
    retry_at: Mapped[Instant]


class Unsendable(Base):
    """A segment's usage that Stripe would bill on no invoice: a decision for people.

    kind: `too_old` (35 days), `invoice_final`.  quantity: what is missing at Stripe.
    is_decided: the adjustments that it was proposed as are decided, and nothing has changed since.
    """

    __tablename__ = "unsendable"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "stream_id", "basis", "segment_start"),
        CheckConstraint("basis IN ('hour', 'period')", name="basis"),
    )

    tenant_id: Mapped[Key]
    stream_id: Mapped[Key]
    basis: Mapped[str] = mapped_column(Text)
    segment_start: Mapped[Instant]
    quantity: Mapped[Quantity]
    kind: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    found_at: Mapped[Instant]
    is_decided: Mapped[bool] = mapped_column(server_default=text("false"))


class WebhookDelivery(Base):
    """An event of Stripe's that was taken: a second delivery changes nothing.

    object_id:  what the event is about and is read again; None where only the event itself says.
    attempts:   times that its handling was begun.
    due_at:     when its handling is begun next; None once it is handled.
    error:      what became of the last attempt, if it failed.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "mode", "event_id"),
        Index(None, "received_at"),
        Index(
            "ix_webhook_deliveries_waiting",
            "tenant_id",
            "due_at",
            postgresql_where=text("handled_at IS NULL"),
        ),
        CheckConstraint(MODES, name="mode"),
        CheckConstraint("(due_at IS NULL) = (handled_at IS NOT NULL)", name="due_or_handled"),
    )

    tenant_id: Mapped[Key]
    mode: Mapped[Key]
    event_id: Mapped[Key]
    account_id: Mapped[Key]
    type: Mapped[str] = mapped_column(Text)
    object_id: Mapped[Key | None]
    received_at: Mapped[Instant]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[Instant | None]
    handled_at: Mapped[Instant | None]
    error: Mapped[str | None] = mapped_column(Text)


class AccountBinding(Base):
    """To which tenant a Stripe account belongs: to one only, in the whole installation.

    The one table whose key does not begin with the tenant: it is what tells the tenant.
    """

    __tablename__ = "account_bindings"
    __table_args__ = (PrimaryKeyConstraint("account_id"),)

    account_id: Mapped[Key]
    tenant_id: Mapped[Key]
    bound_at: Mapped[Instant]
    bound_by: Mapped[str] = mapped_column(Text)
