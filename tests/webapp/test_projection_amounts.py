"""What the projection says in money: by the price in force, exact, and never a wrong sum."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.billing import projection as billing
from metering.database import unit_of_work
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock

MIDDLE = datetime(2026, 4, 16, tzinfo=UTC)  # April has 30 days: half of it is over
JANUARY, APRIL, MAY = (f"2026-{month}-01T00:00:00Z" for month in ("01", "04", "05"))
GRADUATED: dict[str, Any] = {
    "model": "tiered", "currency": "usd",
    "tiers": [{"upTo": 10_000, "unitPrice": 0.01}, {"upTo": 50_000, "unitPrice": 0.008},
              {"upTo": None, "unitPrice": 0.005}],
}  # fmt: skip


def each(amount: str, currency: str = "usd") -> dict[str, Any]:
    """So much a unit."""
    return {"model": "per_unit", "currency": currency, "unitPrice": amount}


@pytest.fixture(scope="module")
def calendar() -> Clock:
    return Clock(MIDDLE)


@pytest.fixture
def april(make_app: AppMaker, calendar: Clock) -> FlaskClient:
    """The sandbox in the middle of April 2026."""
    calendar.at = MIDDLE
    return make_app(clock=calendar).test_client()


@pytest.fixture
def used(session: Session, tenant: str) -> Any:
    """Count one event of each metric, by name; of cus_1, on the first of April."""

    def use(at: str = APRIL, **quantities: object) -> None:
        rows = [
            entry(f"{metric}/{at}", quantity, at, metric=metric)
            for metric, quantity in quantities.items()
        ]
        put(session, tenant, rows, now=MIDDLE)
        fold_all(session, tenant)

    return use


def priced(client: FlaskClient, tenant: str, price: dict[str, Any] | None, **asked: Any) -> str:
    """Map the metric since January; the mapping's id."""
    body = {"tenantId": tenant, "metric": "calls", "effectiveFrom": JANUARY, "priceConfig": price}
    answer = client.post("/v1/mappings", json=body | asked)
    assert answer.status_code == 201, answer.text
    mapping_id: str = answer.get_json()["id"]
    return mapping_id


