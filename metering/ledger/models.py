"""The ledger's tables: every event once, for ever, and the events not yet folded."""

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint, Text
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, JsonText, Key, Quantity


class Event(Base):
    """One usage event as its sender stated it. Never updated.

    The primary key is the whole promise of idempotency, so the table cannot be partitioned by
    time. Sequential scans of a time range are served by the BRIN index, listings by recorded_at.
    """

    __tablename__ = "events"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "idempotency_key"),
        CheckConstraint("quantity >= 0 AND quantity < 1e20", name="quantity_in_range"),
        Index(None, "tenant_id", "recorded_at"),
        Index("ix_events_occurred_at_brin", "occurred_at", postgresql_using="brin"),
    )

    tenant_id: Mapped[Key]
    idempotency_key: Mapped[Key]
    metric: Mapped[Key]
    customer_ref: Mapped[Key]
    resource_id: Mapped[Key | None]
    quantity: Mapped[Quantity]
    occurred_at: Mapped[Instant]
    recorded_at: Mapped[Instant]
    # `json`, not `jsonb`: the text comes back exactly as it was sent.
    meta: Mapped[str | None] = mapped_column(JsonText)
    source: Mapped[str | None] = mapped_column(Text)


class Unfolded(Base):
    """An event that no counter holds yet; deleted by the transaction that folds it.

    The event's key, prefixed by its recorded_at: inserts go to the index's right edge, the
    oldest row is found at its left.
    """

    __tablename__ = "unfolded"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "recorded_at", "idempotency_key"),
        {
            "postgresql_with": {
                # A queue: vacuum by its turnover, not by a share of its size.
                "autovacuum_vacuum_scale_factor": "0",
                "autovacuum_vacuum_threshold": "10000",
            }
        },
    )

    tenant_id: Mapped[Key]
    recorded_at: Mapped[Instant]
    idempotency_key: Mapped[Key]


class KeyedRequest(Base):
    """A request named by an `Idempotency-Key` header, so that the name cannot be reused.

    body_sha256: of the decoded body; a repetition with another one is refused.
    """

    __tablename__ = "keyed_requests"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "operation", "request_key"),
        Index(None, "recorded_at"),
    )

    tenant_id: Mapped[Key]
    operation: Mapped[Key]
    request_key: Mapped[Key]
    body_sha256: Mapped[bytes]
    recorded_at: Mapped[Instant]
