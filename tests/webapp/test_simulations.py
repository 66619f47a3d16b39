"""/v1/simulations: exact numbers in, Stripe's lines out, refusals by field, scenarios kept."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.backtests import BASELINE, CANDIDATE
from tests.webapp.support import assert_problem, bearer

ROOT = "/v1/simulations"
EXAMPLE: dict[str, Any] = {
    "customerId": "cus_1",
    "periodStart": "2026-11-01T00:00:00Z",
    "periodEnd": "2026-12-01T00:00:00Z",
    "usageItems": [
        {
            "metric": "api_calls",
            "quantity": 25_000,
            "priceConfig": {
                "model": "tiered",
                "currency": "usd",
                "tiers": [
                    {"upTo": 10_000, "unitPrice": 0.01},
                    {"upTo": 50_000, "unitPrice": 0.008},
                    {"upTo": None, "unitPrice": 0.005},
                ],
            },
        }
    ],
}


@pytest.fixture
def me(shut: FlaskClient, key: str) -> FlaskClient:
    """The tenant with its key."""
    shut.environ_base["HTTP_AUTHORIZATION"] = bearer(key)["Authorization"]
    return shut


def post(client: FlaskClient, path: str, body: Any, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"{ROOT}{path}", json=body, headers=named)


def save(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    body = {"name": "n", "kind": "comparison", "document": {"prices": [BASELINE]}} | changes
    answer = post(client, "", body)
    assert answer.status_code == 201, answer.text
    return answer.get_json()


def test_the_contracts_example_costs_220(me: FlaskClient, client: FlaskClient) -> None:
    for asker in (me, client):  # the sandbox's user names no tenant: nothing of one is touched
        invoice = post(asker, "/run", EXAMPLE).get_json()
        assert (invoice["total"], invoice["totalMinor"]) == ("220.00", 22_000)
        assert [line["total"] for line in invoice["lineItems"][0]["lines"]] == ["100.00", "120.00"]


def test_a_number_is_read_digit_by_digit(me: FlaskClient) -> None:
    item = (
        '{"metric": "m", "quantity": 123456789012345678.000000000001, "priceConfig":'
        ' {"model": "per_unit", "currency": "usd", "unitPrice": 0.100000000001}}'
    )
    answer = me.post(
        f"{ROOT}/run", data=f'{{"usageItems": [{item}]}}', content_type="application/json"
    )
    line = answer.get_json()["lineItems"][0]
    assert line["quantity"] == "123456789012345678.000000000001"
    assert line["exact"] == "12345678901358024.589012345678100000000001"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/run", {"usageItems": [{"metric": "m", "quantity": -1, "priceConfig": BASELINE}]},
         "/usageItems/0/quantity"),
        ("/run", {"usageItems": [{"metric": "m", "quantity": 1, "priceConfig":
         {"model": "tiered", "currency": "usd", "tiers": [{"upTo": 9, "unitPrice": 1},
          {"upTo": 5, "unitPrice": 1}, {"upTo": None, "unitPrice": 1}]}}]},
         "/usageItems/0/priceConfig/tiers/1/upTo"),
        ("/run", {"usageItems": [{"metric": "m", "quantity": 1, "priceConfig":
         {"model": "auction", "currency": "usd"}}]}, "/usageItems/0/priceConfig/model"),
        ("/run", {"usageItems": [{"metric": "m\0", "quantity": 1, "priceConfig": BASELINE}]},
         "/usageItems/0/metric"),
        ("/run", {"usageItems": [], "typo": 1}, "/typo"),
        ("/compare", {"prices": []}, "/prices"),
        ("/compare", {"prices": [BASELINE] * 5}, "/prices"),
        ("/compare", {"prices": [BASELINE, BASELINE | {"currency": "eur"}]}, "/prices/1/currency"),
        ("/compare", {"prices": [BASELINE | {"unitPrice": "x"}]}, "/prices/0/unitPrice"),
        ("/compare", {"prices": [{"name": "n", "priceConfig": BASELINE | {"unitPrice": "x"}}]},
         "/prices/0/priceConfig/unitPrice"),
        ("/compare", {"prices": [BASELINE], "quantity": 1, "quantities": [1]}, "/quantities"),
        ("/compare", {"prices": [BASELINE], "quantities": [1, -1]}, "/quantities/1"),
        ("", {"name": " ", "document": {}}, "/name"),
        ("", {"name": "n", "document": {}, "kind": "x"}, "/kind"),
        ("", {"name": "n", "document": {"a": "x" * 70_000}}, "/document"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field(
    me: FlaskClient, path: str, body: dict[str, Any], pointer: str
) -> None:
    assert_problem(post(me, path, body), 422, pointer=pointer)


@pytest.mark.parametrize("depth", [40, 400])
def test_what_is_nested_too_deeply_is_refused(me: FlaskClient, depth: int) -> None:
    price: dict[str, Any] = dict(BASELINE)
    text = json.dumps(price)
    for _ in range(depth):
        text = (
            f'{{"model": "flat", "flatPrice": 1, "currency": "usd", "currencyOptions": [{text}]}}'
        )
    body = f'{{"prices": [{text}]}}'
    answer = me.post(f"{ROOT}/compare", data=body, content_type="application/json")
    assert answer.status_code in (400, 422)
    assert "nested too deeply" in answer.get_json()["detail"]


def test_prices_side_by_side(me: FlaskClient) -> None:
    found = post(
        me, "/compare", {"prices": [BASELINE, CANDIDATE], "quantities": [0, 1000, 25_000.5]}
    ).get_json()
    first, second = found["prices"]
    assert [total["total"] for total in first["totals"]] == ["0.00", "10.00", "250.01"]
    assert [total["total"] for total in second["totals"]] == ["0.00", "12.00", "161.00"]
    assert (found["upTo"], second["boundaries"]) == ("25000.5", ["1000", "10000"])
    assert found["crossovers"] == [{"quantity": "2000", "cheaper": 1, "than": 0}]
    assert len(second["curve"]) > 200
    saved = {"prices": [{"name": "Today", "priceConfig": BASELINE}, {"priceConfig": CANDIDATE}]}
    again = post(me, "/compare", saved).get_json()
    assert [each["price"] for each in again["prices"]] == [first["price"], second["price"]]


def test_a_saved_scenario_comes_back_as_it_was_sent(me: FlaskClient) -> None:
    body = '{"name": "a", "document": {"price": 0.10, "note": "=1+1"}}'
    made = me.post(ROOT, data=body, content_type="application/json")
    assert '"document":{"price":0.10,"note":"=1+1"}' in made.text
    path = f"/{made.get_json()['id']}"
    assert '"price":0.10' in me.get(f"{ROOT}{path}").text
    changed = me.patch(f"{ROOT}{path}", json={"name": "b"}).get_json()
    assert (changed["name"], changed["document"]["note"]) == ("b", "=1+1")
    assert me.patch(f"{ROOT}{path}", json={"document": {}}).get_json()["document"] == {}
    copy = post(me, f"{path}/duplicate", {}).get_json()
    assert (copy["name"], copy["id"] != path[1:]) == ("b (copy)", True)
    assert me.delete(f"{ROOT}{path}").status_code == 204
    for method in ("GET", "DELETE"):
        assert_problem(me.open(f"{ROOT}{path}", method=method), 404)


def test_the_list_is_paged_and_without_documents(me: FlaskClient) -> None:
    made = [save(me, name=str(i))["id"] for i in range(5)]
    save(me, kind="invoice")
    seen, query = [], {"limit": 2, "kind": "comparison"}
    while True:
        page = me.get(ROOT, query_string=query).get_json()
        assert all("document" not in each for each in page["simulations"])
        seen += [each["id"] for each in page["simulations"]]
        if page["nextCursor"] is None:
            break
        query = query | {"cursor": page["nextCursor"]}
    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["x", "W10=", "WyJhIiwiYiJd", "bnVsbA==", "é"])
def test_a_forged_cursor_is_refused(me: FlaskClient, cursor: str) -> None:
    assert_problem(me.get(ROOT, query_string={"cursor": cursor}), 422, pointer="/cursor")


@pytest.mark.parametrize("path", ["", "/{}/duplicate"])
def test_a_named_request_makes_one_thing(me: FlaskClient, path: str) -> None:
    path = path.format(save(me)["id"])
    body = {} if path else {"name": "n", "document": {"a": 1.5}}
    first, second = (post(me, path, body, Idempotency_Key="k") for _ in range(2))
    assert first.get_json() == second.get_json()
    assert (first.status_code, second.status_code) == (201, 201)
    assert_problem(post(me, path, body | {"name": "other"}, Idempotency_Key="k"), 422)
    assert len(me.get(ROOT).get_json()["simulations"]) == 2 if path else 1
    me.delete(f"{ROOT}/{first.get_json()['id']}")
    assert_problem(post(me, path, body, Idempotency_Key="k"), 404)