def project(client: FlaskClient, tenant: str, **asked: object) -> dict[str, Any]:
    body = {"tenantId": tenant, "customerRef": "cus_1"} | asked
    answer = client.post("/v1/usage/projection", json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_the_contracts_example_costs_220(april: FlaskClient, tenant: str, used: Any) -> None:
    mapping_id = priced(april, tenant, GRADUATED)
    used(calls=25_000)
    shown = project(april, tenant)
    [line] = shown["lineItems"]
    assert line == {
        "metric": "calls", "aggregation": "sum", "unit": None, "mappingId": mapping_id,
        "quantity": "25000", "projectedQuantity": "50000", "projectedQuantityLow": "37500",
        "projectedQuantityHigh": "62500", "projectionBasis": "even_pace",
        "currency": "usd", "model": "graduated", "unitPrice": "0.0088", "exact": "220.00",
        "total": "220.00", "totalMinor": 22_000,
        "projectedTotal": "420.00", "projectedTotalMinor": 42_000,
        "projectedTotalLow": "320.00", "projectedTotalLowMinor": 32_000,
        "projectedTotalHigh": "482.50", "projectedTotalHighMinor": 48_250,
        "tiers": [
            {"upTo": "10000", "unitPrice": "0.01", "flatPrice": None, "quantity": "10000",
             "total": "100.00"},
            {"upTo": "50000", "unitPrice": "0.008", "flatPrice": None, "quantity": "15000",
             "total": "120.00"},
            {"upTo": None, "unitPrice": "0.005", "flatPrice": None, "quantity": "0",
             "total": "0.00"},
        ],
        "adjustments": "0", "setAside": 0, "unfolded": 0,
    }  # fmt: skip
    totals = {
        "currency": "usd", "subtotal": "220.00", "subtotalMinor": 22_000, "credits": "0.00",
        "creditsMinor": 0, "tax": "0.00", "taxMinor": 0, "total": "220.00", "totalMinor": 22_000,
        "projectedTotal": "420.00", "projectedTotalMinor": 42_000, "projectedLow": "320.00",
        "projectedLowMinor": 32_000, "projectedHigh": "482.50", "projectedHighMinor": 48_250,
    }  # fmt: skip
    assert totals.items() <= shown.items()
    assert shown["warnings"] == []


def test_where_a_volume_price_falls_the_band_holds_the_edge(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    # 100 cost 100.00, 101 cost 50.50: between 75 and 125 units the dearest is the hundredth.
    tiers = [{"upTo": 100, "unitPrice": 1}, {"upTo": None, "unitPrice": "0.5"}]
    priced(april, tenant, {"model": "volume", "currency": "usd", "tiers": tiers})
    used(calls=50)
    [line] = project(april, tenant)["lineItems"]
    assert (line["projectedQuantityLow"], line["projectedQuantityHigh"]) == ("75", "125")
    assert (line["total"], line["projectedTotal"]) == ("50.00", "100.00")
    assert (line["projectedTotalLow"], line["projectedTotalHigh"]) == ("50.00", "100.00")


def test_lines_with_a_price_are_added_up_and_the_others_named(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("0.015"))
    priced(april, tenant, each("2"), metric="seats")
    used(calls=3, seats=2, storage=9)
    shown = project(april, tenant)
    # Each line is rounded on its own: 4.5 cents are 5, and so is the projection's 9 not 10.
    assert [line["total"] for line in shown["lineItems"]] == ["0.05", "4.00", None]
    assert [line["exact"] for line in shown["lineItems"]] == ["0.045", "4.00", None]
    assert (shown["subtotal"], shown["total"], shown["projectedTotal"]) == ("4.05", "4.05", "8.09")
    assert shown["warnings"] == ["storage has no price; its usage is not in the totals"]
    assert "no price is mapped" in shown["lineItems"][2]["warning"]
    for name in ("unitPrice", "currency", "projectedTotal", "totalMinor", "mappingId"):
        assert shown["lineItems"][2][name] is None


def test_currencies_are_never_added_up(april: FlaskClient, tenant: str, used: Any) -> None:
    priced(april, tenant, each("1"))
    priced(april, tenant, each("100", "jpy"), metric="seats")
    priced(april, tenant, each("0.001", "kwd"), metric="storage")
    used(calls=1, seats=2, storage=12)
    shown = project(april, tenant)
    # Yen have no decimals; fils are charged by tens.
    assert [(line["total"], line["totalMinor"]) for line in shown["lineItems"]] == [
        ("1.00", 100), ("200", 200), ("0.010", 10),
    ]  # fmt: skip
    for name in ("currency", "subtotal", "total", "totalMinor", "projectedTotal", "projectedLow"):
        assert shown[name] is None
    assert shown["warnings"] == [
        "the lines are in different currencies (jpy, kwd, usd), which have no total"
    ]


def test_a_price_in_several_currencies_bills_the_mappings(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    price = each("1") | {"currencyOptions": [each("0.9", "eur")]}
    priced(april, tenant, price, currency="eur")
    used(calls=10)
    assert (project(april, tenant)["currency"], project(april, tenant)["total"]) == ("eur", "9.00")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"active": False}, "no price is mapped"),
        ({"shadow": True}, "shadow"),
        ({"customerRef": "cus_2"}, "no price is mapped"),
        ({"subscriptionItemId": "si_1"}, "subscription item"),
        ({"effectiveFrom": MAY}, "no price is mapped"),
        ({"effectiveUntil": APRIL}, "no price is mapped"),
        ({"effectiveUntil": "2026-04-30T23:59:59Z"}, "at the period's end"),
        ({"priceConfig": None}, "no price definition"),
        ({"metric": "other"}, "no price is mapped"),
    ],
)
def test_what_has_no_price_says_why(
    april: FlaskClient, tenant: str, used: Any, asked: dict[str, Any], why: str
) -> None:
    priced(april, tenant, **({"price": each("1")} | asked))
    used(calls=10)
    shown = project(april, tenant)
    [line] = shown["lineItems"]
    assert why in line["warning"]
    assert (line["unitPrice"], line["total"], shown["total"]) == (None, None, None)
    assert shown["warnings"] == ["calls has no price; its usage is not in the totals"]


