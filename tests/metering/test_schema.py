"""The tenant wall in the schema and in the statements, and migrations from what has landed."""

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import UniqueConstraint, create_engine, inspect, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.database import Base
from tests.support import alembic_config, fold_all, migrate, scalar
from webapp import extensions

# What tells the tenant of a Stripe account cannot be found by the tenant.
INSTALL_WIDE = {"account_bindings"}
TENANT_TABLES = [
    table
    for table in Base.metadata.sorted_tables
    if extensions.MODEL_MODULES and table.name not in INSTALL_WIDE
]


def test_every_table_begins_its_keys_with_the_tenant() -> None:
    assert len(TENANT_TABLES) >= 15
    for table in TENANT_TABLES:
        keys = [list(table.primary_key.columns)]
        keys += [
            list(constraint.columns)
            for constraint in table.constraints
            if isinstance(constraint, UniqueConstraint)
        ]
        keys += [list(index.columns) for index in table.indexes if index.unique]
        for key in keys:
            assert key, f"{table.name} has no primary key"
            assert key[0].name == "tenant_id", (
                f"a key of {table.name} does not begin with tenant_id"
            )


def test_every_statement_names_its_tenant(repository: Path) -> None:
    """Every SQL text that touches a table filters on the tenant, but in `installation`."""
    names = "|".join([*(table.name for table in TENANT_TABLES), "used_counters", "used_segments"])
    touches = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:{names})\b")
    checked = 0
    for path, statement in _statements(repository / "metering"):
        if path.name == "installation.py" or not touches.search(statement):
            continue
        checked += 1
        assert "tenant_id" in statement, f"{path.name}: {statement[:80]}"
    assert checked >= 10


