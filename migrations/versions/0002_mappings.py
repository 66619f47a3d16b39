"""Mappings: what a metric costs, and where it is billed"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mappings",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mapping_id", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("aggregation", sa.Text(), nullable=True),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=True),
        sa.Column("stripe_account", sa.Text(), nullable=True),
        sa.Column("price_id", sa.Text(), nullable=True),
        sa.Column("meter_id", sa.Text(), nullable=True),
        sa.Column("meter_event_name", sa.Text(), nullable=True),
        sa.Column("subscription_item_id", sa.Text(collation="C"), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("price", sa.JSON(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_shadow", sa.Boolean(), nullable=False),
        sa.Column("shadow_stripe_account", sa.Text(), nullable=True),
        sa.Column("shadow_price_id", sa.Text(), nullable=True),
        sa.Column("shadow_subscription_item_id", sa.Text(collation="C"), nullable=True),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("effective_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "aggregation IN ('sum', 'count', 'max', 'last', 'unique')",
            name=op.f("ck_mappings_aggregation"),
        ),
        sa.CheckConstraint("effective_from <= effective_until", name=op.f("ck_mappings_span")),
        sa.PrimaryKeyConstraint("tenant_id", "mapping_id", name=op.f("pk_mappings")),
    )
    op.create_index(
        op.f("ix_mappings_tenant_id_metric_effective_from"),
        "mappings",
        ["tenant_id", "metric", "effective_from"],
        unique=False,
    )
