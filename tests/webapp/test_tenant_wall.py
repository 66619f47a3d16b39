"""For every endpoint there is: nothing of another tenant is read, written or revealed.

The URL map is walked and requests are made from the declared schemas, so that a new endpoint is
covered on the day it is added.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import Schema, fields
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.billing import backtest, question, simulations
from metering.billing.question import Wanted
from metering.catalog import customers, mappings, metrics
from metering.counters import adjustments, deciding, voids
from metering.database import unit_of_work
from metering.ledger import uploads
from metering.ledger.models import BackfillError
from metering.stripe.models import Connection, Held, PushStream, StreamSource
from metering.tenancy import console, keys, scopes, widgets
from tests.backtests import BASELINE, CANDIDATE
from tests.support import entry, fold_all, put
from tests.webapp.support import bearer, make_key, row_counts, stored
from webapp import create_app, cursor
from webapp.config import Config
from webapp.endpoint import Contract

# What has no contract, and why nothing of a tenant's is behind it without a session.
WITHOUT_CONTRACT = {
    "static",
    "welcome.front",  # the sandbox's own page; tests/webapp/test_sandbox_door.py
    "welcome.description",
    "welcome.reference",
    "console.door",  # the console's pages; tests/webapp/test_console.py
    "console.enter",
    "console.home",
    "console.leave",
    "simulator.home",  # computes what the address says; tests/browser/test_simulator.py
    "simulator.results",
    "simulator.read_stripe",
    "simulator.curve_csv",
    "simulator.invoice_csv",
    "simulator.as_json",
    "saved_simulations.listing",  # tests/webapp/test_simulator_pages.py
    "saved_simulations.opened",
    "saved_simulations.save",
    "saved_simulations.duplicate",
    "saved_simulations.delete",
    "backtest_pages.home",  # tests/webapp/test_backtest_pages.py
    "backtest_pages.ask",
    "backtest_pages.shown",
    "backtest_pages.customers_csv",
    "backtest_pages.end",
    "stripe_console.home",  # below, and tests/webapp/test_stripe_console.py
    "stripe_console.retry",
    "shadow_console.report",
    "periods_console.listing",  # tests/webapp/test_periods_page.py
    "events_console.home",  # tests/webapp/test_events_console.py
    "events_console.walk",
    "events_console.letters",
    "events_console.resend",
    "adjustments_console.home",  # tests/webapp/test_adjustments_console.py
    "adjustments_console.new",
    "adjustments_console.make",
    "adjustments_console.one",
    "adjustments_console.decide",
    "widget.script",  # the widget's frame; tests/webapp/test_widget_frames.py
    "widget.brand_sheet",
    "widget.document",
    "widget.poll",
    "widget.recent_activity",
    "widget.statement_file",
}
PLANTED = "planted-7f3a"
SAMPLES: dict[str, Any] = {
    "metric": f"{PLANTED}-metric",
    "customerRef": f"{PLANTED}-customer",
    "name": "n",
    "scopes": ["events:read"],
    "ts": "2026-01-16T14:30:00Z",
    "quantity": 1,
    "usageItems": [{"metric": "m", "quantity": 1, "priceConfig": BASELINE}],
    "prices": [BASELINE],
    "document": {"prices": [BASELINE]},
    "baseline": BASELINE,
    "candidate": CANDIDATE,
    "offset": 0,
    "id": cursor.write(("held", "test", f"{PLANTED}-customer", f"{PLANTED}-metric")),
    "delta": "5",
    "reason": "correction",
}
# Where a name means something else.
SAMPLES_OF: dict[str, dict[str, Any]] = {
    "/v1/events/walk": {"id": f"{PLANTED}-1"},
}
BODIES_OF: dict[str, dict[str, Any]] = {
    "/v1/events/dead-letters/resend": {"all": True},
    "/v1/events/void": {"id": f"{PLANTED}-3"},
    "/v1/events/restore": {"id": f"{PLANTED}-0"},
}


@dataclass(frozen=True)
class Operation:
    """One method of one rule."""

    endpoint: str
    rule: str
    method: str
    contract: Contract | None

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"


def every_operation() -> list[Operation]:
    """The whole URL map, read without a database or a Redis."""
    app = create_app(Config(database_url="postgresql+psycopg://", redis_url="redis://"))
    return [
        Operation(rule.endpoint, rule.rule, method, getattr(view, "contract", None))
        for rule in app.url_map.iter_rules()
        for view in [app.view_functions[rule.endpoint]]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


OPERATIONS = every_operation()
GUARDED = [op for op in OPERATIONS if op.contract is not None and op.contract.scope is not None]
for_each = pytest.mark.parametrize("operation", GUARDED, ids=str)


def test_every_endpoint_is_guarded_or_says_why_not() -> None:
    assert len(GUARDED) >= 17, "the walk has lost endpoints"
    for operation in OPERATIONS:
        if operation.contract is None:
            assert operation.endpoint in WITHOUT_CONTRACT, f"{operation} has no contract"
        elif operation.contract.scope is None:
            assert operation.contract.why_open, f"{operation} is open and does not say why"
        else:
            assert operation.contract.scope in scopes.ALL


def filled(schema: type[Schema], tenant_id: str | None) -> dict[str, Any]:
    """The smallest good input of a schema, naming the tenant wherever it can be named."""
    data: dict[str, Any] = {}
    for field in schema().fields.values():
        name = field.data_key
        if name == "tenantId":
            if tenant_id is not None:
                data[name] = tenant_id
        elif isinstance(field, fields.List) and isinstance(field.inner, fields.Nested):
            data[name] = [filled(type(field.inner.schema), tenant_id)]
        elif isinstance(field, fields.Nested):
            data[name] = filled(type(field.schema), tenant_id)
        elif field.required:
            assert name in SAMPLES, f"give SAMPLES a good {name} for {schema.__name__}"
            data[name] = SAMPLES[name]
    return data


def ask(
    client: FlaskClient,
    operation: Operation,
    *,
    key: str | None,
    tenant_id: str | None,
    path: dict[str, str],
    query: dict[str, str] | None = None,
) -> TestResponse:
    """Make the operation's request, naming the tenant in query and body."""
    contract = operation.contract
    assert contract is not None
    # A new parameter fails here until the `path` fixture says what stands for it.
    if operation.rule.endswith("/revert"):
        path = path | {"adjustment_id": path["approved_id"]}
    url = re.sub(r"<(?:\w+:)?(\w+)>", lambda parameter: path[parameter[1]], operation.rule)
    asked = filled(contract.query, tenant_id) if contract.query else {}
    asked |= SAMPLES_OF.get(operation.rule, {})
    options: dict[str, Any] = {"query_string": asked | (query or {})}
    if contract.body is not None:
        options["json"] = filled(contract.body, tenant_id) | BODIES_OF.get(operation.rule, {})
    elif contract.files:
        options |= {"data": b"", "content_type": contract.files[0]}
    # An id of our own making could hold any digits, those of the planted quantity too.
    named = {"X-Request-Id": "asked"}
    return client.open(
        url, method=operation.method, headers=named | (bearer(key) if key else {}), **options
    )


