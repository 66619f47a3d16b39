"""The spine: ledger, counters, catalogue, tenancy"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("key_id", sa.Text(collation="C"), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_key_id"), "api_keys", ["key_id"], unique=False)
    op.create_table(
        "console_links",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "token_sha256", name=op.f("pk_console_links")),
    )
    op.create_index(
        op.f("ix_console_links_token_sha256"), "console_links", ["token_sha256"], unique=False
    )
    op.create_table(
        "console_sessions",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "token_sha256", name=op.f("pk_console_sessions")),
    )
    op.create_index(
        op.f("ix_console_sessions_token_sha256"), "console_sessions", ["token_sha256"], unique=False
    )
    op.create_table(
        "counters",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unique_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reaggregations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("folded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("sum_value", sa.Numeric(), nullable=False),
        sa.Column("max_value", sa.Numeric(), nullable=False),
        sa.Column("last_value", sa.Numeric(), nullable=False),
        sa.Column("last_occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_key", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "customer_ref", "metric", "period_start", name=op.f("pk_counters")
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "customers",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("stripe_customer_id", sa.Text(), nullable=True),
        sa.Column("stripe_account", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "customer_ref", name=op.f("pk_customers")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "idempotency_key", name=op.f("pk_dead_letters")),
    )
    op.create_table(
        "events",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("resource_id", sa.Text(collation="C"), nullable=True),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("meta", sa.JSON(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "quantity >= 0 AND quantity < 1e20", name=op.f("ck_events_quantity_in_range")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "idempotency_key", name=op.f("pk_events")),
    )
    op.create_index(
        "ix_events_occurred_at_brin",
        "events",
        ["occurred_at"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_index(
        op.f("ix_events_tenant_id_recorded_at"),
        "events",
        ["tenant_id", "recorded_at"],
        unique=False,
    )
    op.create_table(
        "keyed_requests",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("operation", sa.Text(collation="C"), nullable=False),
        sa.Column("request_key", sa.Text(collation="C"), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "operation", "request_key", name=op.f("pk_keyed_requests")
        ),
    )
    op.create_index(
        op.f("ix_keyed_requests_recorded_at"), "keyed_requests", ["recorded_at"], unique=False
    )
    op.create_table(
        "metrics",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("aggregation", sa.Text(), server_default="sum", nullable=False),
        sa.Column(
            "lateness_seconds", sa.Integer(), server_default=sa.text("172800"), nullable=False
        ),
        sa.Column("late_policy", sa.Text(), server_default="period", nullable=False),
        sa.Column("unique_enabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("unique_filled_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("carry_over", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "aggregation IN ('sum', 'count', 'max', 'last', 'unique')",
            name=op.f("ck_metrics_aggregation"),
        ),
        sa.CheckConstraint("late_policy IN ('period', 'age')", name=op.f("ck_metrics_late_policy")),
        sa.CheckConstraint("lateness_seconds >= 0", name=op.f("ck_metrics_lateness_seconds")),
        sa.PrimaryKeyConstraint("tenant_id", "metric", name=op.f("pk_metrics")),
    )
    op.create_table(
        "periods",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("schedule", sa.Text(collation="C"), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "closed_at IS NULL OR closed_at >= closes_at", name=op.f("ck_periods_closed_in_time")
        ),
        sa.CheckConstraint("start_at < end_at", name=op.f("ck_periods_span")),
        sa.PrimaryKeyConstraint("tenant_id", "schedule", "start_at", name=op.f("pk_periods")),
    )
    op.create_table(
        "segments",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("segment_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("sum_value", sa.Numeric(), nullable=False),
        sa.Column("max_value", sa.Numeric(), nullable=False),
        sa.Column("last_value", sa.Numeric(), nullable=False),
        sa.Column("last_occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_key", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "customer_ref", "metric", "segment_start", name=op.f("pk_segments")
        ),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "set_aside",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "idempotency_key", name=op.f("pk_set_aside")),
    )
    op.create_index(
        op.f("ix_set_aside_tenant_id_customer_ref_metric_period_start"),
        "set_aside",
        ["tenant_id", "customer_ref", "metric", "period_start"],
        unique=False,
    )
    op.create_table(
        "tenant_locks",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("folded", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("folds", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("fold_seconds", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("set_aside", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("dead_letters", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reaggregations", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenant_locks")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('live', 'test')", name=op.f("ck_tenants_mode")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "unfolded",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "recorded_at", "idempotency_key", name=op.f("pk_unfolded")
        ),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "10000",
        },
    )
    op.create_table(
        "unique_members",
        sa.Column("tenant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("customer_ref", sa.Text(collation="C"), nullable=False),
        sa.Column("metric", sa.Text(collation="C"), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resource_key", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "customer_ref",
            "metric",
            "period_start",
            "resource_key",
            name=op.f("pk_unique_members"),
        ),
    )
