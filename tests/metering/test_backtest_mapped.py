"""Back-tests against the mapped prices: each month at its own, some customers at theirs."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from metering.billing import backtest
from metering.billing.question import Wanted
from metering.catalog import mappings
from metering.database import unit_of_work
from metering.errors import InvalidInputError
from pricing import PricingError
from pricing.price import from_config
from tests.backtests import BASELINE, CANDIDATE, ask, results, use

MAY, JUNE = (datetime.fromisoformat(f"2026-0{month}-01T00:00:00Z") for month in (5, 6))
MAPPED = [Wanted("api_calls", "mapped", BASELINE)]
MONTHS = ("2026-05", "2026-06")


def mapping(session: Session, tenant: str, config: dict[str, Any], **wanted: Any) -> None:
    read = from_config(config)
    given = {
        "metric": "api_calls",
        "price": read,
        "currency": read.currency.code,
        "effective_from": MAY,
    }
    with unit_of_work(session):
        mappings.create(session, tenant, mappings.id_of(None), given | wanted, now=MAY)


def dollars(unit_price: int, currency: str = "usd") -> dict[str, Any]:
    return {"model": "per_unit", "currency": currency, "unitPrice": unit_price}


def test_every_month_and_customer_is_priced_as_it_was_mapped(
    session: Session, tenant: str, now: datetime
) -> None:
    usage = {(ref, month): Decimal(10) for ref in ("a", "b", "c") for month in MONTHS}
    use(session, tenant, usage)
    mapping(session, tenant, dollars(1), effective_until=JUNE)
    mapping(session, tenant, dollars(2), effective_from=JUNE)
    mapping(session, tenant, dollars(7), customer_ref="b", effective_until=JUNE)
    asked = ask(session, tenant, now, wanted=MAPPED, months=MONTHS)
    mapping(session, tenant, dollars(9), customer_ref="c")  # the question stays as it was asked
    while True:
        with unit_of_work(session):
            if not backtest.advance(session, tenant, asked.id, now=now):
                break
    assert results(session, tenant, asked.id) == {
        "a": (3000, 20, 2),
        "b": (9000, 20, 2),
        "c": (3000, 20, 2),
    }


def test_the_mappings_reading_goes_for_both_sides(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, {("a", "2026-05"): Decimal(9)})
    mapping(session, tenant, dollars(1), aggregation="max")
    asked = ask(session, tenant, now, wanted=MAPPED, months=["2026-05"])
    with unit_of_work(session):
        backtest.advance(session, tenant, asked.id, now=now)
    assert results(session, tenant, asked.id) == {"a": (450, 5, 1)}


@pytest.mark.parametrize(
    ("mapped", "reason"),
    [
        ([], "api_calls has no price in 2026-05: no price is mapped"),
        ([{"effective_from": JUNE}], "no price in 2026-05"),
        ([{}, {"customer_ref": "b", "price": None, "currency": None}], "for b in 2026-05"),
        (
            [{"aggregation": "max", "effective_until": JUNE}, {"effective_from": JUNE}],
            "in different ways",
        ),
    ],
)
def test_a_month_without_a_price_is_refused(
    session: Session, tenant: str, now: datetime, mapped: list[dict[str, Any]], reason: str
) -> None:
    use(session, tenant, {})
    for each in mapped:
        mapping(session, tenant, dollars(1), **each)
    with pytest.raises(InvalidInputError, match=reason) as refused:
        ask(session, tenant, now, wanted=MAPPED, months=MONTHS)
    assert refused.value.pointer == "/metrics/0/baseline"


def test_a_mapped_price_of_another_currency_is_refused(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, {})
    mapping(session, tenant, dollars(1, "eur"))
    with pytest.raises(PricingError, match="metrics/0/candidate/currency: differs"):
        ask(session, tenant, now, wanted=[Wanted("api_calls", "mapped", CANDIDATE)], months=MONTHS)
