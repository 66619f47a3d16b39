"""/v1/stripe: where a tenant stands, what is stuck, trying again, and the shadow report."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from metering.catalog import customers
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe.claims import Outcome
from metering.stripe.shadow import Side
from metering.stripe.standing import Standing
from tests.stripe_setup import Connected, FakeStripe, connect, priced, push_all, push_once
from tests.support import entry, put
from tests.webapp.support import assert_problem, bearer, make_key
from webapp.queues import push_flag
from webapp.stripe_state import sentences


@pytest.fixture
def acme(session: Session, now: datetime) -> Connected:
    return priced(session, connect(session, now=now))


def use(
    session: Session, to: Connected, quantity: object, at: datetime, customer: str = "cus_1"
) -> None:
    put(session, to.tenant_id, [entry(f"{customer}-{quantity}", quantity, at, customer=customer)])
    with unit_of_work(session):
        fold.fold(session, to.tenant_id, now=at)


def ask(client: FlaskClient, to: Connected, what: str, **query: object) -> Any:
    answer = client.get(f"/v1/stripe/{what}", query_string={"tenantId": to.tenant_id} | query)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def retry(client: FlaskClient, to: Connected, name: str) -> bool:
    answer = client.post("/v1/stripe/retry", json={"tenantId": to.tenant_id, "id": name})
    assert answer.status_code == 200, answer.text
    retried: bool = answer.get_json()["retried"]
    return retried


def test_of_a_tenant_without_stripe_it_says_so(client: FlaskClient, tenant: str) -> None:
    answer = client.get("/v1/stripe/status", query_string={"tenantId": tenant}).get_json()
    assert answer["sentence"] == "Nothing goes to Stripe yet."
    assert [mode["mode"] for mode in answer["modes"]] == ["live", "test"]
    found = client.get("/v1/stripe/stuck", query_string={"tenantId": tenant}).get_json()
    assert found == {"total": 0, "atStake": [], "stuck": [], "nextCursor": None}


def test_the_status_counts_what_waits(
    client: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    use(session, acme, 3, now)
    put(session, acme.tenant_id, [entry("later", 1, now)])
    answer = ask(client, acme, "status")
    assert answer["sentence"] == "Nothing is stuck; 1 segment waits to be sent."
    assert answer["unfolded"] == 1
    live = answer["modes"][0]
    assert (live["mappings"], live["unsent"], live["onTheWay"], live["atStake"]) == (1, 1, 0, [])
    push_all(session, acme, FakeStripe(), now=now)
    answer = ask(client, acme, "status")
    assert answer["sentence"] == "Nothing is stuck; 1 push waits to be confirmed."
    assert answer["modes"][0]["lastAnswerAt"]


def test_what_is_stuck_is_listed_by_money_and_paged(
    client: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    for customer, quantity in (("a", 110), ("b", 500), ("c", 220)):
        use(session, acme, quantity, now, customer)
    push_all(session, acme, FakeStripe(), now=now)
    first = ask(client, acme, "stuck", limit=2)
    assert (first["total"], len(first["stuck"])) == (3, 2)
    assert first["atStake"] == [{"currency": "usd", "amount": "265.00", "amountMinor": 26500}]
    worst = first["stuck"][0]
    assert worst["sources"] == [{"customerRef": "b", "metric": "api_calls"}]
    assert (worst["kind"], worst["cause"], worst["mode"]) == ("held", "unmapped", "live")
    assert (worst["quantity"], worst["amount"], worst["currency"]) == ("500", "200.00", "usd")
    assert worst["mayRetry"] is True
    assert worst["wayOut"].startswith("set its stripeCustomerId at /v1/customers")
    rest = ask(client, acme, "stuck", limit=2, cursor=first["nextCursor"])
    assert [each["amount"] for each in rest["stuck"]] == ["5.00"]
    assert rest["nextCursor"] is None
    assert ask(client, acme, "stuck", kind="blocked")["total"] == 0
    assert ask(client, acme, "stuck", mode="test")["total"] == 0
    said = ask(client, acme, "status")["sentence"]
    assert said == "3 customers need a decision ($265.00 at stake)."


def test_trying_again_wakes_the_push_job_and_may_be_asked_twice(
    client: FlaskClient, session: Session, acme: Connected, now: datetime, redis_url: str
) -> None:
    stripe = FakeStripe()
    use(session, acme, 150, now, "globex")
    push_all(session, acme, stripe, now=now)
    with unit_of_work(session):
        customers.edit(session, acme.tenant_id, "globex", {"stripe_customer_id": "cus_9"}, now=now)
    [found] = ask(client, acme, "stuck")["stuck"]
    with redis.Redis.from_url(redis_url) as connection:
        assert not connection.exists(push_flag(acme.tenant_id))
        assert retry(client, acme, found["id"])
        assert connection.exists(push_flag(acme.tenant_id))
    assert retry(client, acme, found["id"])
    push_all(session, acme, stripe, now=now + timedelta(minutes=1))
    assert stripe.total("cus_9") == 150
    assert not retry(client, acme, found["id"])


def test_every_kind_can_be_named(
    client: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    stripe = FakeStripe()
    use(session, acme, 120, now)
    stripe.next = [Outcome("rejected", "No such customer", status=400)]
    push_once(session, acme, stripe, now=now)
    use(session, acme, 130, now, "cus_2")
    stripe.next = [Outcome("duplicate", "An event already exists", status=400)]
    push_once(session, acme, stripe, now=now)
    use(session, acme, 140, now, "cus_3")
    stripe.next = [Outcome("auth", "Invalid API Key", status=401)]
    push_once(session, acme, stripe, now=now)
    use(session, acme, 9, now - timedelta(days=36), "cus_4")
    found = {each["kind"]: each for each in ask(client, acme, "stuck")["stuck"]}
    assert set(found) == {"blocked", "doubtful", "halted"}
    assert found["halted"]["account"] == acme.account_id
    assert found["blocked"]["stripeCustomer"] == "cus_1"
    assert found["blocked"]["meterEventName"] == "api_calls"
    tried = {kind: retry(client, acme, each["id"]) for kind, each in found.items()}
    assert tried == {"blocked": True, "doubtful": False, "halted": True}
    said = ask(client, acme, "status")["sentence"]
    assert "1 customer needs a decision ($10.00 at stake)." in said
    assert f"Stripe does not accept the live key: nothing of {acme.account_id} is sent" in said
    assert "Of 1 push only Stripe's own total will tell whether it has it." in said


@pytest.mark.parametrize(
    "name", ["", "x", "W10=", "WyJoZWxkIiwgImxpdmUiXQ==", "WyJhIiwiYiIsImMiLCJkIl0="]
)
def test_a_name_that_is_not_ours_is_refused(
    client: FlaskClient, acme: Connected, name: str
) -> None:
    answer = client.post("/v1/stripe/retry", json={"tenantId": acme.tenant_id, "id": name})
    assert_problem(answer, 422, pointer="/id")


def test_looking_is_not_trying(
    shut: FlaskClient, session: Session, acme: Connected, now: datetime
) -> None:
    looks = bearer(make_key(session, acme.tenant_id, ["reconciliation:read"], now=now))
    assert shut.get("/v1/stripe/stuck", headers=looks).status_code == 200
    answer = shut.post("/v1/stripe/retry", json={"id": "x"}, headers=looks)
    assert "reconciliation:write" in assert_problem(answer, 403)


def test_the_shadow_report_compares_live_shadow_and_local(
    client: FlaskClient, session: Session, now: datetime
) -> None:
    acme = priced(session, connect(session, now=now), is_active=True, is_shadow=True)
    with unit_of_work(session):
        told = {"shadow_stripe_customer_id": "cus_t1"}
        customers.edit(session, acme.tenant_id, "cus_1", told, now=now)
    at = datetime(now.year, now.month, 1, tzinfo=UTC)
    use(session, acme, 7, at)
    use(session, acme, 5, at, "cus_2")
    push_all(session, acme, FakeStripe(), now=now)
    found = ask(client, acme, "shadow-report", limit=1)
    assert found["period"] == f"{now:%Y-%m}"
    [total] = found["sums"]
    assert (total["rows"], total["local"], total["live"]["pushed"]) == (2, "12", "12")
    assert (total["shadow"]["pushed"], total["shadow"]["difference"]) == ("7", "-5")
    assert found["sumsAreComplete"] is True
    [row] = found["rows"]
    assert row["inWords"] == "Live and shadow hold all of it."
    [other] = ask(client, acme, "shadow-report", cursor=found["nextCursor"])["rows"]
    assert (other["customerRef"], other["shadow"]["state"]) == ("cus_2", "held")
    assert other["inWords"] == "Live holds all of it; shadow is held: lacks 5."
    assert ask(client, acme, "shadow-report", period="2026-01")["rows"] == []
    file = client.get("/v1/stripe/shadow-report.csv", query_string={"tenantId": acme.tenant_id})
    assert file.mimetype == "text/csv"
    lines = list(csv.DictReader(io.StringIO(file.text)))
    assert [line["customerRef"] for line in lines] == ["cus_1", "cus_2"]
    assert lines[1]["shadow difference"] == "-5"
    for month in ("2026-13", "26-01", "2026-1", "x"):
        answer = client.get(
            "/v1/stripe/shadow-report",
            query_string={"tenantId": acme.tenant_id, "period": month},
        )
        assert_problem(answer, 422, pointer="/period")


def test_words_for_what_waits_and_is_confirmed() -> None:
    calm = Standing("live", mappings=1)
    assert sentences.of_mode(calm, []) == "Nothing was pushed yet, and nothing waits."
    proven = Standing("live", mappings=1, confirmed=9)
    assert sentences.of_mode(proven, []) == "All pushed usage is confirmed."
    busy = Standing("live", mappings=1, unsent=1200, on_the_way=2, unconfirmed=1, confirmed=9)
    assert sentences.of_mode(busy, []) == (
        "Nothing is stuck; 1,200 segments wait to be sent, 2 pushes to be answered and 1 push to be"
        " confirmed."
    )
    assert sentences.of_mode(Standing("test"), []) == "Nothing goes to Stripe in this mode."
    assert sentences.side(Side("off")) == "is not sent"
