"""The tenant wall in the schema and in the statements, and migrations from what has landed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import UniqueConstraint, create_engine, inspect, text
from sqlalchemy.engine import Engine

from metering.database import Base
from tests.support import alembic_config, migrate
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
    names = "|".join(table.name for table in TENANT_TABLES)
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
    script = ScriptDirectory.from_config(alembic_config(postgres_url))
    head = script.get_current_head()
    assert head is not None
    previous = script.get_revision(head).down_revision
    name = "from_previous_head"
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = server.url.set(database=name).render_as_string(hide_password=False)
    carried = create_engine(url)
    if previous is not None:
        migrate(url, str(previous))
        with carried.begin() as connection:
            connection.exec_driver_sql(_SAMPLE)
    migrate(url)
    migrate(url)  # a second release finds nothing to do
    with carried.connect() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        tables = set(inspect(connection).get_table_names())
        if previous is not None:
            assert connection.execute(text("SELECT count(*) FROM events")).scalar() == 1
    carried.dispose()
    server.dispose()
    assert version == head
    assert {table.name for table in TENANT_TABLES} <= tables


# One of everything that the first landed schema can hold.
_SAMPLE = """
INSERT INTO tenants (tenant_id, mode, created_at) VALUES ('acme', 'live', now());
INSERT INTO tenant_locks (tenant_id) VALUES ('acme');
INSERT INTO events (tenant_id, idempotency_key, metric, customer_ref, quantity, occurred_at,
                    recorded_at, meta)
VALUES ('acme', 'k', 'api_calls', 'cus_1', 1.5, now(), now(), '{"a":1}');
"""
