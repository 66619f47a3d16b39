"""GET /v1/events/walk: the contract's form, its door and its refusals."""

from datetime import datetime

from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.stripe_setup import connect, priced
from tests.support import entry, fold_all, put
from tests.webapp.support import assert_problem, bearer, make_key

WALK = "/v1/events/walk"


def test_an_event_is_walked(client: FlaskClient, session: Session, now: datetime) -> None:
    acme = priced(session, connect(session, now=now), is_active=True)
    put(session, acme.tenant_id, [entry("e 1/ä", "0.50", meta='{"a": 1.10}', source="api")])
    fold_all(session, acme.tenant_id)
    answer = client.get(WALK, query_string={"tenantId": acme.tenant_id, "id": "e 1/ä"})
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert body["event"]["id"] == "e 1/ä"
    assert '"meta":{"a": 1.10}' in answer.text
    assert body["status"] == body["event"]["status"] == "counted"
    assert [step["step"] for step in body["steps"]] == ["received", "ledger", "counter"]
    ledger, counter = body["steps"][1:]
    assert ledger["facts"]["quantity"] == "0.5"
    assert ledger["facts"]["occurredAt"] == "2026-11-10T12:00:00Z"
    assert counter["facts"]["periodStart"] == "2026-11-01T00:00:00Z"
    assert counter["facts"]["total"] == "0.5"
    [lane] = body["lanes"]
    assert (lane["lane"], lane["mode"]) == ("live", "live")
    steps = [step["step"] for step in lane["steps"]]
    assert steps == ["price", "push", "acceptance", "invoice"]
    assert body["firstNotDone"] == lane["firstNotDone"]
    # The sandbox of the tests has no live key.
    assert body["firstNotDone"] == {
        "step": "push",
        "status": "stopped",
        "sentence": "It is not sent to Stripe: there is no live key.",
    }
    assert lane["steps"][1]["facts"]["wayOut"] == "set STRIPE_LIVE_KEY"


def test_a_walk_needs_an_event_and_the_scope(
    client: FlaskClient, shut: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    put(session, tenant, [entry("e")])
    of = {"tenantId": tenant}
    assert_problem(client.get(WALK, query_string=of), 422, pointer="/id")
    detail = assert_problem(client.get(WALK, query_string=of | {"id": "never"}), 404)
    assert "no event with this id" in detail
    other = make_key(session, tenant, ["usage:read"], now=now)
    asked = shut.get(WALK, query_string={"id": "e"}, headers=bearer(other))
    assert "events:read" in assert_problem(asked, 403)