@pytest.fixture
def path(session: Session, tenant: str, now: datetime) -> dict[str, str]:
    """The tenant's own things, by the names of the rules' parameters."""
    with unit_of_work(session):
        made, _ = keys.create(
            session, tenant, name=f"{PLANTED}-name", scopes=["all"], granted_by=scopes.ALL,
            created_by=f"{PLANTED}-maker", now=now,
        )  # fmt: skip
        key_id = made.key_id
        metrics.edit(session, tenant, f"{PLANTED}-metric", {"unit": f"{PLANTED}-unit"}, now=now)
        customers.edit(session, tenant, f"{PLANTED}-customer", {"name": f"{PLANTED}-n"}, now=now)
        mapping_id = mappings.create(
            session, tenant, mappings.id_of(None),
            {"metric": f"{PLANTED}-metric", "meter_event_name": f"{PLANTED}-name",
             "effective_from": now - timedelta(62), "effective_until": now - timedelta(31)},
            now=now,
        ).mapping_id  # fmt: skip
    here = {"metric": f"{PLANTED}-metric", "customer": f"{PLANTED}-customer"}
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    planted = [entry(f"{PLANTED}-{name}", 7341.5, month, **here) for name in (0, 1, 3)]
    put(session, tenant, planted)
    fold_all(session, tenant)
    decided = _decided(session, tenant, here, now)
    with unit_of_work(session):
        saved = simulations.save(
            session, tenant, name=f"{PLANTED}-n", kind="invoice", document={"a": f"{PLANTED}-n"},
            created_by=f"{PLANTED}-maker", now=now,
        )  # fmt: skip
        ids = {"simulation_id": saved.id, "backtest_id": _tested(session, tenant, now)}
    _stick(session, tenant, here["customer"], here["metric"], now)
    put(session, tenant, [entry(f"{PLANTED}-2", 7341.5, month, meta='{"a": "x"}', **here)])
    with unit_of_work(session):
        wanted = widgets.Wanted(here["customer"], metrics=[here["metric"]])
        token, _ = widgets.mint(session, tenant, wanted, created_by=f"{PLANTED}-maker", now=now)
        ids["token_id"] = token.token_id
        ids["backfill_id"] = _broken_off(session, tenant, now)
    return (
        ids
        | decided
        | {
            "key_id": key_id,
            "mapping_id": mapping_id,
            "metric": here["metric"],
            "customer_ref": here["customer"],
        }
    )


