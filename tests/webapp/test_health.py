"""Live, ready, metrics and logs: what platforms and operators see of us, and what they must not."""

import io
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from metering import installation
from metering.catalog import customers
from metering.counters import fold
from metering.database import make_engine, unit_of_work
from metering.stripe import confirming, connections, tally
from metering.stripe.claims import Outcome
from metering.stripe.modes import MODES
from tests.stripe_setup import FakeStripe, connect, priced, push_all, push_once
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, assert_problem, bearer, event, ingest, send
from webapp import health, logs

NOBODY_THERE = "postgresql+psycopg://u:secret@127.0.0.1:1/x"
NO_REDIS = "redis://127.0.0.1:1/0"
BACKLOG = ("unsent_segments", "unsent_oldest_seconds", "stripe_connections_halted", "stripe_held")


def test_live_asks_nothing_of_anybody(make_app: AppMaker) -> None:
    client = make_app(database_url=NOBODY_THERE, redis_url=NO_REDIS, sandbox=False).test_client()
    answer = client.get("/health/live")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_ready_where_everything_answers(shut: FlaskClient) -> None:
    answer = shut.get("/health/ready")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "degraded": []})


def test_ready_is_degraded_but_ready_without_redis(make_app: AppMaker) -> None:
    answer = make_app(redis_url=NO_REDIS).test_client().get("/health/ready")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ok", "degraded": ["redis"]}


def test_ready_names_the_database_that_is_away(make_app: AppMaker) -> None:
    client = make_app(database_url=NOBODY_THERE).test_client()
    answer = client.get("/health/ready")
    assert assert_problem(answer, 503).startswith("database: ")
    assert answer.headers["Retry-After"] == "1"
    assert "secret" not in answer.text
    # And so does everything that needs it, without a word about where it is.
    for refused in (ingest(client, [event("t")]), client.get("/v1/events?tenantId=t")):
        assert_problem(refused, 503)
        assert refused.headers["Retry-After"] == "1"
        assert "127.0.0.1" not in refused.text


