"""/v1/mappings: what a metric costs, from when to when; and what may not be said."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from tests.support import scalar
from tests.webapp.support import AppMaker, Clock, assert_problem, bearer, make_key, stored

MAPPINGS = "/v1/mappings"
NOW = datetime(2026, 4, 16, 10, 20, 30, tzinfo=UTC)
HALF_A_CENT = {"model": "per_unit", "currency": "usd", "unitPrice": "0.005"}
TIERED: dict[str, Any] = {
    "model": "tiered",
    "currency": "usd",
    "tiers": [{"upTo": 100, "unitPrice": 0.1}, {"upTo": None, "unitPrice": 0.05, "flatPrice": 2}],
}
STRIPES: dict[str, Any] = {
    "id": "price_1", "object": "price", "currency": "eur", "billing_scheme": "per_unit",
    "unit_amount": None, "unit_amount_decimal": "0.12", "nickname": "calls",
    "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"},
}  # fmt: skip


@pytest.fixture(scope="module")
def calendar() -> Clock:
    return Clock(NOW)


@pytest.fixture
def april(make_app: AppMaker, calendar: Clock) -> FlaskClient:
    """The sandbox on an April morning."""
    calendar.at = NOW
    return make_app(clock=calendar).test_client()


def post(client: FlaskClient, tenant: str, key: str | None = None, **asked: Any) -> TestResponse:
    body = {"tenantId": tenant, "metric": "api_calls"} | asked
    return client.post(MAPPINGS, json=body, headers={"Idempotency-Key": key} if key else None)


def made(client: FlaskClient, tenant: str, **asked: Any) -> dict[str, Any]:
    answer = post(client, tenant, **asked)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def patch(
    client: FlaskClient, tenant: str, mapping: dict[str, Any], **changes: Any
) -> TestResponse:
    return client.patch(f"{MAPPINGS}/{mapping['id']}", json={"tenantId": tenant} | changes)


def listed(client: FlaskClient, tenant: str, **asked: object) -> dict[str, Any]:
    answer = client.get(MAPPINGS, query_string={"tenantId": tenant} | asked)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_mapping_with_everything_left_out_is_live_from_the_next_full_hour(
    april: FlaskClient, tenant: str
) -> None:
    shown = made(april, tenant)
    mapping_id = shown.pop("id")
    assert mapping_id.startswith("map_")
    assert shown == {
        "tenantId": tenant, "metric": "api_calls", "aggregation": "sum", "customerRef": None,
        "stripeAccount": None, "priceId": None, "meterId": None, "meterEventName": None,
        "subscriptionItemId": None, "currency": None, "priceConfig": None,
        "active": True, "shadow": False,
        "shadowStripeAccount": None, "shadowPriceId": None, "shadowSubscriptionItemId": None,
        "effectiveFrom": "2026-04-16T11:00:00Z", "effectiveUntil": None,
        "createdAt": "2026-04-16T10:20:30Z", "updatedAt": "2026-04-16T10:20:30Z",
        "destinations": {
            "live": {"state": "off", "reason": "a test tenant has no live destination"},
            "shadow": {"state": "off", "reason": "shadow is false"},
        },
        "openingTotal": None, "warnings": [],
    }  # fmt: skip
    read = april.get(f"{MAPPINGS}/{mapping_id}", query_string={"tenantId": tenant})
    assert read.get_json() == {"id": mapping_id} | shown
    # It is made with the metric, which is read in its own way for as long as nothing else is said.
    april.put("/v1/metrics/api_calls", json={"tenantId": tenant, "aggregation": "max"})
    assert listed(april, tenant)["mappings"][0]["aggregation"] == "max"


def test_a_full_hour_is_its_own_next(april: FlaskClient, tenant: str, calendar: Clock) -> None:
    calendar.at = datetime(2026, 4, 16, 10, tzinfo=UTC)
    assert made(april, tenant)["effectiveFrom"] == "2026-04-16T10:00:00Z"


@pytest.mark.parametrize(
    ("asked", "active", "shadow"),
    [
        ({}, True, False),
        ({"shadow": True}, False, True),
        ({"shadow": True, "active": True}, True, True),
        ({"shadow": False}, True, False),
        ({"active": False}, False, False),
    ],
)
def test_what_is_shadow_is_live_only_where_it_says_so(
    april: FlaskClient, tenant: str, asked: dict[str, bool], active: bool, shadow: bool
) -> None:
    shown = made(april, tenant, **asked)
    assert (shown["active"], shown["shadow"]) == (active, shadow)
    assert {where["state"] for where in shown["destinations"].values()} == {"off"}


def test_stripes_names_are_kept(april: FlaskClient, tenant: str) -> None:
    given = {
        "stripeAccount": "acct_1", "priceId": "price_1", "meterId": "mtr_1",
        "meterEventName": "api calls", "subscriptionItemId": "si_1", "shadow": True,
        "shadowStripeAccount": "acct_2", "shadowPriceId": "price_2",
        "shadowSubscriptionItemId": "si_2", "customerRef": "cus_1", "aggregation": "count",
        "currency": "usd", "effectiveFrom": "2020-01-01T00:00:00Z",
        "effectiveUntil": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    assert given.items() <= made(april, tenant, **given).items()


def test_a_price_is_kept_to_the_digit(april: FlaskClient, tenant: str) -> None:
    shown = made(april, tenant, priceConfig=TIERED)
    assert shown["currency"] == "usd"
    assert shown["priceConfig"] == {
        "model": "graduated", "currency": "usd",
        "tiers": [{"upTo": "100", "unitPrice": "0.1"},
                  {"upTo": None, "unitPrice": "0.05", "flatPrice": "2"}],
    }  # fmt: skip


def written(client: FlaskClient, tenant: str, digits: str) -> TestResponse:
    """Ask for a price per unit as a JSON number of these digits."""
    price = f'{{"model": "per_unit", "currency": "jpy", "unitPrice": {digits}}}'
    body = f'{{"tenantId": "{tenant}", "metric": "m", "priceConfig": {price}}}'
    return client.post(MAPPINGS, data=body, content_type="application/json")


def test_a_json_number_is_read_digit_by_digit(april: FlaskClient, tenant: str) -> None:
    # As a float this one would be another.
    digits = "100000000000.000000000001"
    assert written(april, tenant, digits).get_json()["priceConfig"]["unitPrice"] == digits
    for huge in ("1e400", "1e99999"):
        assert_problem(written(april, tenant, huge), 422, pointer="/priceConfig/unitPrice")
    assert_problem(written(april, tenant, "1e" + "9" * 30), 400)


def test_a_price_may_be_stripes_own_object(april: FlaskClient, tenant: str) -> None:
    shown = made(april, tenant, stripePrice=STRIPES)
    assert shown["currency"] == "eur"
    assert shown["priceConfig"]["unitPrice"] == "0.0012"
    again = patch(april, tenant, shown, priceConfig=shown["priceConfig"]).get_json()
    assert again["priceConfig"] == shown["priceConfig"]


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"metric": None}, "/metric"),
        ({"metric": "m" * 101}, "/metric"),
        ({"aggregation": "avg"}, "/aggregation"),
        ({"aggregation": "unique"}, "/aggregation"),
        ({"stripeAccount": "cus_1"}, "/stripeAccount"),
        ({"priceId": "prod_1"}, "/priceId"),
        ({"priceId": "price_"}, "/priceId"),
        ({"priceId": "price_1\n"}, "/priceId"),
        ({"meterId": "mtr 1"}, "/meterId"),
        ({"meterEventName": "m" * 101}, "/meterEventName"),
        ({"subscriptionItemId": "sub_1"}, "/subscriptionItemId"),
        ({"shadowSubscriptionItemId": 1}, "/shadowSubscriptionItemId"),
        ({"currency": "xyz"}, "/currency"),
        ({"currency": "dollars"}, "/currency"),
        ({"currency": "eur", "priceConfig": HALF_A_CENT}, "/currency"),
        ({"active": "yes"}, "/active"),
        ({"active": None}, "/active"),
        ({"effectiveFrom": "2026-04-01"}, "/effectiveFrom"),
        ({"effectiveFrom": None}, "/effectiveFrom"),
        ({"effectiveUntil": "2026-04-16T11:00:00Z"}, "/effectiveUntil"),
        ({"effectiveUntil": "2020-01-01T00:00:00Z"}, "/effectiveUntil"),
        ({"openingTotal": "5"}, "/openingTotal"),
        ({"priceConfig": 5}, "/priceConfig"),
        ({"priceConfig": {}}, "/priceConfig/currency"),
        ({"priceConfig": HALF_A_CENT, "stripePrice": STRIPES}, "/priceConfig"),
        ({"priceConfig": HALF_A_CENT | {"unitPrice": -1}}, "/priceConfig/unitPrice"),
        ({"priceConfig": HALF_A_CENT | {"unitprice": "1"}}, "/priceConfig/unitprice"),
        ({"priceConfig": HALF_A_CENT | {"model": "percent"}}, "/priceConfig/model"),
        ({"priceConfig": HALF_A_CENT | {"product": "a\0"}}, "/priceConfig/product"),
        ({"priceConfig": HALF_A_CENT | {"nickname": "\ud800"}}, "/priceConfig/nickname"),
        (
            {"priceConfig": TIERED | {"tiers": [TIERED["tiers"][0], {"upTo": 50, "unitPrice": 1},
                                                TIERED["tiers"][1]]}},
            "/priceConfig/tiers/1/upTo",
        ),
        (
            {"priceConfig": TIERED | {"tiers": [{"upTo": None, "unitPrice": "-1"}]}},
            "/priceConfig/tiers/0/unitPrice",
        ),
        ({"stripePrice": STRIPES | {"currency": "xxx"}}, "/stripePrice/currency"),
        (
            {"stripePrice": STRIPES | {"billing_scheme": "tiered", "tiers_mode": "volume"}},
            "/stripePrice/tiers",
        ),
    ],
)  # fmt: skip
def test_a_bad_mapping_is_refused_where_it_is_wrong_and_nothing_is_written(
    april: FlaskClient, session: Session, tenant: str, asked: dict[str, Any], pointer: str
) -> None:
    before = stored(session, tenant)
    assert_problem(post(april, tenant, **asked), 422, pointer=pointer)
    assert stored(session, tenant) == before


def test_prices_follow_one_another_but_never_overlap(april: FlaskClient, tenant: str) -> None:
    first = made(april, tenant, effectiveFrom="2026-01-01T00:00:00Z", priceConfig=HALF_A_CENT)
    taken = post(april, tenant, effectiveFrom="2026-06-01T00:00:00Z", priceConfig=TIERED)
    detail = assert_problem(taken, 409, pointer="/effectiveFrom")
    assert first["id"] in detail
    assert "2026-01-01T00:00:00Z" in detail
    ended = patch(april, tenant, first, effectiveUntil="2026-06-01T00:00:00Z")
    assert ended.get_json()["effectiveUntil"] == "2026-06-01T00:00:00Z"
    second = made(april, tenant, effectiveFrom="2026-06-01T00:00:00Z", priceConfig=TIERED)
    assert_problem(patch(april, tenant, first, effectiveUntil=None), 409)
    assert_problem(patch(april, tenant, second, effectiveFrom="2026-05-31T23:59:59Z"), 409)
    assert [m["id"] for m in listed(april, tenant)["mappings"]] == [first["id"], second["id"]]


def test_narrower_scopes_and_shadows_stand_beside_one_another(
    april: FlaskClient, tenant: str
) -> None:
    scopes: list[dict[str, Any]] = [
        {},
        {"customerRef": "cus_1"},
        {"customerRef": "cus_2"},
        {"subscriptionItemId": "si_1"},
        {"subscriptionItemId": "si_2", "customerRef": "cus_1"},
        {"shadow": True},
        {"shadow": True, "shadowSubscriptionItemId": "si_1"},
        {"metric": "other"},
    ]
    for scope in scopes:
        made(april, tenant, **scope)
    for scope in scopes:
        assert_problem(post(april, tenant, **scope), 409)
    # What is neither bills nobody, so any number of them may wait.
    for _ in range(2):
        waiting = made(april, tenant, active=False)
    assert_problem(patch(april, tenant, waiting, active=True), 409)


def test_of_two_at_once_one_is_refused(april: FlaskClient, session: Session, tenant: str) -> None:
    answers: list[int] = []
    begin = threading.Barrier(4)

    def ask() -> None:
        client = april.application.test_client()
        begin.wait()
        answers.append(post(client, tenant).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409, 409]
    assert scalar(session, "SELECT count(*) FROM mappings WHERE tenant_id = :t", t=tenant) == 1


def test_a_repeated_request_makes_one_mapping(
    april: FlaskClient, session: Session, tenant: str, calendar: Clock
) -> None:
    first = post(april, tenant, "k", priceConfig=HALF_A_CENT)
    calendar.at += timedelta(hours=5)
    again = post(april, tenant, "k", priceConfig=HALF_A_CENT | {"unitPrice": 0.0050})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == first.get_json()
    other = post(april, tenant, "k", priceConfig=HALF_A_CENT | {"unitPrice": "0.006"})
    assert_problem(other, 422, pointer="/Idempotency-Key")
    assert scalar(session, "SELECT count(*) FROM mappings WHERE tenant_id = :t", t=tenant) == 1
    # A refused request has not used its name up.
    assert_problem(post(april, tenant, "k2"), 409)
    assert post(april, tenant, "k2", metric="other").status_code == 201
    # A name is remembered for 30 days; what it made is there for ever.
    session.connection().exec_driver_sql(
        "DELETE FROM keyed_requests WHERE tenant_id = %(t)s", {"t": tenant}
    )
    session.commit()
    assert_problem(post(april, tenant, "k", metric="third"), 409)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_what_is_not_named_stays(april: FlaskClient, tenant: str, method: str) -> None:
    before = made(april, tenant, priceConfig=TIERED, meterId="mtr_1", customerRef="cus_1")
    changes = {"meterId": None, "priceId": "price_1", "aggregation": "max"}
    url = f"{MAPPINGS}/{before['id']}"
    after = april.open(url, method=method, json={"tenantId": tenant} | changes)
    assert after.get_json() == before | changes
    for same in ({"metric": "api_calls"}, {"customerRef": "cus_1"}):
        assert patch(april, tenant, before, **same).status_code == 200
    for name, value in (("metric", "other"), ("customerRef", None), ("customerRef", "cus_2")):
        assert_problem(patch(april, tenant, before, **{name: value}), 422, pointer=f"/{name}")


def test_price_and_currency_stay_of_one_mind(april: FlaskClient, tenant: str) -> None:
    both = {"currencyOptions": [HALF_A_CENT | {"currency": "eur", "unitPrice": "0.004"}]}
    shown = made(april, tenant, priceConfig=HALF_A_CENT | both, currency="EUR")
    assert shown["currency"] == "eur"
    assert patch(april, tenant, shown, currency="usd").get_json()["currency"] == "usd"
    assert_problem(patch(april, tenant, shown, currency="gbp"), 422, pointer="/currency")
    # A price alone changes no currency: where it has none for it, the currency must be said.
    kept = patch(april, tenant, shown, priceConfig=HALF_A_CENT | both).get_json()
    assert kept["currency"] == "usd"
    assert_problem(patch(april, tenant, shown, stripePrice=STRIPES), 422, pointer="/currency")
    changed = patch(april, tenant, shown, stripePrice=STRIPES, currency="eur").get_json()
    assert changed["currency"] == "eur"
    gone = patch(april, tenant, shown, priceConfig=None).get_json()
    assert (gone["priceConfig"], gone["currency"]) == (None, "eur")


def test_ending_keeps_the_mapping(april: FlaskClient, tenant: str, calendar: Clock) -> None:
    old = made(april, tenant, effectiveFrom="2026-01-01T00:00:00Z")
    url, asked = f"{MAPPINGS}/{old['id']}", {"tenantId": tenant}
    ended = april.delete(url, query_string=asked)
    assert ended.status_code == 200
    assert ended.get_json() == old | {"effectiveUntil": "2026-04-16T10:20:30Z"}
    calendar.at += timedelta(days=1)
    assert april.delete(url, query_string=asked).get_json() == ended.get_json()
    assert april.get(url, query_string=asked).get_json() == ended.get_json()
    # One that never began is never in force, and nothing of it stands in the way.
    future = made(april, tenant, effectiveFrom="2026-05-01T00:00:00Z")
    april.delete(f"{MAPPINGS}/{future['id']}", query_string=asked)
    made(april, tenant, effectiveFrom="2026-04-20T00:00:00Z")
    assert patch(april, tenant, future, priceId="price_1").status_code == 200


def test_unique_counts_that_are_billed_cannot_be_switched_off(
    april: FlaskClient, tenant: str
) -> None:
    metric = "/v1/metrics/api_calls"
    april.put(metric, json={"tenantId": tenant, "unique": True})
    mapping = made(april, tenant, aggregation="unique")
    off = {"tenantId": tenant, "unique": False}
    assert mapping["id"] in assert_problem(april.put(metric, json=off), 409, pointer="/unique")
    april.delete(f"{MAPPINGS}/{mapping['id']}", query_string={"tenantId": tenant})
    # It begins in the next hour, before which it was ended: it never billed anything.
    assert april.put(metric, json=off).status_code == 200


def test_mappings_are_listed_in_pages_by_metric_and_time(april: FlaskClient, tenant: str) -> None:
    spans = [("b", 2), ("a", 3), ("b", 1), ("a", 1), ("a", 2), ("c", 1)]
    for metric, month in spans:
        made(
            april, tenant, metric=metric, customerRef=f"cus_{month}",
            effectiveFrom=f"2026-0{month}-01T00:00:00Z",
            effectiveUntil=f"2026-0{month}-15T00:00:00Z",
        )  # fmt: skip
    seen: list[tuple[str, str]] = []
    asked: dict[str, object] = {"limit": 4}
    while True:
        page = listed(april, tenant, **asked)
        seen += [(m["metric"], m["customerRef"]) for m in page["mappings"]]
        if page["nextCursor"] is None:
            break
        asked["cursor"] = page["nextCursor"]
    assert seen == [(metric, f"cus_{month}") for metric, month in sorted(spans)]
    only = listed(april, tenant, metric="a", customerRef="cus_2")["mappings"]
    assert [(m["metric"], m["customerRef"]) for m in only] == [("a", "cus_2")]
    bad = april.get(MAPPINGS, query_string={"tenantId": tenant, "cursor": "map_0"})
    assert_problem(bad, 422, pointer="/cursor")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_what_is_not_there_is_not_found(april: FlaskClient, tenant: str, method: str) -> None:
    query = {"query_string": {"tenantId": tenant}} if method != "PATCH" else {}
    body = {"json": {"tenantId": tenant}} if method == "PATCH" else {}
    for mapping_id, status in (("map_0", 404), ("m" * 65, 422), ("a%00b", 422)):
        answer = april.open(f"{MAPPINGS}/{mapping_id}", method=method, **query, **body)
        assert_problem(answer, status)


def test_reading_and_writing_are_two_rights(
    shut: FlaskClient, session: Session, tenant: str, now: datetime
) -> None:
    reader = bearer(make_key(session, tenant, ["mappings:read"], now=now))
    writer = bearer(make_key(session, tenant, ["mappings:write"], now=now))
    body = {"metric": "api_calls", "priceConfig": HALF_A_CENT}
    assert_problem(shut.post(MAPPINGS, json=body, headers=reader), 403)
    mapping = shut.post(MAPPINGS, json=body, headers=writer).get_json()
    assert mapping["tenantId"] == tenant
    assert shut.get(MAPPINGS, headers=reader).get_json()["mappings"] == [mapping]
    assert_problem(shut.get(MAPPINGS, headers=writer), 403)
