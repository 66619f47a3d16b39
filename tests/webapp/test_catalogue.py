"""Metrics and customers: made at first sight, edited by name, and nothing else changed by it."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.counters import unique
from metering.database import unit_of_work
from tests.stripe_setup import FakeStripe, add_mapping, add_meter, push_all
from tests.stripe_setup import connect as connect_stripe
from tests.support import entry, fold_all, put
from tests.webapp.support import assert_problem, event, incompressible, ingest, statuses, stored
from webapp.queues import connect

METRICS, CUSTOMERS = "/v1/metrics", "/v1/customers"


def test_a_metric_is_made_at_first_sight_with_the_contracts_defaults(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    asked = {"tenantId": tenant}
    assert_problem(client.get(f"{METRICS}/api_calls", query_string=asked), 404)
    put(session, tenant, [entry("a"), entry("b", metric="zz")])
    fold_all(session, tenant)
    shown = client.get(f"{METRICS}/api_calls", query_string=asked).get_json()
    assert shown == {
        "metric": "api_calls",
        "displayName": None,
        "unit": None,
        "aggregation": "sum",
        "latenessSeconds": 172_800,
        "latePolicy": "period",
        "unique": False,
        "uniqueComplete": False,
        "carryOver": False,
    }
    listed = client.get(METRICS, query_string=asked).get_json()
    assert [metric["metric"] for metric in listed["metrics"]] == ["api_calls", "zz"]
    assert listed["metrics"][0] == shown


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_is_not_named_stays(client: FlaskClient, tenant: str, method: str) -> None:
    url = f"{METRICS}/größe %2525"
    first = {
        "displayName": "Größe", "unit": "MB", "aggregation": "max", "latenessSeconds": 0,
        "latePolicy": "age", "carryOver": True,
    }  # fmt: skip
    made = client.open(url, method=method, json={"tenantId": tenant} | first)
    assert made.status_code == 200
    assert first.items() <= made.get_json().items()
    assert made.get_json()["metric"] == "größe %25"
    edited = client.open(url, method=method, json={"tenantId": tenant, "unit": None})
    assert edited.get_json() == made.get_json() | {"unit": None}
    read = client.get(url, query_string={"tenantId": tenant})
    assert read.get_json() == edited.get_json()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"aggregation": "avg"}, "/aggregation"),
        ({"aggregation": None}, "/aggregation"),
        ({"latePolicy": "never"}, "/latePolicy"),
        ({"latenessSeconds": -1}, "/latenessSeconds"),
        ({"latenessSeconds": 10**12}, "/latenessSeconds"),
        ({"latenessSeconds": 1.5}, "/latenessSeconds"),
        ({"latenessSeconds": "60"}, "/latenessSeconds"),
        ({"latenessSeconds": True}, "/latenessSeconds"),
        ({"unique": "yes"}, "/unique"),
        ({"unique": None}, "/unique"),
        ({"displayName": "x" * 201}, "/displayName"),
        ({"unit": "a\0"}, "/unit"),
        ({"unit": "\ud800"}, "/unit"),
        ({"metric": "other"}, "/metric"),
        ({"uniqueFilledTo": None}, "/uniqueFilledTo"),
        ({"createdAt": None}, "/createdAt"),
        ({"aggregation": "unique", "unique": False}, "/unique"),
    ],
)
def test_a_bad_change_of_a_metric_changes_nothing(
    client: FlaskClient, session: Session, tenant: str, change: dict[str, object], pointer: str
) -> None:
    before = stored(session, tenant)
    body = {"tenantId": tenant, "displayName": "Good"} | change
    assert_problem(client.put(f"{METRICS}/m", json=body), 422, pointer=pointer)
    assert stored(session, tenant) == before


@pytest.mark.parametrize("change", [{"unique": 1}, {"carryOver": 0}, {"unique": 1.0}])
def test_a_number_is_no_switch(client: FlaskClient, tenant: str, change: dict[str, object]) -> None:
    # The document says boolean; in Python 1 == True.
    assert_problem(client.put(f"{METRICS}/m", json={"tenantId": tenant} | change), 422)


@pytest.mark.parametrize("switch", [{"unique": True}, {"aggregation": "unique"}])
def test_unique_counts_switched_on_late_are_completed(
    client: FlaskClient, session: Session, tenant: str, switch: dict[str, object], redis_url: str
) -> None:
    put(session, tenant, [entry("a", resource="r1"), entry("b", resource="r2")])
    fold_all(session, tenant)
    queue = connect(redis_url)
    before = queue.llen("rq:queue:bulk")
    url = f"{METRICS}/api_calls"
    shown = client.put(url, json={"tenantId": tenant} | switch).get_json()
    assert (shown["unique"], shown["uniqueComplete"]) == (True, False)
    assert queue.llen("rq:queue:bulk") == before + 1
    queue.close()
    while True:
        with unit_of_work(session):
            if not unique.fill(session, tenant, "api_calls", now=datetime.now(UTC)):
                break
    shown = client.put(url, json={"tenantId": tenant, "aggregation": "unique"}).get_json()
    assert shown["uniqueComplete"] is True
    now = client.get(
        "/v1/usage/history",
        query_string={"tenantId": tenant, "metric": "api_calls", "since": "2026-11-10T00:00:00Z",
                      "until": "2026-11-11T00:00:00Z"},
    ).get_json()  # fmt: skip
    assert now["totals"] == {"value": "2"}
    off = client.put(url, json={"tenantId": tenant, "unique": False})
    assert_problem(off, 422, pointer="/unique")
    off = client.put(url, json={"tenantId": tenant, "unique": False, "aggregation": "sum"})
    assert (off.get_json()["unique"], off.get_json()["uniqueComplete"]) == (False, False)


def test_the_longest_names_of_the_contract_can_be_counted(
    client: FlaskClient, session: Session
) -> None:
    # An index takes 2,704 bytes a row. A fold that Postgres refuses for that would never get past
    # the event, nor would any later tenant of the shard.
    alphabet = [chr(code) for code in range(0x20000, 0x2A000)]
    tenant, metric, ref, resource = (
        incompressible(length, alphabet=alphabet, seed=length) for length in (128, 100, 255, 254)
    )
    edited = client.put(f"{METRICS}/{quote(metric)}", json={"tenantId": tenant, "unique": True})
    assert edited.status_code == 200
    longest = event(tenant, metric=metric, customerRef=ref, resourceId=resource)
    assert statuses(ingest(client, [longest])) == ["accepted"]
    try:
        assert fold_all(session, tenant) == 1
    finally:
        session.rollback()
        session.execute(text("DELETE FROM unfolded WHERE tenant_id = :t"), {"t": tenant})
        session.commit()


def customer(client: FlaskClient, tenant: str, ref: str, **changes: object) -> dict:
    answer = client.put(f"{CUSTOMERS}/{ref}", json={"tenantId": tenant} | changes)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_ref_that_looks_like_stripes_is_itself(client: FlaskClient, tenant: str) -> None:
    looks = customer(client, tenant, "cus_ABC", name="A")
    assert (looks["stripeCustomerId"], looks["state"]) == ("cus_ABC", "mapped")
    unknown = customer(client, tenant, "acme")
    assert (unknown["stripeCustomerId"], unknown["state"]) == (None, "unmapped")
    told = customer(client, tenant, "acme", stripeCustomerId="cus_1", stripeAccount="acct_1")
    assert told == {
        "customerRef": "acme", "name": None, "stripeCustomerId": "cus_1",
        "shadowStripeCustomerId": None, "stripeAccount": "acct_1", "state": "mapped",
    }  # fmt: skip
    other = customer(client, tenant, "cus_ABC", stripeCustomerId="cus_2")
    assert (other["stripeCustomerId"], other["name"]) == ("cus_2", "A")
    assert customer(client, tenant, "cus_ABC", stripeCustomerId=None)["stripeCustomerId"] == (
        "cus_ABC"
    )


def test_who_a_customer_is_in_stripe_lets_what_waited_for_it_go(
    client: FlaskClient, session: Session, now: datetime
) -> None:
    made, stripe = connect_stripe(session, now=now), FakeStripe()
    for mode in ("live", "test"):
        add_meter(session, made, "api_calls", mode=mode)
    add_mapping(session, made, is_active=True, is_shadow=True)
    hour = now.replace(minute=0, second=0, microsecond=0)
    put(session, made.tenant_id, [entry("a", 3, hour, customer="acme")])
    fold_all(session, made.tenant_id)
    push_all(session, made, stripe, now=now)
    assert stripe.calls == []
    ids = {"stripeCustomerId": "cus_1", "shadowStripeCustomerId": "cus_t"}
    assert customer(client, made.tenant_id, "acme", **ids).items() >= ids.items()
    later = push_all(session, made, stripe, now=now + timedelta(minutes=1))
    assert (stripe.total("cus_1"), stripe.total("cus_t")) == (3, 3)
    customer(client, made.tenant_id, "acme", stripeCustomerId="cus_2")
    push_all(session, made, stripe, now=later + timedelta(minutes=1))
    assert (stripe.total("cus_1"), stripe.total("cus_2"), stripe.total("cus_t")) == (0, 3, 3)


def test_usage_makes_a_customer_known(client: FlaskClient, session: Session, tenant: str) -> None:
    asked = {"tenantId": tenant}
    assert_problem(client.get(f"{CUSTOMERS}/acme", query_string=asked), 404)
    put(session, tenant, [entry("a", customer="acme")])
    fold_all(session, tenant)
    shown = client.get(f"{CUSTOMERS}/acme", query_string=asked).get_json()
    assert shown["state"] == "unmapped"


def test_customers_are_listed_once_each_in_pages(
    client: FlaskClient, session: Session, tenant: str
) -> None:
    refs = [f"c{i}" for i in range(12)] + ["Zoë", "😀", "a/b", " "]
    put(session, tenant, [entry(f"k{ref}", customer=ref) for ref in refs])
    fold_all(session, tenant)
    for ref in ("c3", "told only"):
        customer(client, tenant, ref, name="N")
    seen, asked = [], {"tenantId": tenant, "limit": 5}
    while True:
        page = client.get(CUSTOMERS, query_string=asked).get_json()
        seen += [shown["customerRef"] for shown in page["customers"]]
        if page["nextCursor"] is None:
            break
        asked["cursor"] = page["nextCursor"]
    assert seen == sorted({*refs, "told only"}, key=str.encode)


@pytest.mark.parametrize("ref", ["org/123", "a//b", "/", "//", "/a", "cus_1/", "a\nb", "..", "?#%"])
def test_whatever_name_ingest_takes_can_be_reached(
    client: FlaskClient, session: Session, tenant: str, ref: str
) -> None:
    # %2F is a slash again before the router sees it, and Werkzeug's own <path:> takes neither a
    # leading slash nor a line break.
    put(session, tenant, [entry("a", customer=ref, metric=ref)])
    fold_all(session, tenant)
    for url in (f"{CUSTOMERS}/{quote(ref, safe='')}", f"{METRICS}/{quote(ref, safe='')}"):
        answer = client.get(url, query_string={"tenantId": tenant})
        assert answer.status_code == 200
        assert ref in answer.get_json().values()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"stripeCustomerId": "acme"}, "/stripeCustomerId"),
        ({"stripeCustomerId": "xcus_1"}, "/stripeCustomerId"),
        ({"stripeCustomerId": ""}, "/stripeCustomerId"),
        ({"stripeCustomerId": "cus_" + "x" * 252}, "/stripeCustomerId"),
        ({"stripeAccount": "cus_1"}, "/stripeAccount"),
        ({"name": "n" * 201}, "/name"),
        ({"name": 5}, "/name"),
        ({"customerRef": "other"}, "/customerRef"),
        ({"state": "mapped"}, "/state"),
    ],
)
def test_a_bad_change_of_a_customer_changes_nothing(
    client: FlaskClient, session: Session, tenant: str, change: dict[str, object], pointer: str
) -> None:
    before = stored(session, tenant)
    body = {"tenantId": tenant, "name": "Good"} | change
    assert_problem(client.patch(f"{CUSTOMERS}/acme", json=body), 422, pointer=pointer)
    assert stored(session, tenant) == before


@pytest.mark.parametrize(("url", "most"), [(METRICS, 100), (CUSTOMERS, 255)])
def test_names_in_the_path_are_checked(
    client: FlaskClient, tenant: str, url: str, most: int
) -> None:
    asked = {"query_string": {"tenantId": tenant}}
    assert_problem(client.get(f"{url}/{'é' * most}", **asked), 404)
    for bad in ("é" * (most + 1), "a%00b"):
        assert_problem(client.get(f"{url}/{bad}", **asked), 422)
        assert_problem(client.put(f"{url}/{bad}", json={"tenantId": tenant}), 422)
