"""The price is the subscription item's, as Stripe bills; the mapping's is what is left."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from metering.billing import prices
from metering.billing.prices import InForce
from metering.catalog import mappings
from metering.catalog.mirror import StripePrice, SubscriptionItem
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span
from metering.database import unit_of_work
from pricing.price import from_config

MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (5, 6))
SPAN = Span(MAY, JUNE)


def dollars(unit_price: str) -> dict[str, Any]:
    return {"model": "per_unit", "currency": "usd", "unitPrice": unit_price}


@pytest.fixture
def known(session: Session, tenant: str) -> Any:
    """Write what Stripe said: prices by id, and who has an item of which."""

    def write(made: dict[str, str | None], items: dict[str, tuple[str, str]]) -> None:
        of = {"tenant_id": tenant, "mode": "test", "account_id": "acct_1", "fetched_at": MAY}
        with unit_of_work(session):
            for price_id, unit_price in made.items():
                definition = dollars(unit_price) if unit_price else None
                session.add(
                    StripePrice(
                        **of, price_id=price_id, meter_id="mtr_1", currency="usd", is_active=True,
                        definition=definition, unreadable=None if unit_price else "has no tiers",
                    )
                )  # fmt: skip
            for item_id, (ref, price_id) in items.items():
                session.add(
                    SubscriptionItem(
                        **of, item_id=item_id, subscription_id=f"sub_{item_id}",
                        stripe_customer="cus_1", price_id=price_id, meter_id="mtr_1",
                        status="active", interval="month", interval_count=1, anchor_at=MAY,
                        current_start=MAY, current_end=JUNE, started_at=MAY,
                    )
                )  # fmt: skip
                session.add(
                    BillingPeriod(
                        tenant_id=tenant, customer_ref=ref, metric="calls", start_at=MAY,
                        end_at=JUNE, mode="test", item_id=item_id,
                    )
                )  # fmt: skip

    return write


@pytest.fixture
def mapped(session: Session, tenant: str) -> Any:
    def make(price: str | None = None, **wanted: Any) -> str:
        read = {"price": from_config(dollars(price)), "currency": "usd"} if price else {}
        given = {"metric": "calls", "effective_from": MAY} | read | wanted
        with unit_of_work(session):
            mapping_id = mappings.id_of(None)
            mappings.create(session, tenant, mapping_id, given, now=MAY)
        return mapping_id

    return make


@pytest.fixture
def costs(session: Session, tenant: str) -> Any:
    def find(ref: str) -> InForce:
        return prices.in_force(session, tenant, ref, ["calls"], SPAN)["calls"]

    return find


def each(found: InForce) -> str | None:
    return None if found.price is None else f"{found.price.charge(Decimal(1)):f}"


def test_the_item_goes_first_then_the_mapping_then_the_price_it_names(
    known: Any, mapped: Any, costs: Any
) -> None:
    known({"price_a": "3", "price_b": "7"}, {"si_1": ("ann", "price_a")})
    mapped("5", price_id="price_b")
    assert each(costs("ann")) == "300"
    assert each(costs("bob")) == "500"


def test_a_mapping_without_a_definition_takes_the_price_it_names(
    known: Any, mapped: Any, costs: Any
) -> None:
    known({"price_b": "7"}, {})
    mapped(price_id="price_b")
    assert each(costs("bob")) == "700"


def test_an_item_of_a_price_we_cannot_read_leaves_the_mappings_and_says_so(
    known: Any, mapped: Any, costs: Any
) -> None:
    known({"price_a": None}, {"si_1": ("ann", "price_a")})
    mapped("5")
    found = costs("ann")
    assert each(found) == "500"
    assert found.note == (
        "the price price_a of the customer's subscription item cannot be read: has no tiers"
    )


def test_what_nothing_can_price_says_which_price_and_why(
    known: Any, mapped: Any, costs: Any
) -> None:
    known({"price_b": None}, {})
    mapped(price_id="price_b")
    found = costs("bob")
    assert found.price is None
    assert "price_b" in str(found.why_not)
    assert "has no tiers" in str(found.why_not)


def test_a_mapping_for_an_item_prices_the_items_customer_and_nobody_else(
    known: Any, mapped: Any, costs: Any, session: Session, tenant: str
) -> None:
    known({}, {"si_1": ("ann", "price_a"), "si_2": ("bob", "price_a")})
    everyones, own = mapped("5"), mapped("9", subscription_item_id="si_1")
    assert (each(costs("ann")), costs("ann").mapping_id) == ("900", own)
    assert (each(costs("bob")), costs("bob").mapping_id) == ("500", everyones)
    assert costs("bob").note is None
    found = prices.for_everyone(session, tenant, "calls", [SPAN])[SPAN]
    assert each(found.price) == "500"
    assert {ref: each(price) for ref, price in found.own.items()} == {"ann": "900"}
