"""Late, wrong and missing: adjustments, voids, what totals become by them, backfills, erasure;
and a ledger that the database itself keeps from being changed"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _key(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _at(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(), nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    _adjustments()
    _voids()
    _corrected()
    _backfills()
    _closing()
    _append_only()
    # A replay reads all customers' hours of a stretch, and the key begins with the customer.
    op.create_index(
        "ix_segments_segment_start_brin",
        "segments",
        ["segment_start"],
        postgresql_using="brin",
    )


def _closing() -> None:
    """What closes next is found without reading what is closed; a tenant says how late is late."""
    op.create_index(
        "ix_billing_periods_closing",
        "billing_periods",
        ["tenant_id", "closes_at"],
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.add_column(
        "tenants",
        sa.Column("lateness_seconds", sa.Integer(), server_default="172800", nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_tenants_lateness_seconds"), "tenants", "lateness_seconds >= 0"
    )
    op.add_column("tenant_locks", _count("periods_closed"))
    op.add_column(
        "unsendable",
        sa.Column("is_decided", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def _adjustments() -> None:
    op.create_table(
        "adjustments",
        _key("tenant_id"),
        _key("adjustment_id"),
        _key("customer_ref"),
        _key("metric"),
        _at("period_start"),
        _text("kind"),
        _number("delta", nullable=True),
        _text("reason"),
        _text("status"),
        _text("disposition", nullable=True),
        _text("note", nullable=True),
        _text("origin"),
        _at("arrived_on", nullable=True),
        _at("segment_start", nullable=True),
        _number("carried", nullable=True),
        _at("created_at"),
        _text("created_by"),
        _at("decided_at", nullable=True),
        _text("decided_by", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "adjustment_id", name=op.f("pk_adjustments")),
        sa.CheckConstraint("kind IN ('events', 'delta')", name=op.f("ck_adjustments_kind")),
        sa.CheckConstraint(
            "(kind = 'delta') = (delta IS NOT NULL)", name=op.f("ck_adjustments_delta_of_delta")
        ),
        sa.CheckConstraint(
            "reason IN ('backfill', 'correction', 'promo', 'credit', 'manual', 'late')",
            name=op.f("ck_adjustments_reason"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'declined', 'reverted')",
            name=op.f("ck_adjustments_status"),
        ),
        sa.CheckConstraint(
            "disposition IN ('apply', 'carry_forward', 'invoice_item', 'credit_note', 'write_off')",
            name=op.f("ck_adjustments_disposition"),
        ),
        sa.CheckConstraint(
            "(status IN ('approved', 'reverted')) = (disposition IS NOT NULL)",
            name=op.f("ck_adjustments_decided"),
        ),
        sa.CheckConstraint(
            "origin IN ('manual', 'set_aside', 'unbilled')", name=op.f("ck_adjustments_origin")
        ),
    )
    op.create_index(
        op.f("ix_adjustments_tenant_id_customer_ref_metric_period_start"),
        "adjustments",
        ["tenant_id", "customer_ref", "metric", "period_start"],
    )
    op.create_index(
        op.f("ix_adjustments_status"), "adjustments", ["tenant_id", "status", "created_at"]
    )
    op.create_table(
        "adjustment_steps",
        _key("tenant_id"),
        _key("adjustment_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("action"),
        _text("actor"),
        _text("note", nullable=True),
        _at("taken_at"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "adjustment_id", "number", name=op.f("pk_adjustment_steps")
        ),
    )
    op.add_column("set_aside", _key("adjustment_id", nullable=True))
    op.create_index(op.f("ix_set_aside_adjustment_id"), "set_aside", ["tenant_id", "adjustment_id"])


def _voids() -> None:
    op.create_table(
        "voids",
        _key("tenant_id"),
        _key("idempotency_key"),
        _key("customer_ref"),
        _key("metric"),
        _at("occurred_at"),
        _text("reason"),
        _text("actor"),
        _at("voided_at"),
        sa.PrimaryKeyConstraint("tenant_id", "idempotency_key", name=op.f("pk_voids")),
    )
    op.create_index(
        op.f("ix_voids_tenant_id_customer_ref_metric_occurred_at"),
        "voids",
        ["tenant_id", "customer_ref", "metric", "occurred_at"],
    )
    op.create_table(
        "void_steps",
        _key("tenant_id"),
        _key("idempotency_key"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("action"),
        _text("reason"),
        _text("actor"),
        _at("taken_at"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "idempotency_key", "number", name=op.f("pk_void_steps")
        ),
        sa.CheckConstraint("action IN ('void', 'restore')", name=op.f("ck_void_steps_action")),
    )


def _aggregates() -> list[sa.Column[object]]:
    return [
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        _number("sum_value"),
        _number("max_value", nullable=True),
        _number("last_value", nullable=True),
        _at("last_occurred_at", nullable=True),
        _key("last_key", nullable=True),
        sa.Column("delta", sa.Numeric(), server_default=sa.text("0"), nullable=False),
    ]


def _corrected() -> None:
    op.create_table(
        "corrected_counters",
        _key("tenant_id"),
        _key("customer_ref"),
        _key("metric"),
        _at("period_start"),
        _at("period_end"),
        *_aggregates(),
        _at("corrected_at"),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "customer_ref",
            "metric",
            "period_start",
            name=op.f("pk_corrected_counters"),
        ),
    )
    op.create_table(
        "corrected_segments",
        _key("tenant_id"),
        _key("customer_ref"),
        _key("metric"),
        _at("segment_start"),
        *_aggregates(),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "customer_ref",
            "metric",
            "segment_start",
            name=op.f("pk_corrected_segments"),
        ),
    )
    op.create_table(
        "corrected_members",
        _key("tenant_id"),
        _key("customer_ref"),
        _key("metric"),
        _at("period_start"),
        _key("resource_key"),
        sa.Column("is_counted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "customer_ref",
            "metric",
            "period_start",
            "resource_key",
            name=op.f("pk_corrected_members"),
        ),
    )
    op.execute(_USED_SEGMENTS)
    op.execute(_USED_COUNTERS)


def _backfills() -> None:
    op.add_column("unfolded", _text("late", nullable=True))
    op.add_column("dead_letters", _text("late", nullable=True))
    op.create_table(
        "backfills",
        _key("tenant_id"),
        _key("backfill_id"),
        _text("format"),
        _text("state"),
        _text("late"),
        _text("reason"),
        _text("actor"),
        _text("file_name", nullable=True),
        _count("bytes_received"),
        _count("parts_received"),
        _count("bytes_done"),
        _count("parts_done"),
        _count("lines_done"),
        _count("accepted"),
        _count("duplicates"),
        _count("failed"),
        sa.Column("header", sa.LargeBinary(), nullable=True),
        sa.Column("rest", sa.LargeBinary(), nullable=True),
        _text("error", nullable=True),
        _at("created_at"),
        _at("touched_at"),
        _at("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "backfill_id", name=op.f("pk_backfills")),
        sa.CheckConstraint("format IN ('csv', 'ndjson')", name=op.f("ck_backfills_format")),
        sa.CheckConstraint("late IN ('count', 'set_aside')", name=op.f("ck_backfills_late")),
        sa.CheckConstraint(
            "state IN ('receiving', 'waiting', 'running', 'done', 'failed', 'incomplete')",
            name=op.f("ck_backfills_state"),
        ),
    )
    op.create_index(op.f("ix_backfills_created_at"), "backfills", ["tenant_id", "created_at"])
    op.create_table(
        "backfill_parts",
        _key("tenant_id"),
        _key("backfill_id"),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "backfill_id", "number", name=op.f("pk_backfill_parts")
        ),
    )
    # Compressed files, or text that compresses in no time worth the while: keep what came.
    op.execute("ALTER TABLE backfill_parts ALTER COLUMN body SET STORAGE EXTERNAL")
    op.create_table(
        "backfill_errors",
        _key("tenant_id"),
        _key("backfill_id"),
        sa.Column("line", sa.BigInteger(), nullable=False),
        _text("message"),
        _text("excerpt"),
        sa.PrimaryKeyConstraint(
            "tenant_id", "backfill_id", "line", name=op.f("pk_backfill_errors")
        ),
    )


def _append_only() -> None:
    """The ledger changes by one door only: `erase_meta`, which writes down what it did."""
    op.create_table(
        "erasures",
        _key("tenant_id"),
        _key("erasure_id"),
        _key("customer_ref", nullable=True),
        _key("idempotency_key", nullable=True),
        _count("events"),
        _text("reason"),
        _text("actor"),
        _at("erased_at"),
        sa.PrimaryKeyConstraint("tenant_id", "erasure_id", name=op.f("pk_erasures")),
        sa.CheckConstraint(
            "(customer_ref IS NULL) <> (idempotency_key IS NULL)", name=op.f("ck_erasures_of_one")
        ),
    )
    op.execute(_REFUSE)
    op.execute(_KEEP_LOG)
    op.execute(_ERASE)
    op.execute(
        "REVOKE ALL ON FUNCTION erase_meta(text, text, text, text, text, text, timestamptz, text,"
        " integer) FROM PUBLIC"
    )
    op.execute(
        "CREATE TRIGGER events_are_for_ever BEFORE UPDATE OR DELETE ON events"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_ledger()"
    )
    op.execute(
        "CREATE TRIGGER events_are_kept BEFORE TRUNCATE ON events"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger()"
    )
    op.execute(
        "CREATE TRIGGER erasures_are_for_ever BEFORE UPDATE OR DELETE ON erasures"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change_of_erasures()"
    )
    op.execute(
        "CREATE TRIGGER erasures_are_kept BEFORE TRUNCATE ON erasures"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_erasures()"
    )


# What counts: where somebody decided something the corrected row, else the counted one.
_USED_SEGMENTS = """
CREATE VIEW used_segments AS
SELECT s.tenant_id, s.customer_ref, s.metric, s.segment_start, s.event_count, s.sum_value,
       s.max_value, s.last_value, s.last_occurred_at, s.last_key, 0::numeric AS delta