def _decided(session: Session, tenant: str, here: dict[str, str], now: datetime) -> dict[str, str]:
    """A voided event, an adjustment that waits and one that was approved."""
    wanted = adjustments.Wanted(
        here["customer"], here["metric"], Decimal("7341.5"), "manual", note=f"{PLANTED}-n"
    )
    by = {"actor": f"{PLANTED}-maker", "now": now}
    with unit_of_work(session):
        voids.void(session, tenant, f"{PLANTED}-0", reason=f"{PLANTED}-n", **by)  # type: ignore[arg-type]
        ids = [
            adjustments.create(session, tenant, adjustments.id_of(None), wanted, **by).adjustment_id  # type: ignore[arg-type]
            for _ in range(2)
        ]
        deciding.approve(session, tenant, ids[1], **by)  # type: ignore[arg-type]
    return {"adjustment_id": ids[0], "approved_id": ids[1]}


def _broken_off(session: Session, tenant: str, now: datetime) -> str:
    """A file that can be continued, with a line of it that was refused; its id."""
    wanted = uploads.Wanted("csv", f"{PLANTED}-n", file_name=f"{PLANTED}-name")
    made = uploads.create(session, tenant, wanted, actor=f"{PLANTED}-maker", now=now)
    session.add(
        BackfillError(
            tenant_id=tenant, backfill_id=made.backfill_id, line=2, message=f"{PLANTED}-n",
            excerpt="7341",
        )
    )  # fmt: skip
    return made.backfill_id


def _stick(session: Session, tenant: str, customer: str, metric: str, now: datetime) -> None:
    """The planted usage is held, a stream is blocked, an account halted."""
    stream, account = f"{PLANTED}-name-s", f"{PLANTED}-name-a"
    of = {"tenant_id": tenant, "mode": "test"}
    why = f"{PLANTED}-n: {PLANTED}-unit"
    with unit_of_work(session):
        session.add_all(
            [
                Held(
                    **of, customer_ref=customer, metric=metric, since_segment=now, kind="unmapped",
                    reason=why, held_at=now, retry_at=now,
                ),
                Connection(
                    **of, account_id=account, halted_kind="auth", halted_reason=why,
                    halted_until=now, failures=1,
                ),
                PushStream(
                    **of, stream_id=stream, account_id=account, event_name=metric,
                    stripe_customer=customer, created_at=now, blocked_kind="rejected",
                    blocked_reason=why, blocked_at=now, retry_at=now,
                ),
                StreamSource(
                    tenant_id=tenant, stream_id=stream, customer_ref=customer, metric=metric
                ),
            ]
        )  # fmt: skip


def _tested(session: Session, tenant: str, now: datetime) -> str:
    """A back-test of the planted usage that is done; its id."""
    wanted = [Wanted(f"{PLANTED}-metric", BASELINE, CANDIDATE)]
    asked = question.freeze(session, tenant, wanted, [f"{now:%Y-%m}"])
    made = backtest.create(
        session, tenant, asked, name=f"{PLANTED}-n", created_by=f"{PLANTED}-maker", now=now
    )
    while backtest.advance(session, tenant, made.id, now=now):
        pass
    assert backtest.summary(made).customers == 1
    return made.id


@pytest.fixture
def unchanged(session: Session) -> Iterator[None]:
    """The test leaves every table with as many rows as it found."""
    before = row_counts(session)
    yield
    assert row_counts(session) == before


def refused(answer: TestResponse, *statuses: int) -> None:
    shown = answer.get_data(as_text=True)
    assert answer.status_code in statuses, shown
    # What the asker said itself may come back to it; what it asked for may not.
    for secret in (f"{PLANTED}-n", f"{PLANTED}-maker", f"{PLANTED}-unit", f"{PLANTED}-1", "7341"):
        assert secret not in shown