@pytest.fixture
def other_database(database: str) -> Iterator[str]:
    """An empty database on the same server."""
    name = f"other_{uuid.uuid4().hex[:12]}"
    admin = create_engine(database, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield admin.url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def test_ready_names_a_schema_that_is_not_ours(make_app: AppMaker, other_database: str) -> None:
    client = make_app(database_url=other_database).test_client()
    assert "stripemeter migrate" in assert_problem(client.get("/health/ready"), 503)
    admin = create_engine(other_database)
    with admin.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0000')"))
    admin.dispose()
    said = assert_problem(client.get("/health/ready"), 503)
    assert "0000" in said
    assert health.head() in said


def exposed(answer) -> dict[str, float]:
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_count_what_happens(client: FlaskClient, session: Session, tenant: str) -> None:
    before = exposed(client.get("/metrics"))
    batch = [event(tenant, idempotencyKey=k) for k in "aab"] + [event(tenant, quantity=-1)]
    ingest(client, batch)
    waiting = exposed(client.get("/metrics"))

    def grew(now: dict[str, float], name: str, labels: str = "{}") -> float:
        return now[name + labels] - before.get(name + labels, 0)

    assert grew(waiting, "events_ingested_total") == 2
    assert grew(waiting, "events_duplicate_total") == 1
    assert grew(waiting, "events_rejected_total") == 1
    assert grew(waiting, "unfolded_events") == 2
    assert waiting["unfolded_oldest_seconds{}"] > 0
    label = '{"method": "POST", "route": "/v1/events/ingest", "status": "200"}'
    assert grew(waiting, "http_requests_total", label) == 1
    route = '{"route": "/v1/events/ingest"}'
    assert grew(waiting, "http_request_duration_seconds_count", route) == 1
    fold_all(session, tenant)
    put(session, tenant, [entry("c", ts="2026-01-01T00:00:00Z")])
    fold_all(session, tenant)
    folded = exposed(client.get("/metrics"))
    assert grew(folded, "events_folded_total") == 3
    assert grew(folded, "folds_total") == 2
    assert grew(folded, "reaggregations_total") == 1
    assert grew(folded, "unfolded_events") == 0
    for queue in ("counters", "stripe", "bulk"):
        assert f'queue_lag_seconds{{"queue": "{queue}"}}' in folded


def test_metrics_count_what_is_told_to_stripe(
    client: FlaskClient, session: Session, now: datetime
) -> None:
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1"}
        customers.edit(session, acme.tenant_id, "cus_1", told, now=now)
    before = exposed(client.get("/metrics"))

    def grew(name: str, **labels: str) -> float:
        key = name + json.dumps(labels, sort_keys=True)
        return exposed(client.get("/metrics"))[key] - before[key]

    def use(key: str, at: datetime) -> None:
        put(session, acme.tenant_id, [entry(key, 3, at)])
        with unit_of_work(session):
            fold.fold(session, acme.tenant_id, now=at)

    long_ago = now - timedelta(days=300)
    use("a", long_ago)
    assert grew("unsent_segments", mode="live") == 1
    assert grew("unsent_segments", mode="test") == 1
    oldest = exposed(client.get("/metrics"))['unsent_oldest_seconds{"mode": "live"}']
    assert oldest == pytest.approx((now - long_ago).total_seconds(), abs=60)
    push_all(session, acme, FakeStripe(), now=long_ago)
    assert grew("unsent_segments", mode="live") == 0
    for mode in MODES:
        assert grew("stripe_pushes_total", mode=mode, outcome="accepted") == 1
    assert grew("shadow_usage_posts_total") == 1
    assert grew("shadow_usage_post_failures_total") == 0
    # Its next answers: the key is no good, and one that never left.
    use("b", now)
    for outcome in (
        Outcome("auth", "Invalid API Key", status=401),
        Outcome("auth", "there is no key", is_answered=False, is_sent=False),
    ):
        with unit_of_work(session):
            for mode in MODES:
                connections.resume(connections.find(session, acme.tenant_id, mode, acme.account_id))
            session.execute(
                text(
                    "UPDATE pushes SET lease_until = :now WHERE tenant_id = :t"
                    " AND state = 'claimed'"
                ),
                {"now": now, "t": acme.tenant_id},
            )
        stripe = FakeStripe()
        stripe.next = [outcome] * 2
        assert push_once(session, acme, stripe, now=now) == 2
    assert grew("shadow_usage_posts_total") == 2
    assert grew("shadow_usage_post_failures_total") == 1
    for mode in MODES:
        assert grew("stripe_pushes_total", mode=mode, outcome="auth") == 1
        assert grew("stripe_pushes_total", mode=mode, outcome="not_sent") == 1
        assert grew("stripe_connections_halted", mode=mode) == 1
    with unit_of_work(session):
        connection = connections.find(session, acme.tenant_id, "live", acme.account_id)
        connections.note_answer(connection, now=now)
        connections.note_throttling(connection, 5, now=now)
    # That Stripe asks for a little patience is no trouble.
    assert grew("stripe_connections_halted", mode="live") == 0
    assert grew("stripe_connections_halted", mode="test") == 1


def test_metrics_count_what_stripes_totals_confirm(
    client: FlaskClient, session: Session, now: datetime
) -> None:
    acme = priced(session, connect(session, now=now))
    put(session, acme.tenant_id, [entry("a", 3, now - timedelta(hours=2))])
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=now)
    push_all(session, acme, FakeStripe(), now=now)
    before = exposed(client.get("/metrics"))
    later = now + confirming.SETTLING + timedelta(minutes=1)
    with unit_of_work(session):
        [check] = confirming.due(session, acme.tenant_id, now=later)
        hour = (now - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
        confirming.judge(session, check, {hour: Decimal(3)}, now=later)
    after = exposed(client.get("/metrics"))
    label = 'stripe_pushes_total{"mode": "live", "outcome": "confirmed"}'
    assert after[label] - before[label] == 1


def test_every_series_about_stripe_is_there_from_the_beginning(client: FlaskClient) -> None:
    shown = exposed(client.get("/metrics"))
    for mode in MODES:
        for outcome in tally.OUTCOMES:
            assert f'stripe_pushes_total{{"mode": "{mode}", "outcome": "{outcome}"}}' in shown
        for name in BACKLOG:
            assert f'{name}{{"mode": "{mode}"}}' in shown


def test_a_customer_who_is_nobody_in_stripe_is_counted_as_held(
    client: FlaskClient, session: Session, now: datetime
) -> None:
    acme = priced(session, connect(session, now=now))
    put(session, acme.tenant_id, [entry("a", 3, now - timedelta(hours=2), customer="nobody")])
    with unit_of_work(session):
        fold.fold(session, acme.tenant_id, now=now)
    label = 'stripe_held{"mode": "live"}'
    before = exposed(client.get("/metrics"))[label]
    push_all(session, acme, FakeStripe(), now=now)
    assert exposed(client.get("/metrics"))[label] == before + 1


def test_the_backlog_is_counted_to_a_bound(
    session: Session, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = priced(session, connect(session, now=now))
    put(session, acme.tenant_id, [entry(f"{n}", 1, now, customer=f"cus_{n}") for n in range(4)])
    fold_all(session, acme.tenant_id)
    monkeypatch.setattr(installation, "UNSENT_COUNTED_TO", 3)
    assert sum(installation.stripe_totals(session).unsent.values()) == 3


def test_no_label_tells_of_tenants_customers_or_whoever_asks(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    ingest(client, [event(tenant, customerRef="cus_planted", metric="planted")])
    client.get(f"/v1/customers/cus_planted?tenantId={tenant}")
    client.get(f"/planted/{tenant}")
    shown = client.get("/metrics").text
    for name in (tenant, "planted"):
        assert name not in shown


def test_a_method_that_nobody_knows_makes_no_series_of_its_own(client: FlaskClient) -> None:
    # Each invented name would be a time series for ever, and needs no key.
    for i in range(3):
        client.open("/v1/events", method=f"PLANTED{i}")
    assert "PLANTED" not in client.get("/metrics").text


def test_metrics_survive_a_redis_that_is_away(make_app: AppMaker) -> None:
    shown = exposed(make_app(redis_url=NO_REDIS).test_client().get("/metrics"))
    assert "unfolded_events{}" in shown
    assert not any(name.startswith("queue_lag_seconds{") for name in shown)


def test_metrics_want_their_token_outside_the_sandbox(
    make_app: AppMaker, shut: FlaskClient, key: str
) -> None:
    assert_problem(shut.get("/metrics"), 403)
    assert_problem(shut.get("/metrics", headers=bearer(key)), 403)
    guarded = make_app(sandbox=False, metrics_token="tökén").test_client()
    for headers in ({}, bearer("wrong"), bearer(key), {"Authorization": "Basic tökén"},
                    {"x-api-key": "tökén"}, bearer("")):  # fmt: skip
        refused = guarded.get("/metrics", headers=headers)
        assert_problem(refused, 401)
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    token = make_app(sandbox=False, metrics_token="secret-token").test_client()
    assert token.get("/metrics", headers=bearer("secret-token")).status_code == 200
    assert "secret-token" not in token.get("/metrics", headers=bearer("secret-token")).text


def test_the_sandboxs_metrics_are_open_to_this_machine_only(client: FlaskClient) -> None:
    assert client.get("/metrics").status_code == 200
    far = client.get("/metrics", environ_base={"REMOTE_ADDR": "10.0.0.5"})
    assert_problem(far, 403)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict]]]:
    """What was logged, a JSON object a line, by the product's own handler."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", written)
    logs.configure("INFO")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


def test_logs_are_json_with_request_and_tenant(
    shut: FlaskClient, tenant: str, key: str, logged: Callable[[], list[dict]]
) -> None:
    ingest(shut, [event(tenant)], headers=bearer(key) | {"X-Request-Id": "mine"})
    [line] = [line for line in logged() if line["message"] == "request"]
    assert (line["requestId"], line["tenantId"]) == ("mine", tenant)
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/events/ingest", 200)
    assert line["level"] == "INFO"
    assert line["milliseconds"] > 0
    assert line["time"]


def test_a_refused_request_is_logged_with_its_callers_tenant(
    shut: FlaskClient, stranger: str, tenant: str, key: str, logged: Callable[[], list[dict]]
) -> None:
    ingest(shut, [event(stranger)], headers=bearer(key))
    shut.get("/v1/events?limit=0", headers=bearer(key))
    lines = [line for line in logged() if line["message"] == "request"]
    assert [line["status"] for line in lines] == [403, 422]
    assert [line["tenantId"] for line in lines] == [tenant, tenant]


def test_logs_never_hold_a_key_a_token_or_meta(
    app, shut: FlaskClient, tenant: str, key: str, logged: Callable[[], list[dict]]
) -> None:
    secret = f"planted-{uuid.uuid4()}"
    shut.get("/v1/events", headers=bearer(key))
    shut.get("/v1/events", headers=bearer(f"sm_live_{secret}"))
    shut.get("/v1/events", headers={"x-api-key": key})
    shut.post("/console/enter", data={"token": secret})
    shut.get(f"/console/enter?token={secret}")
    batch = [event(tenant, meta={"secret": secret}), event(tenant, quantity=secret)]
    ingest(shut, batch, headers=bearer(key))
    send(shut, f'{{"events": "{secret}"', headers=bearer(key))
    made = shut.post(
        "/v1/admin/api-keys", json={"name": "n", "scopes": ["all"]}, headers=bearer(key)
    ).get_json()
    lines = str(logged())
    assert len(logged()) >= 8
    for private in (secret, key, key.split("_", 3)[3], made["secret"]):
        assert private not in lines


def test_an_error_of_the_database_does_not_repeat_what_was_sent(database: str) -> None:
    # Errors are logged; SQLAlchemy's text would hold the parameters: meta, names, hashes.
    engine = make_engine(database)
    parameters = {"none": 0, "meta": "planted-meta"}
    with engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.exec_driver_sql("SELECT 1 / %(none)s::int, %(meta)s::text", parameters)
    engine.dispose()
    assert "planted-meta" not in str(raised.value)


def test_every_answer_carries_the_same_guards(client: FlaskClient) -> None:
    for url in (
        "/",
        "/docs",
        "/openapi.json",
        "/health/live",
        "/v1/events",
        "/nowhere",
        "/console",
    ):
        headers = client.get(url).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Request-Id"]
    assert_problem(client.get("/x"), 404)