def test_a_subscription_items_price_goes_before_its_customers(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("1"))
    priced(april, tenant, each("2"), customerRef="cus_1")
    priced(april, tenant, each("3"), customerRef="cus_1", subscriptionItemId="si_1")
    used(calls=5)
    assert project(april, tenant)["total"] == "15.00"
    # A second one of theirs: which usage is whose cannot be told yet.
    priced(april, tenant, each("4"), customerRef="cus_1", subscriptionItemId="si_2")
    shown = project(april, tenant)
    assert shown["total"] is None
    assert "several subscription items" in shown["lineItems"][0]["warning"]


def test_an_item_of_nobody_known_is_named_beside_the_price(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("1"))
    priced(april, tenant, each("3"), subscriptionItemId="si_1")
    used(calls=5)
    shown = project(april, tenant)
    assert shown["total"] == "5.00"
    assert "one subscription item is not looked at" in shown["warnings"][0]


def test_a_price_that_cannot_be_read_takes_no_other_down_with_it(
    april: FlaskClient, session: Session, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("1"))
    priced(april, tenant, each("2"), metric="seats")
    with unit_of_work(session):
        session.execute(
            text("UPDATE mappings SET price = '{}' WHERE tenant_id = :t AND metric = 'calls'"),
            {"t": tenant},
        )
    used(calls=5, seats=5)
    shown = project(april, tenant)
    assert shown["total"] == "10.00"
    assert "cannot be read" in shown["lineItems"][0]["warning"]


def test_a_customers_own_price_goes_before_everyones(
    april: FlaskClient, session: Session, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("1"))
    priced(april, tenant, each("0.5"), customerRef="cus_1")
    priced(april, tenant, each("9"), customerRef="cus_2", effectiveUntil="2026-03-01T00:00:00Z")
    used(calls=10)
    put(session, tenant, [entry("2", 10, APRIL, metric="calls", customer="cus_2")], now=MIDDLE)
    fold_all(session, tenant)
    assert project(april, tenant)["total"] == "5.00"
    assert project(april, tenant, customerRef="cus_2")["total"] == "10.00"


