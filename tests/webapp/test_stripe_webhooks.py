"""The door for Stripe's webhooks: who is believed, whose an event is, and that it counts once."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
import stripe
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.database import unit_of_work
from metering.errors import InvalidInputError
from metering.stripe import webhooks
from metering.stripe.models import AccountBinding, WebhookDelivery
from metering.stripe.signature import SignatureError, mode_of
from tests.stripe_setup import Connected, connect
from tests.webapp.support import AppMaker, assert_problem, row_counts
from webapp.stripe_webhooks.views import MAX_BODY_BYTES

WEBHOOK = "/v1/stripe/webhook"
LIVE, OLD_LIVE, TEST = "whsec_live_1", "whsec_live_0", "whsec_test_1"
OWN = "acct_own_of_the_webhook_tests"


@pytest.fixture(scope="module")
def door(make_app: AppMaker) -> Flask:
    """An app as production runs it, with webhook secrets; the live one is being rolled."""
    return make_app(
        sandbox=False,
        stripe_webhook_secret_live=f"{LIVE},{OLD_LIVE}",
        stripe_webhook_secret_test=TEST,
        stripe_account=OWN,
    )


@pytest.fixture
def caller(door: Flask) -> FlaskClient:
    return door.test_client()


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    return connect(session, now=now)


def snapshot(account: str | None, **changes: Any) -> dict[str, Any]:
    """A snapshot event as Stripe sends it, with what the test cares about changed."""
    made = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "api_version": "2026-05-27.dahlia",
        "created": 1_790_000_000,
        "type": "customer.subscription.updated",
        "livemode": True,
        "account": account,
        "data": {"object": {"id": "sub_1", "object": "subscription", "status": "active"}},
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def thin(account: str | None, **changes: Any) -> dict[str, Any]:
    """A thin event as Stripe sends it."""
    made = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "v2.core.event",
        "type": "v1.billing.meter.error_report_triggered",
        "livemode": True,
        "created": "2026-11-10T12:00:00.000Z",
        "context": account,
        "related_object": {"id": "mtr_1", "type": "billing.meter", "url": "/v1/billing/meters/m"},
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def signed(body: str, secret: str = LIVE, *, at: float | None = None) -> str:
    made: str = stripe.WebhookSignature.generate_signature_header(
        body, secret, int(time.time() if at is None else at)
    )
    return made


def deliver(
    client: FlaskClient, event: dict[str, Any], secret: str = LIVE, *, at: float | None = None
) -> TestResponse:
    """POST the event as Stripe does."""
    body = json.dumps(event, indent=2)
    headers = {"Stripe-Signature": signed(body, secret, at=at)}
    return client.post(WEBHOOK, data=body, content_type="application/json", headers=headers)


def outcome(answer: TestResponse) -> str:
    assert answer.status_code == 200, answer.get_data(as_text=True)
    told: str = answer.get_json()["outcome"]
    return told


def deliveries(session: Session, tenant_id: str) -> list[WebhookDelivery]:
    session.rollback()
    return list(
        session.scalars(select(WebhookDelivery).where(WebhookDelivery.tenant_id == tenant_id))
    )


def test_a_signed_event_is_taken_and_written_down(
    session: Session, caller: FlaskClient, acme: Connected
) -> None:
    event = snapshot(acme.account_id)
    assert outcome(deliver(caller, event)) == "taken"
    (row,) = deliveries(session, acme.tenant_id)
    assert (row.event_id, row.mode, row.account_id) == (event["id"], "live", acme.account_id)
    assert (row.type, row.object_id) == ("customer.subscription.updated", "sub_1")
    assert row.handled_at is None
    assert row.due_at is not None


def test_a_taken_event_is_hinted_at_once_it_is_written_down(
    caller: FlaskClient, acme: Connected, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        before = connection.llen("rq:queue:stripe")
        deliver(caller, snapshot(acme.account_id))
        assert connection.llen("rq:queue:stripe") == before + 1


def test_a_secret_that_is_being_rolled_still_signs(caller: FlaskClient, acme: Connected) -> None:
    assert outcome(deliver(caller, snapshot(acme.account_id), OLD_LIVE)) == "taken"


def test_stripe_may_sign_with_several_secrets(caller: FlaskClient, acme: Connected) -> None:
    body = json.dumps(snapshot(acme.account_id))
    ours = signed(body).split(",")[1]
    theirs = signed(body, "whsec_of_tomorrow")
    header = {"Stripe-Signature": f"{theirs},v0=00,{ours}"}
    assert outcome(caller.post(WEBHOOK, data=body, headers=header)) == "taken"


def test_test_mode_is_apart(session: Session, caller: FlaskClient, acme: Connected) -> None:
    event = snapshot(acme.account_id, livemode=False)
    assert outcome(deliver(caller, event, TEST)) == "taken"
    assert outcome(deliver(caller, event | {"livemode": True})) == "taken"
    assert {row.mode for row in deliveries(session, acme.tenant_id)} == {"live", "test"}


@pytest.mark.parametrize(("livemode", "secret"), [(True, TEST), (False, LIVE)])
def test_an_event_of_the_other_mode_is_refused(
    session: Session, caller: FlaskClient, acme: Connected, livemode: bool, secret: str
) -> None:
    event = snapshot(acme.account_id, livemode=livemode)
    assert "secret for" in assert_problem(deliver(caller, event, secret), 400)
    assert deliveries(session, acme.tenant_id) == []


@pytest.fixture
def body(acme: Connected) -> str:
    return json.dumps(snapshot(acme.account_id))


FORGERIES: dict[str, Callable[[str], str | None]] = {
    "missing": lambda body: None,
    "empty": lambda body: "",
    "no scheme": lambda body: "abc",
    "no time": lambda body: signed(body).partition(",")[2],
    "two times": lambda body: f"t=1,{signed(body)}",
    "no signature": lambda body: signed(body).partition(",")[0],
    "only v0": lambda body: signed(body).replace("v1=", "v0="),
    "no number": lambda body: f"t=soon,{signed(body).partition(',')[2]}",
    "a negative number": lambda body: f"t=-{signed(body)[2:]}",
    "a number of a thousand digits": lambda body: f"t={'9' * 1000},v1=00",
    "a number in other digits": lambda body: f"t=\u0661,{signed(body).partition(',')[2]}",
    "unknown secret": lambda body: signed(body, "whsec_forged"),
    "no secret": lambda body: signed(body, ""),
    "another body": lambda body: signed(body + " "),
    "another time": lambda body: signed(body).replace("t=", "t=1", 1),
    "not hex": lambda body: f"t={int(time.time())},v1=\u00e9",
    "replayed": lambda body: signed(body, at=time.time() - 301),
    "of yesterday": lambda body: signed(body, at=time.time() - 86_400),
    "of the future": lambda body: signed(body, at=time.time() + 90),
    "of next year": lambda body: signed(body, at=time.time() + 31_536_000),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_stripe_did_not_just_sign_is_refused(
    session: Session, caller: FlaskClient, acme: Connected, body: str, forgery: str
) -> None:
    header = FORGERIES[forgery](body)
    # As a server hands it on: the bytes of the line, read as Latin-1.
    latin = None if header is None else header.encode().decode("latin-1")
    environ = {} if latin is None else {"HTTP_STRIPE_SIGNATURE": latin}
    answer = caller.post(WEBHOOK, data=body, environ_overrides=environ)
    detail = assert_problem(answer, 400)
    assert "signature" in detail.lower()
    assert "whsec" not in answer.get_data(as_text=True)
    assert deliveries(session, acme.tenant_id) == []


@pytest.mark.parametrize("seconds", [-299, -1, 0, 59])
def test_clocks_may_differ_a_little(caller: FlaskClient, acme: Connected, seconds: int) -> None:
    event = snapshot(acme.account_id)
    assert outcome(deliver(caller, event, at=time.time() + seconds)) == "taken"


def test_the_signature_is_the_librarys(now: datetime) -> None:
    """Whatever the library signs is believed, byte by byte, and nothing that it would not."""
    for body in ("{}", '{"a": "é"}', " ", "\u2028"):
        header = signed(body, at=now.timestamp())
        assert mode_of(body.encode(), header, {"test": [LIVE]}, now=now) == "test"
        assert stripe.WebhookSignature.verify_header(body, header, LIVE, tolerance=None)
        with pytest.raises(SignatureError, match="no webhook secret"):
            mode_of(body.encode() + b"x", header, {"test": [LIVE]}, now=now)


def test_without_secrets_nothing_is_believed(
    shut: FlaskClient, session: Session, acme: Connected
) -> None:
    for secret in ("", LIVE):
        assert_problem(deliver(shut, snapshot(acme.account_id), secret), 400)
    assert deliveries(session, acme.tenant_id) == []


BROKEN: dict[str, str | bytes] = {
    "nothing": "",
    "no JSON": "{",
    "no UTF-8": b'{"id": "\xff"}',
    "nested": "[" * 100_000,
    "a list": "[]",
    "no event": '{"object": "customer", "id": "cus_1"}',
    "no object": '{"id": "evt_1", "type": "price.updated", "livemode": true}',
    "no id": '{"object": "event", "type": "price.updated", "livemode": true}',
    "no type": '{"object": "event", "id": "evt_1", "livemode": true}',
    "no mode": '{"object": "event", "id": "evt_1", "type": "price.updated"}',
    "a mode of text": (
        '{"object": "event", "id": "evt_1", "type": "price.updated", "livemode": "false"}'
    ),
    "an id of a number": (
        '{"object": "event", "id": 1, "type": "price.updated", "livemode": true}'
    ),
    "an id with NUL": (
        '{"object": "event", "id": "e\\u0000", "type": "price.updated", "livemode": true}'
    ),
    "an id without end": json.dumps(snapshot(None, id="e" * 300)),
    "an object's id with a path": json.dumps(snapshot(None, data={"object": {"id": "../x"}})),
    "an account that is none": json.dumps(snapshot(None) | {"account": {"id": "acct_1"}}),
    "an account with a lone surrogate": json.dumps(snapshot("acct_\ud800")),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_event_is_refused(session: Session, caller: FlaskClient, broken: str) -> None:
    content = BROKEN[broken]
    raw = content.encode() if isinstance(content, str) else content
    text_of = raw.decode("utf-8", errors="replace")
    if broken == "no UTF-8":
        # The library signs text only; a signature of other bytes is one of ours.
        with pytest.raises(InvalidInputError, match="not JSON"):
            webhooks.read(raw)
        return
    before = row_counts(session)
    answer = caller.post(WEBHOOK, data=raw, headers={"Stripe-Signature": signed(text_of)})
    assert_problem(answer, 400)
    assert row_counts(session) == before


def test_a_body_has_an_end(caller: FlaskClient) -> None:
    body = "x" * (MAX_BODY_BYTES + 1)
    answer = caller.post(WEBHOOK, data=body, headers={"Stripe-Signature": signed(body)})
    assert "1 MiB" in assert_problem(answer, 413)
    assert_problem(caller.post(WEBHOOK, data=body[:-1]), 400)


def test_a_query_is_refused(caller: FlaskClient, acme: Connected) -> None:
    body = json.dumps(snapshot(acme.account_id))
    answer = caller.post(
        f"{WEBHOOK}?tenantId=x", data=body, headers={"Stripe-Signature": signed(body)}
    )
    assert_problem(answer, 422)


def test_a_second_delivery_changes_nothing(
    session: Session, caller: FlaskClient, acme: Connected, now: datetime
) -> None:
    event = snapshot(acme.account_id)
    assert outcome(deliver(caller, event)) == "taken"
    assert outcome(deliver(caller, event)) == "waiting", "not handled yet: it is tried again"
    with unit_of_work(session):
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.tenant_id == acme.tenant_id)
            .values(handled_at=now, due_at=None)
        )
    assert outcome(deliver(caller, event)) == "duplicate"
    (row,) = deliveries(session, acme.tenant_id)
    assert row.handled_at == now


def test_deliveries_at_once_are_one(session: Session, door: Flask, acme: Connected) -> None:
    event, seen = snapshot(acme.account_id), []
    start = threading.Barrier(8)

    def send() -> None:
        client = door.test_client()
        start.wait()
        seen.append(outcome(deliver(client, event)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["taken"] + ["waiting"] * 7
    assert len(deliveries(session, acme.tenant_id)) == 1


def test_an_event_without_an_account_is_of_the_keys_own(
    session: Session, caller: FlaskClient, now: datetime
) -> None:
    assert outcome(deliver(caller, snapshot(None))) == "unknown_account"
    acme = connect(session, now=now)
    with unit_of_work(session):
        session.add(
            AccountBinding(account_id=OWN, tenant_id=acme.tenant_id, bound_at=now, bound_by="test")
        )
    assert outcome(deliver(caller, snapshot(None))) == "taken"
    assert outcome(deliver(caller, thin(None))) == "taken"
    assert {row.account_id for row in deliveries(session, acme.tenant_id)} == {OWN}
    with unit_of_work(session):
        session.execute(text("DELETE FROM account_bindings WHERE account_id = :a"), {"a": OWN})


def test_an_account_that_nobody_uses_is_dropped_with_a_200(
    session: Session, caller: FlaskClient, acme: Connected
) -> None:
    before = row_counts(session)
    assert outcome(deliver(caller, snapshot("acct_of_nobody"))) == "unknown_account"
    assert row_counts(session) == before
    shown = caller.get("/metrics")
    assert shown.status_code == 403, "counted, but not shown to everybody"


def test_an_event_reaches_only_whose_account_it_is(
    session: Session, caller: FlaskClient, acme: Connected, now: datetime
) -> None:
    other = connect(session, now=now)
    event = snapshot(acme.account_id)
    deliver(caller, event)
    assert deliveries(session, other.tenant_id) == []
    # The same id from another account is another event.
    assert outcome(deliver(caller, event | {"account": other.account_id})) == "taken"
    assert len(deliveries(session, acme.tenant_id)) == 1


def test_what_is_of_no_use_is_not_kept(
    session: Session, caller: FlaskClient, acme: Connected
) -> None:
    for type in ("charge.succeeded", "invoice.upcoming", "v2.core.health.updated", "v1.v1.x"):
        event = snapshot(acme.account_id, type=type, data={"object": {"object": "thing"}})
        assert outcome(deliver(caller, event)) == "ignored"
    no_id = snapshot(acme.account_id, data={"object": {"object": "subscription"}})
    assert outcome(deliver(caller, no_id)) == "ignored"
    assert deliveries(session, acme.tenant_id) == []


def test_thin_events_are_taken(session: Session, caller: FlaskClient, acme: Connected) -> None:
    report = thin(f"org_1/{acme.account_id}")
    missing = thin(acme.account_id, type="v1.billing.meter.no_meter_found", related_object=None)
    for event in (report, missing):
        assert outcome(deliver(caller, event)) == "taken"
    rows = {row.event_id: row for row in deliveries(session, acme.tenant_id)}
    assert rows[report["id"]].object_id == "mtr_1"
    assert rows[missing["id"]].object_id is None
    assert {row.account_id for row in rows.values()} == {acme.account_id}


def test_a_report_in_the_old_form_is_taken_too(caller: FlaskClient, acme: Connected) -> None:
    event = snapshot(
        acme.account_id, type="billing.meter.error_report_triggered", data={"object": {}}
    )
    assert outcome(deliver(caller, event)) == "taken"


def test_an_event_is_handled_by_one_at_a_time_and_ever_more_rarely(
    session: Session, caller: FlaskClient, acme: Connected, now: datetime
) -> None:
    event = snapshot(acme.account_id)
    deliver(caller, event)
    pauses = []
    at = now + timedelta(minutes=1)
    for _ in range(10):
        with unit_of_work(session):
            claimed = webhooks.claim(session, acme.tenant_id, "live", event["id"], now=at)
            assert claimed is not None
            assert (claimed.subject, claimed.object_id) == ("subscription", "sub_1")
            assert webhooks.claim(session, acme.tenant_id, "live", event["id"], now=at) is None
        with unit_of_work(session):
            webhooks.fail(session, claimed, "Stripe is away")
        (row,) = deliveries(session, acme.tenant_id)
        assert row.error == "Stripe is away"
        assert row.due_at is not None
        pauses.append(row.due_at - at)
        at = row.due_at
    assert pauses[0] == timedelta(minutes=1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(hours=1)
    with unit_of_work(session):
        webhooks.finish(session, claimed, asked_at=at, now=at)
    (row,) = deliveries(session, acme.tenant_id)
    assert (row.handled_at, row.due_at, row.error) == (at, None, None)


def test_an_answer_settles_all_that_came_before_it_was_asked_for(
    session: Session, caller: FlaskClient, acme: Connected, now: datetime
) -> None:
    first = snapshot(acme.account_id)
    same = snapshot(acme.account_id, type="customer.subscription.created")
    another = snapshot(acme.account_id, data={"object": {"id": "sub_2"}})
    for event in (first, same, another):
        deliver(caller, event)
    at = now + timedelta(minutes=1)
    with unit_of_work(session):
        claimed = webhooks.claim(session, acme.tenant_id, "live", first["id"], now=at)
        assert claimed is not None
        webhooks.finish(session, claimed, asked_at=at, now=at)
    handled = {row.event_id for row in deliveries(session, acme.tenant_id) if row.handled_at}
    assert handled == {first["id"], same["id"]}
    # What came while Stripe was being asked may tell of something newer.
    newer = snapshot(acme.account_id, data={"object": {"id": "sub_2"}})
    deliver(caller, newer)
    with unit_of_work(session):
        claimed = webhooks.claim(session, acme.tenant_id, "live", another["id"], now=at)
        assert claimed is not None
        webhooks.finish(session, claimed, asked_at=now - timedelta(minutes=1), now=at)
    handled = {row.event_id for row in deliveries(session, acme.tenant_id) if row.handled_at}
    assert newer["id"] not in handled


def test_an_account_that_has_changed_hands_is_not_asked_about(
    session: Session, caller: FlaskClient, acme: Connected, now: datetime
) -> None:
    event = snapshot(acme.account_id)
    deliver(caller, event)
    with unit_of_work(session):
        session.execute(
            text("DELETE FROM account_bindings WHERE account_id = :a"), {"a": acme.account_id}
        )
    with unit_of_work(session):
        at = now + timedelta(minutes=1)
        assert webhooks.claim(session, acme.tenant_id, "live", event["id"], now=at) is None
    (row,) = deliveries(session, acme.tenant_id)
    assert row.handled_at == at
    assert "not bound" in str(row.error)
