"""Stripe: its objects as we know them, billing periods, and every push ever made to it"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "account_bindings",
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_bindings")),
    )
    op.create_table(
        "billing_periods",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("invoice_id", sa.Text(collation="C"), nullable=True),
        sa.Column("final_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "closed_at IS NULL OR closed_at >= closes_at",
            name=op.f("ck_billing_periods_closed_in_time"),
        ),
        sa.CheckConstraint("start_at < end_at", name=op.f("ck_billing_periods_span")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "customer_ref", "metric", "start_at", name=op.f("pk_billing_periods")
        ),
    )
    op.create_index(
        op.f("ix_billing_periods_tenant_id_end_at"),
        "billing_periods",
        ["tenant_id", "end_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_billing_periods_tenant_id_item_id"),
        "billing_periods",
        ["tenant_id", "item_id"],
        unique=False,
    )
    op.create_table(
        "held",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("since_segment", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "customer_ref", "metric", name=op.f("pk_held")
        ),
    )
    op.create_index(
        op.f("ix_held_tenant_id_retry_at"), "held", ["tenant_id", "retry_at"], unique=False
    )
    op.create_table(
        "push_streams",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stream_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("event_name", sa.Text(collation="C"), nullable=False),
        sa.Column("stripe_customer", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blocked_kind", sa.Text(), nullable=True),
        sa.Column("blocked_reason", sa.Text(), nullable=True),
        sa.Column("blocked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_push_streams_mode")),
        sa.PrimaryKeyConstraint("tenant_id", "stream_id", name=op.f("pk_push_streams")),
        sa.UniqueConstraint(
            "tenant_id",
            "mode",
            "account_id",
            "event_name",
            "stripe_customer",
            name=op.f("uq_push_streams_tenant_id_mode_account_id_event_name_stripe_customer"),
        ),
    )
    op.create_index(
        "ix_push_streams_blocked",
        "push_streams",
        ["tenant_id", "blocked_at"],
        unique=False,
        postgresql_where=sa.text("blocked_kind IS NOT NULL"),
    )
    op.create_table(
        "pushes",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("identifier", sa.Text(collation="C"), nullable=False),
        sa.Column("stream_id", sa.Text(collation="C"), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("segment_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("stamped_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("outcomes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("answered_failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("is_uncertain", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_missing", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("basis IN ('hour', 'period', 'direct')", name=op.f("ck_pushes_basis")),
        sa.CheckConstraint(
            "state IN ('claimed', 'ambiguous', 'settled', 'confirmed', 'suspect', 'rejected',"
            " 'adopted')",
            name=op.f("ck_pushes_state"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "identifier", name=op.f("pk_pushes")),
    )
    op.create_index(
        "ix_pushes_open",
        "pushes",
        ["tenant_id", "lease_until"],
        unique=False,
        postgresql_where=sa.text("state IN ('claimed', 'ambiguous', 'suspect')"),
    )
    op.create_index(
        op.f("ix_pushes_tenant_id_stream_id_segment_start"),
        "pushes",
        ["tenant_id", "stream_id", "segment_start"],
        unique=False,
    )
    op.create_index(
        "ix_pushes_unconfirmed",
        "pushes",
        ["tenant_id", "settled_at"],
        unique=False,
        postgresql_where=sa.text("state = 'settled'"),
    )
    op.create_index(
        "uq_pushes_one_open_per_stream",
        "pushes",
        ["tenant_id", "stream_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('claimed', 'ambiguous')"),
    )
    op.create_index(
        "ix_pushes_drifting",
        "pushes",
        ["tenant_id", "stream_id"],
        unique=False,
        postgresql_where=sa.text("state = 'settled' AND error IS NOT NULL"),
    )
    op.create_table(
        "push_totals",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("outcome", sa.Text(collation="C"), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_push_totals_mode")),
        sa.PrimaryKeyConstraint("tenant_id", "mode", "outcome", name=op.f("pk_push_totals")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "stream_sources",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stream_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "stream_id", "customer_ref", "metric", name=op.f("pk_stream_sources")
        ),
    )
    op.create_index(
        op.f("ix_stream_sources_tenant_id_customer_ref_metric"),
        "stream_sources",
        ["tenant_id", "customer_ref", "metric"],
        unique=False,
    )
    op.create_table(
        "stripe_connections",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("halted_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("halted_kind", sa.Text(), nullable=True),
        sa.Column("halted_reason", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_ok_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_event", sa.Text(), nullable=True),
        sa.Column("events_read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_stripe_connections_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", name=op.f("pk_stripe_connections")
        ),
    )
    op.create_table(
        "stripe_customers",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stripe_customer", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_stripe_customers_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", "stripe_customer", name=op.f("pk_stripe_customers")
        ),
    )
    op.create_index(
        op.f("ix_stripe_customers_tenant_id_mode_customer_ref"),
        "stripe_customers",
        ["tenant_id", "mode", "customer_ref"],
        unique=False,
    )
    op.create_table(
        "stripe_invoices",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("invoice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stripe_customer", sa.Text(collation="C"), nullable=False),
        sa.Column("subscription_id", sa.Text(collation="C"), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finalizes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finalized_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_stripe_invoices_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", "invoice_id", name=op.f("pk_stripe_invoices")
        ),
    )
    op.create_index(
        op.f("ix_stripe_invoices_tenant_id_subscription_id"),
        "stripe_invoices",
        ["tenant_id", "subscription_id"],
        unique=False,
    )
    op.create_table(
        "stripe_meters",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("meter_id", sa.Text(collation="C"), nullable=False),
        sa.Column("event_name", sa.Text(collation="C"), nullable=False),
        sa.Column("formula", sa.Text(), nullable=False),
        sa.Column("event_time_window", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_stripe_meters_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", "meter_id", name=op.f("pk_stripe_meters")
        ),
    )
    op.create_index(
        op.f("ix_stripe_meters_tenant_id_mode_account_id_event_name"),
        "stripe_meters",
        ["tenant_id", "mode", "account_id", "event_name"],
        unique=False,
    )
    op.create_table(
        "stripe_prices",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("price_id", sa.Text(collation="C"), nullable=False),
        sa.Column("meter_id", sa.Text(collation="C"), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("unreadable", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_stripe_prices_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", "price_id", name=op.f("pk_stripe_prices")
        ),
    )
    op.create_table(
        "subscription_items",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("item_id", sa.Text(collation="C"), nullable=False),
        sa.Column("subscription_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stripe_customer", sa.Text(collation="C"), nullable=False),
        sa.Column("price_id", sa.Text(collation="C"), nullable=False),
        sa.Column("meter_id", sa.Text(collation="C"), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("recurring_interval", sa.Text(), nullable=False),
        sa.Column("interval_count", sa.Integer(), nullable=False),
        sa.Column("anchor_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("current_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("current_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("trial_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("is_paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "past_prices", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False
        ),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_subscription_items_mode")),
        sa.CheckConstraint("current_start < current_end", name=op.f("ck_subscription_items_span")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "account_id", "item_id", name=op.f("pk_subscription_items")
        ),
    )
    op.create_index(
        op.f("ix_subscription_items_tenant_id_mode_account_id_stripe_customer"),
        "subscription_items",
        ["tenant_id", "mode", "account_id", "stripe_customer"],
        unique=False,
    )
    op.create_index(
        op.f("ix_subscription_items_tenant_id_subscription_id"),
        "subscription_items",
        ["tenant_id", "subscription_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_subscription_items_tenant_id_item_id"),
        "subscription_items",
        ["tenant_id", "item_id"],
        unique=False,
    )
    op.create_table(
        "unsendable",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("stream_id", sa.Text(collation="C"), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("segment_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("basis IN ('hour', 'period')", name=op.f("ck_unsendable_basis")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "stream_id", "basis", "segment_start", name=op.f("pk_unsendable")
        ),
    )
    op.create_table(
        "unsent",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("segment_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "customer_ref", "metric", "segment_start", name=op.f("pk_unsent")
        ),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "10000",
        },
    )
    op.create_index(
        op.f("ix_unsent_tenant_id_due_at"), "unsent", ["tenant_id", "due_at"], unique=False
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("mode", sa.Text(collation="C"), nullable=False),
        sa.Column("event_id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(collation="C"), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(due_at IS NULL) = (handled_at IS NOT NULL)",
            name=op.f("ck_webhook_deliveries_due_or_handled"),
        ),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_webhook_deliveries_mode")),
        sa.PrimaryKeyConstraint(
            "tenant_id", "mode", "event_id", name=op.f("pk_webhook_deliveries")
        ),
    )
    op.create_index(
        op.f("ix_webhook_deliveries_received_at"),
        "webhook_deliveries",
        ["received_at"],
        unique=False,
    )
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["tenant_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.add_column("customers", sa.Column("shadow_stripe_customer_id", sa.Text(), nullable=True))
    op.create_index(
        op.f("ix_customers_tenant_id_shadow_stripe_customer_id"),
        "customers",
        ["tenant_id", "shadow_stripe_customer_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_customers_tenant_id_stripe_customer_id"),
        "customers",
        ["tenant_id", "stripe_customer_id"],
        unique=False,
    )
    op.add_column("mappings", sa.Column("opening_total", sa.Numeric(), nullable=True))
    op.add_column("mappings", sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True))