def test_the_price_in_force_at_the_periods_end_holds_for_all_of_it(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    priced(april, tenant, each("1"), effectiveUntil="2026-04-20T00:00:00Z")
    priced(april, tenant, each("2"), effectiveFrom="2026-04-20T00:00:00Z", effectiveUntil=MAY)
    priced(april, tenant, each("3"), effectiveFrom=MAY)
    used(calls=10)
    shown = project(april, tenant)
    assert shown["total"] == "20.00"
    [warning] = shown["warnings"]
    assert "changes within the period, at 2026-04-20T00:00:00Z" in warning
    used("2026-03-05T00:00:00Z", calls=10)
    march = project(april, tenant, periodStart="2026-03-01T00:00:00Z")
    assert (march["total"], march["projectedTotal"], march["projectedHigh"]) == (
        "10.00", "10.00", "10.00",
    )  # fmt: skip
    assert march["warnings"] == []
    assert march["lineItems"][0]["projectionBasis"] == "none"


def test_a_mapping_reads_the_metric_in_its_own_way(
    april: FlaskClient, session: Session, tenant: str, used: Any
) -> None:
    april.put("/v1/metrics/calls", json={"tenantId": tenant, "aggregation": "count"})
    priced(april, tenant, each("1"), aggregation="max")
    used(calls=7)
    used("2026-04-02T00:00:00Z", calls=3)
    [line] = project(april, tenant)["lineItems"]
    assert (line["aggregation"], line["quantity"], line["total"]) == ("max", "7", "7.00")
    # A maximum is not stretched over the month.
    assert (line["projectedTotal"], line["projectedTotalHigh"]) == ("7.00", "7.00")
    assert line["projectionBasis"] == "none"


def test_a_unique_count_that_is_not_complete_says_so(
    april: FlaskClient, tenant: str, used: Any
) -> None:
    used(calls=1)
    april.put("/v1/metrics/calls", json={"tenantId": tenant, "aggregation": "unique"})
    priced(april, tenant, each("1"))
    assert project(april, tenant)["warnings"] == [
        "the unique count of calls is still being completed"
    ]


def test_a_fixed_fee_is_not_stretched(april: FlaskClient, tenant: str, used: Any) -> None:
    priced(april, tenant, {"model": "flat", "currency": "usd", "flatPrice": "29"})
    used(calls=1)
    shown = project(april, tenant)
    assert (shown["total"], shown["projectedTotal"], shown["projectedHigh"]) == (
        "29.00", "29.00", "29.00",
    )  # fmt: skip


def test_amounts_beyond_all_measure_are_exact(april: FlaskClient, tenant: str, used: Any) -> None:
    priced(april, tenant, each("99999999.999999999999"))
    used(calls="99999999999999999999.999999999999")
    shown = project(april, tenant)
    # (10^8 - 10^-12) times (10^20 - 10^-12)
    exact = "9999999999999999999899999999.999900000000000000000001"
    assert shown["lineItems"][0]["exact"] == exact
    assert shown["total"] == "9999999999999999999900000000.00"


@pytest.fixture
def workdays(session: Session, tenant: str) -> None:
    """Ten calls at noon of every weekday since the middle of February."""
    day, rows = datetime(2026, 2, 16, 12, tzinfo=UTC), []
    while day < MIDDLE + timedelta(days=4):
        if day.weekday() < 5:
            rows.append(entry(f"{day}", 10, day, metric="calls"))
        day += timedelta(days=1)
    put(session, tenant, rows, now=MIDDLE + timedelta(days=4))
    fold_all(session, tenant)


def test_weekdays_are_told_from_weekends_where_history_allows(
    april: FlaskClient, calendar: Clock, tenant: str, workdays: None
) -> None:
    # On Monday the 20th 13 of the month's 22 weekdays are over, and 19 of its 30 days.
    calendar.at = datetime(2026, 4, 20, tzinfo=UTC)
    priced(april, tenant, each("0.1"))
    shown = project(april, tenant)
    [line] = shown["lineItems"]
    assert (line["quantity"], line["projectedQuantity"]) == ("130", "220")
    assert (line["projectedQuantityLow"], line["projectedQuantityHigh"]) == ("220", "220")
    assert line["projectionBasis"] == "weekly_profile"
    assert (shown["total"], shown["projectedTotal"]) == ("13.00", "22.00")
    # Over the weekend nothing is missed, and nothing is added.
    calendar.at = datetime(2026, 4, 18, tzinfo=UTC)
    assert project(april, tenant)["lineItems"][0]["projectedQuantity"] == "220"


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_a_projection_asks_three_times_however_many_metrics_there_are(
    april: FlaskClient, session: Session, tenant: str, used: Any, statements: list[str]
) -> None:
    for metric in ("calls", "seats", "storage"):
        priced(april, tenant, each("1"), metric=metric)
    used(calls=1, seats=1, storage=1)
    # Whoever is new has no history to ask for.
    for asked in (2, 3):
        statements.clear()
        found = billing.project(session, tenant, "cus_1", None, now=MIDDLE)
        session.rollback()
        assert len(found.lines) == 3
        assert len(statements) == asked
        used(JANUARY, calls=1, seats=1, storage=1)
