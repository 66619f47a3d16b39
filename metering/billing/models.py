"""What is kept of questions about prices: saved scenarios, and back-tests with their results."""

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from metering.database import Base, Instant, JsonText, Key, Quantity


class Simulation(Base):
    """A saved scenario: prices side by side, or one invoice's input. Nothing is billed from it.

    document: the JSON text that was saved, digits as they were sent.
    """

    __tablename__ = "simulations"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        CheckConstraint("kind IN ('comparison', 'invoice')", name="kind"),
    )

    tenant_id: Mapped[Key]
    id: Mapped[Key]
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(JsonText)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]


class Backtest(Base):
    """A question about prices on real usage, how far its answer has come, and the answer.

    question:  what was asked, with prices and aggregations as they were then (JSON).
    cursor:    the last customer that is done; the next chunk goes on behind it.
    attempts:  times a job has begun since the last chunk was done.
    customers_total: as counted when it began; None until then.
    summary:   of the customers that are done (JSON).
    """

    __tablename__ = "backtests"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "id"),
        CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state"
        ),
        CheckConstraint(
            "(ended_at IS NULL) = (state IN ('queued', 'running'))", name="ended_with_state"
        ),
        Index("ix_backtests_unended", "tenant_id", "id", postgresql_where=text("ended_at IS NULL")),
    )

    tenant_id: Mapped[Key]
    id: Mapped[Key]
    name: Mapped[str] = mapped_column(Text)
    question: Mapped[str] = mapped_column(JsonText)
    currency: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="queued")
    cursor: Mapped[Key] = mapped_column(server_default="")
    customers_done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    customers_total: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    summary: Mapped[str | None] = mapped_column(JsonText)
    error: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]
    ended_at: Mapped[Instant | None]


class BacktestResult(Base):
    """One customer under both prices, in minor units.

    Written by the transaction that moves the cursor past the customer: never twice, never not.
    change: after - before, kept for the index that finds the most affected.
    """

    __tablename__ = "backtest_results"
    __table_args__ = (
        PrimaryKeyConstraint("tenant_id", "backtest_id", "customer_ref"),
        Index(None, "tenant_id", "backtest_id", "change", "customer_ref"),
    )

    tenant_id: Mapped[Key]
    backtest_id: Mapped[Key]
    customer_ref: Mapped[Key]
    periods: Mapped[int]
    before: Mapped[Quantity]
    after: Mapped[Quantity]
    change: Mapped[Quantity]