FROM segments s
WHERE NOT EXISTS (
    SELECT 1 FROM corrected_segments c
    WHERE c.tenant_id = s.tenant_id AND c.customer_ref = s.customer_ref
      AND c.metric = s.metric AND c.segment_start = s.segment_start)
UNION ALL
SELECT tenant_id, customer_ref, metric, segment_start, event_count, sum_value, max_value,
       last_value, last_occurred_at, last_key, delta
FROM corrected_segments
"""
_USED_COUNTERS = """
CREATE VIEW used_counters AS
SELECT c.tenant_id, c.customer_ref, c.metric, c.period_start, c.period_end, c.event_count,
       c.sum_value, c.max_value, c.last_value, c.last_occurred_at, c.last_key, c.unique_count,
       0::numeric AS delta, c.watermark, c.folded_at, false AS is_corrected
FROM counters c
WHERE NOT EXISTS (
    SELECT 1 FROM corrected_counters k
    WHERE k.tenant_id = c.tenant_id AND k.customer_ref = c.customer_ref
      AND k.metric = c.metric AND k.period_start = c.period_start)
UNION ALL
SELECT k.tenant_id, k.customer_ref, k.metric, k.period_start, k.period_end, k.event_count,
       k.sum_value, k.max_value, k.last_value, k.last_occurred_at, k.last_key,
       coalesce(c.unique_count, 0) + (
           SELECT count(*) FILTER (WHERE m.is_counted) - count(*) FILTER (WHERE NOT m.is_counted)
           FROM corrected_members m
           WHERE m.tenant_id = k.tenant_id AND m.customer_ref = k.customer_ref
             AND m.metric = k.metric AND m.period_start = k.period_start),
       k.delta, c.watermark, c.folded_at, true
