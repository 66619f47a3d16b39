"""Prices, quantities and tier tables as Hypothesis draws them."""

from decimal import Decimal

from hypothesis import strategies as st

from pricing.definition import Price, Recurring
from pricing.flat import Flat
from pricing.graduated import Graduated
from pricing.money import Currency, currency
from pricing.package import Package
from pricing.per_unit import PerUnit
from pricing.tiers import Tier
from pricing.volume import Volume

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=12).map(Decimal.normalize) | st.integers(
    0, 10**5
).map(Decimal)
QUANTITIES = st.decimals(min_value=0, max_value=10**9, places=12) | st.integers(0, 200).map(Decimal)
CURRENCIES = st.sampled_from(["usd", "eur", "jpy", "kwd", "isk", "huf", "ugx"]).map(currency)
# A config refuses what JSON and Postgres cannot hold.
_WRITABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")


@st.composite
def tables(draw: st.DrawFn, *, whole: bool = False, flat: bool = True) -> tuple[Tier, ...]:
    """A good tier table. whole: bounds that Stripe can hold."""
    bounds = draw(
        st.lists(
            st.integers(1, 150).map(Decimal)
            if whole
            else st.decimals(min_value=Decimal("0.001"), max_value=150, places=3),
            unique=True,
            max_size=5,
        )
    )
    flats = st.none() | AMOUNTS if flat else st.none()
    tiers = []
    for up_to in [*sorted(bounds), None]:
        unit, fixed = draw(st.none() | AMOUNTS), draw(flats)
        tiers.append(Tier(up_to, Decimal(1) if unit is None and fixed is None else unit, fixed))
    return tuple(tiers)


def models(*, whole: bool = False) -> st.SearchStrategy[object]:
    return st.one_of(
        AMOUNTS.map(PerUnit),
        st.builds(Package, AMOUNTS, st.integers(1, 1000), st.sampled_from(["up", "down"])),
        tables(whole=whole).map(Graduated),
        tables(whole=whole).map(Volume),
        AMOUNTS.map(Flat),
    )


def prices(of: st.SearchStrategy[Currency] = CURRENCIES) -> st.SearchStrategy[Price]:
    """Any price, with everything that only we can express."""
    bounds = st.none() | AMOUNTS
    pairs = st.tuples(bounds, bounds).map(
        lambda pair: pair if None in pair else tuple(sorted(pair))  # type: ignore[type-var]
    )
    return st.builds(
        lambda currency, model, bound, free, zero: Price(
            currency, model, bound[0], bound[1], free, zero
        ),
        of,
        models(),
        pairs,
        st.just(Decimal(0)) | st.integers(0, 50).map(Decimal),
        st.sampled_from(["first_tier_flat", "nothing"]),
    )


@st.composite
def stripe_prices(draw: st.DrawFn) -> Price:
    """What Stripe's Price object can hold, other currencies of the same shape among it."""
    model = draw(models(whole=True))
    usage = (
        "licensed" if isinstance(model, Flat) else draw(st.sampled_from(["metered", "licensed"]))
    )
    recurring = Recurring(
        draw(st.sampled_from(["day", "week", "month", "year"])),
        draw(st.integers(1, 12)),
        usage,
        "mtr_1" if usage == "metered" else None,
    )
    behaviors = st.none() | st.sampled_from(["exclusive", "inclusive", "unspecified"])
    others = []
    if draw(st.booleans()):
        others.append(Price(currency("chf"), model, tax_behavior=draw(behaviors)))
    return Price(
        draw(CURRENCIES),
        model,
        recurring=draw(st.none() | st.just(recurring)),
        product=draw(st.none() | st.just("prod_1")),
        nickname=draw(st.none() | st.text(_WRITABLE, max_size=20)),
        tax_behavior=draw(behaviors),
        others=tuple(others),
    )