def _statements(room: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(room.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (v.value for v in node.values if isinstance(v, ast.Constant))
                yield path, "".join(str(part) for part in parts)


def test_only_one_place_commits(repository: Path) -> None:
    found = [
        path.relative_to(repository).as_posix()
        for room in ("metering", "webapp", "jobs")
        for path in (repository / room).rglob("*.py")
        if ".commit()" in path.read_text() and path.name != "database.py"
    ]
    assert found == []


def test_only_the_clock_reads_the_wall(repository: Path) -> None:
    reading = re.compile(r"datetime\.now\(|time\.time\(|utcnow\(|now\(\)|clock_timestamp")
    found = [
        path.relative_to(repository).as_posix()
        for room in ("pricing", "metering", "webapp", "jobs")
        for path in (repository / room).rglob("*.py")
        if reading.search(path.read_text()) and path.name != "clock.py"
    ]
    assert found == []


def test_migrations_build_exactly_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_database_with_data_is_carried_from_the_previous_head(postgres_url: str) -> None:
    """Every row of every table is what it was, and work goes on where it was left."""
    script = ScriptDirectory.from_config(alembic_config(postgres_url))
    head = script.get_current_head()
    assert head is not None
    previous = script.get_revision(head).down_revision
    assert previous == "0005", "the sample below is of another schema"
    name = "from_previous_head"
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = server.url.set(database=name).render_as_string(hide_password=False)
    carried = create_engine(url)
    migrate(url, previous)
    with carried.begin() as connection:
        connection.exec_driver_sql(_SAMPLE)
    before = _rows(carried)
    assert [table for table, rows in before.items() if not rows] == []
    migrate(url)
    migrate(url)  # a second release finds nothing to do
    after = _rows(carried)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert new | old == new, table
    with Session(carried) as session:
        version = scalar(session, "SELECT version_num FROM alembic_version")
        assert fold_all(session, "acme") == 1
        assert scalar(session, "SELECT sum_value FROM counters") == Decimal("2.25")
        assert scalar(session, "SELECT count(*) FROM unfolded") == 0
    carried.dispose()
    server.dispose()
    assert version == head
    assert {table.name for table in TENANT_TABLES} <= set(after)


def _rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but Alembic's, in the order of its text."""
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
        statement = "SELECT to_jsonb(t) FROM {} t ORDER BY t::text"
        return {
            table: list(connection.execute(text(statement.format(table))).scalars())
            for table in sorted(tables)
        }


# A row at least in each table of the previous head; of the two events one is still unfolded.
_SAMPLE = """
INSERT INTO tenants (tenant_id, mode, created_at) VALUES ('acme', 'live', '2026-11-01Z');
INSERT INTO tenant_locks (tenant_id, folded, folds) VALUES ('acme', 1, 1);
INSERT INTO api_keys (tenant_id, key_id, secret_sha256, name, scopes, created_at, created_by)
VALUES ('acme', 'key_1', 'secret', 'server', '{events:write}', '2026-11-01Z', 'operator');
INSERT INTO console_links (tenant_id, token_sha256, role, expires_at)
VALUES ('acme', 'link', 'admin', '2026-11-02Z');
INSERT INTO console_sessions (tenant_id, token_sha256, role, created_at, expires_at)
VALUES ('acme', 'session', 'admin', '2026-11-01Z', '2026-11-02Z');
INSERT INTO metrics (tenant_id, metric, aggregation, unique_enabled, carry_over, created_at)
VALUES ('acme', 'api_calls', 'sum', true, true, '2026-11-01Z');
INSERT INTO customers (tenant_id, customer_ref, stripe_customer_id, stripe_account, created_at)
VALUES ('acme', 'cus_1', 'cus_stripe', 'acct_1', '2026-11-01Z');
INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, resource_id, quantity,
                    occurred_at, recorded_at, meta)
VALUES ('acme', 'k1', 'api_calls', 'cus_1', 'r1', 1.5, '2026-11-10 12:00Z', '2026-11-10 12:01Z',
        '{"a": 1}'),
       ('acme', 'k2', 'api_calls', 'cus_1', 'r1', 0.75, '2026-11-10 13:00Z', '2026-11-10 13:01Z',
        NULL);
INSERT INTO unfolded (tenant_id, recorded_at, idempotency_key)
VALUES ('acme', '2026-11-10 13:01Z', 'k2');
INSERT INTO segments (tenant_id, customer_ref, metric, segment_start, event_count, sum_value,
                      max_value, last_value, last_occurred_at, last_key)
VALUES ('acme', 'cus_1', 'api_calls', '2026-11-10 12:00Z', 1, 1.5, 1.5, 1.5, '2026-11-10 12:00Z',
        'k1');
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, unique_count,
                      watermark, folded_at, event_count, sum_value, max_value, last_value,
                      last_occurred_at, last_key)
VALUES ('acme', 'cus_1', 'api_calls', '2026-11-01Z', '2026-12-01Z', 1, '2026-11-10 12:00Z',
        '2026-11-10 12:02Z', 1, 1.5, 1.5, 1.5, '2026-11-10 12:00Z', 'k1');
INSERT INTO unique_members (tenant_id, customer_ref, metric, period_start, resource_key)
VALUES ('acme', 'cus_1', 'api_calls', '2026-11-01Z', 'r1');
INSERT INTO periods (tenant_id, schedule, start_at, end_at)
VALUES ('acme', 'month', '2026-11-01Z', '2026-12-01Z');
INSERT INTO set_aside (tenant_id, customer_ref, metric, idempotency_key, period_start, quantity,
                       reason, set_aside_at)
VALUES ('acme', 'cus_1', 'api_calls', 'late', '2026-11-01Z', 7, 'age', '2026-11-10 12:02Z');
INSERT INTO dead_letters (tenant_id, idempotency_key, error, failed_at)
VALUES ('acme', 'dead', '22003 out of range', '2026-11-10 12:02Z');
INSERT INTO keyed_requests (tenant_id, operation, request_key, body_sha256, recorded_at)
VALUES ('acme', 'ingest', 'r', 'body', '2026-11-10 12:01Z');
INSERT INTO mappings (tenant_id, mapping_id, metric, price_id, meter_event_name, currency, price,
                      is_active, is_shadow, effective_from, created_at, updated_at)
VALUES ('acme', 'map_1', 'api_calls', 'price_1', 'api_calls', 'usd',
        '{"model": "per_unit", "currency": "usd", "unitPrice": "0.01"}', true, true,
        '2026-11-01Z', '2026-11-01Z', '2026-11-01Z');
INSERT INTO simulations (tenant_id, id, name, kind, document, created_by, created_at, updated_at)
VALUES ('acme', 'sim_1', 'two prices', 'comparison', '{"prices": []}', 'key_1', '2026-11-01Z',
        '2026-11-01Z');
INSERT INTO backtests (tenant_id, id, name, question, currency, created_by, created_at, updated_at)
VALUES ('acme', 'bt_1', 'dearer', '{}', 'usd', 'key_1', '2026-11-01Z', '2026-11-01Z');
INSERT INTO backtest_results (tenant_id, backtest_id, customer_ref, periods, before, after, change)
VALUES ('acme', 'bt_1', 'cus_1', 1, 10, 12.5, 2.5);
INSERT INTO account_bindings (account_id, tenant_id, bound_at, bound_by)
VALUES ('acct_1', 'acme', '2026-11-01Z', 'operator');
INSERT INTO billing_periods (tenant_id, customer_ref, metric, start_at, end_at, mode, item_id)
VALUES ('acme', 'cus_2', 'api_calls', '2026-11-15 10:23Z', '2026-12-15 10:23Z', 'live', 'si_1');
INSERT INTO held (tenant_id, mode, customer_ref, metric, since_segment, kind, reason, held_at,
                  retry_at)
VALUES ('acme', 'live', 'cus_1', 'api_calls', '2026-11-10 12:00Z', 'unmapped', 'no customer',
        '2026-11-10 12:02Z', '2026-11-10 13:02Z');
INSERT INTO push_streams (tenant_id, stream_id, mode, account_id, event_name, stripe_customer,
                          created_at)
VALUES ('acme', 'st_1', 'live', 'acct_1', 'api_calls', 'cus_stripe', '2026-11-01Z');
INSERT INTO stream_sources (tenant_id, stream_id, customer_ref, metric)
VALUES ('acme', 'st_1', 'cus_1', 'api_calls');
INSERT INTO pushes (tenant_id, identifier, stream_id, basis, segment_start, quantity, stamped_at,
                    state, claimed_at, lease_until, settled_at)
VALUES ('acme', 'sm_1', 'st_1', 'hour', '2026-11-10 12:00Z', 1.5, '2026-11-10 12:00Z', 'settled',
        '2026-11-10 12:03Z', '2026-11-10 12:04Z', '2026-11-10 12:03Z');
INSERT INTO push_totals (tenant_id, mode, outcome, total) VALUES ('acme', 'live', 'settled', 1);
INSERT INTO stripe_connections (tenant_id, mode, account_id) VALUES ('acme', 'live', 'acct_1');
INSERT INTO stripe_customers (tenant_id, mode, account_id, stripe_customer, customer_ref,
                              fetched_at)
VALUES ('acme', 'live', 'acct_1', 'cus_stripe', 'cus_1', '2026-11-01Z');
INSERT INTO stripe_invoices (tenant_id, mode, account_id, invoice_id, stripe_customer, status,
                             period_start, period_end, fetched_at)
VALUES ('acme', 'live', 'acct_1', 'in_1', 'cus_stripe', 'draft', '2026-10-01Z', '2026-11-01Z',
        '2026-11-01Z');
INSERT INTO stripe_meters (tenant_id, mode, account_id, meter_id, event_name, formula, is_active,
                           fetched_at)
VALUES ('acme', 'live', 'acct_1', 'mtr_1', 'api_calls', 'sum', true, '2026-11-01Z');
INSERT INTO stripe_prices (tenant_id, mode, account_id, price_id, currency, is_active, fetched_at)
VALUES ('acme', 'live', 'acct_1', 'price_1', 'usd', true, '2026-11-01Z');
INSERT INTO subscription_items (tenant_id, mode, account_id, item_id, subscription_id,
                                stripe_customer, price_id, status, recurring_interval,
                                interval_count, anchor_at, current_start, current_end, started_at,
                                fetched_at)
VALUES ('acme', 'live', 'acct_1', 'si_1', 'sub_1', 'cus_stripe', 'price_1', 'active', 'month', 1,
        '2026-11-15 10:23Z', '2026-11-15 10:23Z', '2026-12-15 10:23Z', '2026-11-15 10:23Z',
        '2026-11-15 10:24Z');
INSERT INTO unsendable (tenant_id, stream_id, basis, segment_start, quantity, kind, reason,
                        found_at)
VALUES ('acme', 'st_1', 'hour', '2026-09-10 12:00Z', 3, 'too_old', '35 days', '2026-11-10 12:02Z');
INSERT INTO unsent (tenant_id, mode, customer_ref, metric, segment_start, changed_at, due_at)
VALUES ('acme', 'live', 'cus_1', 'api_calls', '2026-11-10 13:00Z', '2026-11-10 13:01Z',
        '2026-11-10 13:01Z');
INSERT INTO webhook_deliveries (tenant_id, mode, event_id, account_id, type, received_at, due_at)
VALUES ('acme', 'live', 'evt_1', 'acct_1', 'invoice.created', '2026-11-01Z', '2026-11-01Z');
INSERT INTO widget_tokens (tenant_id, token_id, token_sha256, customer_ref, origins, created_at,
                           created_by, expires_at)
VALUES ('acme', 'wt_1', 'token', 'cus_1', '{https://app.example}', '2026-11-01Z', 'key_1',
        '2026-11-02Z');
INSERT INTO widget_frames (tenant_id, code_sha256, token_id, origin, made_at, expires_at)
VALUES ('acme', 'code', 'wt_1', 'https://app.example', '2026-11-01Z', '2026-11-02Z');
"""