FROM corrected_counters k
LEFT JOIN counters c ON c.tenant_id = k.tenant_id AND c.customer_ref = k.customer_ref
    AND c.metric = k.metric AND c.period_start = k.period_start
"""

# Whatever is asked, and by whom: only meta may go, and only of whom a log row of this very
# transaction names. `*=` compares rows byte by byte, columns of later versions too.
_REFUSE = """
CREATE FUNCTION refuse_change_of_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.meta IS NULL AND EXISTS (
            SELECT 1 FROM erasures
            WHERE tenant_id = OLD.tenant_id
              AND erasure_id = current_setting('stripemeter.erasure', true)
              AND xmin = pg_current_xact_id()::xid
              AND coalesce(customer_ref = OLD.customer_ref, true)
              AND coalesce(idempotency_key = OLD.idempotency_key, true)
        ) THEN
            OLD.meta := NULL;
            IF NEW *= OLD THEN
                RETURN NEW;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only: % of events is refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'void an event or make an adjustment; erase_meta() erases personal meta';
END
$$
"""

_KEEP_LOG = """
CREATE FUNCTION refuse_change_of_erasures() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.events >= OLD.events THEN
            OLD.events := NEW.events;
            IF NEW *= OLD THEN
                RETURN NEW;
            END IF;
        END IF;
    END IF;
    RAISE EXCEPTION 'the log of erasures is append-only: % of erasures is refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$