@for_each
def test_another_tenant_cannot_be_named(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    strangers_key: str,
    path: dict[str, str],
    operation: Operation,
) -> None:
    before, counts = stored(session, tenant), row_counts(session)
    answer = ask(shut, operation, key=strangers_key, tenant_id=tenant, path=path)
    refused(answer, 403)
    assert row_counts(session) == counts
    assert stored(session, tenant) == before


@for_each
def test_another_tenant_cannot_be_named_in_a_query_that_is_not_asked_for(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    stranger: str,
    strangers_key: str,
    path: dict[str, str],
    operation: Operation,
) -> None:
    # Dropped without a word, it would let the request be carried out elsewhere than it says.
    counts = row_counts(session)
    answer = ask(
        shut, operation, key=strangers_key, tenant_id=stranger, path=path,
        query={"tenantId": tenant},
    )  # fmt: skip
    refused(answer, 403, 422)
    assert row_counts(session) == counts


@for_each
def test_what_is_reached_by_name_or_id_is_the_askers_own(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    stranger: str,
    strangers_key: str,
    path: dict[str, str],
    operation: Operation,
) -> None:
    before = stored(session, tenant)
    answer = ask(shut, operation, key=strangers_key, tenant_id=None, path=path)
    # Events must name their tenant; everything else may leave it to the key.
    refused(answer, 200, 201, 202, 404)
    if "_id>" in operation.rule:
        assert answer.status_code == 404
    assert stored(session, tenant) == before


@for_each
def test_nobody_is_let_in_without_a_key(
    shut: FlaskClient,
    tenant: str,
    path: dict[str, str],
    operation: Operation,
    unchanged: None,
) -> None:
    answer = ask(shut, operation, key=None, tenant_id=tenant, path=path)
    refused(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    forged = f"sm_test_{path['key_id']}_{'A' * 43}"
    refused(ask(shut, operation, key=forged, tenant_id=tenant, path=path), 401)


@for_each
def test_a_key_needs_the_endpoints_scope(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    now: datetime,
    path: dict[str, str],
    operation: Operation,
) -> None:
    assert operation.contract is not None
    others = scopes.ALL - {operation.contract.scope}
    weak = make_key(session, tenant, others, now=now)
    before = stored(session, tenant)
    answer = ask(shut, operation, key=weak, tenant_id=tenant, path=path)
    refused(answer, 403)
    assert operation.contract.scope in answer.get_json()["detail"]
    assert stored(session, tenant) == before
    enough = make_key(session, tenant, [operation.contract.scope], now=now)
    allowed = ask(shut, operation, key=enough, tenant_id=tenant, path=path)
    # Whoever may make keys may give away only what is theirs.
    assert allowed.status_code < 300 or (
        operation.contract.scope == "admin:write" and allowed.status_code == 403
    )


def test_the_console_of_another_tenant_is_behind_its_own_link(app: Flask, tenant: str) -> None:
    pages = [op for op in OPERATIONS if op.endpoint.startswith("console.")]
    assert {op.endpoint for op in pages} < WITHOUT_CONTRACT
    client = app.test_client()
    for page in pages:
        shown = client.open(page.rule, method=page.method, query_string={"tenantId": tenant})
        assert tenant not in shown.get_data(as_text=True)


def test_the_consoles_pages_are_behind_the_wall(
    shut: FlaskClient,
    session: Session,
    tenant: str,
    stranger: str,
    now: datetime,
    path: dict[str, str],
) -> None:
    rooms = ("/console/stripe", "/console/events")
    pages = [op for op in OPERATIONS if op.rule.startswith(rooms)]
    assert {op.endpoint for op in pages} < WITHOUT_CONTRACT
    assert len(pages) == 7, "a new page of the console is to be looked at here"
    before = stored(session, tenant)
    for page in pages:
        answer = shut.open(page.rule, method=page.method, query_string={"tenantId": tenant})
        refused(answer, 401)
    with unit_of_work(session):
        link = console.make_link(session, stranger, "operator", now=now)
    shut.post("/console/enter", data={"token": link})
    token = re.search(r'name="csrf_token" value="(\w+)"', shut.get("/console").text)
    assert token
    # The planted usage is held; this is its name.
    form = {"csrf_token": token[1], "id": SAMPLES["id"]}
    for page in pages:
        data = form if page.method == "POST" else None
        named = shut.open(
            page.rule, method=page.method, data=data, query_string={"tenantId": tenant}
        )
        refused(named, 403)
        refused(shut.open(page.rule, method=page.method, data=data), 200, 303)
    assert stored(session, tenant) == before
