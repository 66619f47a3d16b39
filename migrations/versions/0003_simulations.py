"""Saved simulations, back-tests and their results"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "simulations",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('comparison', 'invoice')", name=op.f("ck_simulations_kind")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_simulations")),
    )
    op.create_table(
        "backtests",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("question", sa.JSON(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("cursor", sa.Text(collation="C"), server_default="", nullable=False),
        sa.Column("customers_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("customers_total", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')",
            name=op.f("ck_backtests_state"),
        ),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (state IN ('queued', 'running'))",
            name=op.f("ck_backtests_ended_with_state"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_backtests")),
    )
    op.create_index(
        "ix_backtests_unended",
        "backtests",
        ["tenant_id", "id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "backtest_results",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("backtest_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("periods", sa.Integer(), nullable=False),
        sa.Column("before", sa.Numeric(), nullable=False),
        sa.Column("after", sa.Numeric(), nullable=False),
        sa.Column("change", sa.Numeric(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "backtest_id", "customer_ref", name=op.f("pk_backtest_results")
        ),
    )
    op.create_index(
        op.f("ix_backtest_results_tenant_id_backtest_id_change_customer_ref"),
        "backtest_results",
        ["tenant_id", "backtest_id", "change", "customer_ref"],
        unique=False,
    )