"""

# In stretches of the caller's: of at most `most` events that follow a key it erases those that are
# meant, and says how many these were and where it ended; no key: there are no more.
_ERASE = """
CREATE FUNCTION erase_meta(of_tenant text, of_customer text, of_event text, as_erasure text,
                           for_reason text, by_actor text, at_instant timestamptz,
                           after_key text, most integer,
                           OUT erased bigint, OUT last_key text)
LANGUAGE plpgsql AS $$
DECLARE
    chosen text[];
BEGIN
    IF (of_customer IS NULL) = (of_event IS NULL) THEN
        RAISE EXCEPTION 'name a customer, or an event, whose meta is to be erased'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF of_event IS NOT NULL THEN
        SELECT array_agg(idempotency_key) INTO chosen FROM (
            SELECT idempotency_key, meta FROM events
            WHERE tenant_id = of_tenant AND idempotency_key >= of_event
              AND idempotency_key <= of_event
            ORDER BY idempotency_key LIMIT 1
        ) AS one WHERE meta IS NOT NULL;
    ELSE
        SELECT array_agg(idempotency_key) FILTER (WHERE customer_ref = of_customer AND has_meta),
               CASE WHEN count(*) >= most THEN max(idempotency_key) END
        INTO chosen, last_key FROM (
            SELECT idempotency_key, customer_ref, meta IS NOT NULL AS has_meta FROM events
            WHERE tenant_id = of_tenant AND idempotency_key > after_key
            ORDER BY idempotency_key LIMIT most
        ) AS stretch;
    END IF;
    erased := coalesce(cardinality(chosen), 0);
    INSERT INTO erasures AS e (tenant_id, erasure_id, customer_ref, idempotency_key, events,
                               reason, actor, erased_at)
    VALUES (of_tenant, as_erasure, of_customer, of_event, erased, for_reason, by_actor, at_instant)
    ON CONFLICT (tenant_id, erasure_id) DO UPDATE SET events = e.events + excluded.events;
    PERFORM set_config('stripemeter.erasure', as_erasure, true);
    UPDATE events SET meta = NULL
    WHERE tenant_id = of_tenant AND idempotency_key = ANY (chosen);
    PERFORM set_config('stripemeter.erasure', '', true);
END
$$
"""
