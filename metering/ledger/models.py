"""The ledger's tables: every event once, for ever, and the events not yet folded."""

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, text
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

    late: the lateness choice of the backfill that brought it (see `Backfill`); None: the metric's.
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
    late: Mapped[str | None] = mapped_column(Text)


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


class Backfill(Base):
    """A file of past usage: it is received in parts, which a job then reads into the ledger.

    state:  `receiving`, then `waiting` for a job, `running`, `done`; `incomplete`: the connection
            broke before the file's end; `failed`: the file as a whole cannot be read (`error`).
    late:   `count`: its events count however old they are, as long as their period is not closed;
            `set_aside`: what is older than its metric's lateness awaits approval.
    header: the first line of a CSV.  rest: bytes of a line that goes on in the next part.
    lines_done: lines read to their end; with `parts_done` and `rest`, where a job goes on.
    """

    __tablename__ = "backfills"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "backfill_id"),
        Index("ix_backfills_created_at", "tenant_id", "created_at"),
        CheckConstraint("format IN ('csv', 'ndjson')", name="format"),
        CheckConstraint("late IN ('count', 'set_aside')", name="late"),
        CheckConstraint(
            "state IN ('receiving', 'waiting', 'running', 'done', 'failed', 'incomplete')",
            name="state",
        ),
    )

    tenant_id: Mapped[Key]
    backfill_id: Mapped[Key]
    format: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    late: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    file_name: Mapped[str | None] = mapped_column(Text)
    bytes_received: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    parts_received: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bytes_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    parts_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lines_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    accepted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    duplicates: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    failed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    header: Mapped[bytes | None]
    rest: Mapped[bytes | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Instant]
    touched_at: Mapped[Instant]
    finished_at: Mapped[Instant | None]


class BackfillPart(Base):
    """A stretch of an upload's bytes, kept until it has been read into the ledger."""

    __tablename__ = "backfill_parts"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "backfill_id", "number"),)

    tenant_id: Mapped[Key]
    backfill_id: Mapped[Key]
    number: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[bytes]


class BackfillError(Base):
    """A line that is not in the ledger, and why; line 1 is the file's first, header or not."""

    __tablename__ = "backfill_errors"
    __table_args__ = (PrimaryKeyConstraint("tenant_id", "backfill_id", "line"),)

    tenant_id: Mapped[Key]
    backfill_id: Mapped[Key]
    line: Mapped[int] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)
    excerpt: Mapped[str] = mapped_column(Text)


class Erasure(Base):
    """Personal `meta` that was erased from the ledger: whose, how much, why and by whom.

    Of a customer or of one event. The database lets nothing be erased without such a row.
    """

    __tablename__ = "erasures"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "erasure_id"),
        CheckConstraint("(customer_ref IS NULL) <> (idempotency_key IS NULL)", name="of_one"),
    )

    tenant_id: Mapped[Key]
    erasure_id: Mapped[Key]
    customer_ref: Mapped[Key | None]
    idempotency_key: Mapped[Key | None]
    events: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    erased_at: Mapped[Instant]
