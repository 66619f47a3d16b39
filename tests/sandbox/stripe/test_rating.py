"""The stand-in's rating against Stripe's own invoice, and against counting unit by unit."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.stripe import rating

UNITS = 60


def _tier(up_to, unit=None, flat=None):
    return {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat}


def _tiered(mode, *tiers):
    return {"billing_scheme": "tiered", "tiers_mode": mode, "_tiers": list(tiers)}


def _flat_price(unit, transform=None):
    return {
        "billing_scheme": "per_unit",
        "unit_amount_decimal": unit,
        "transform_quantity": transform,
    }


REAL = (_tier(1000, "0", "900"), _tier(None, "3.6", "0"))


def _amounts(price, quantity):
    return [each.amount for each in rating.rate(price, Decimal(quantity))]


def test_the_real_invoice():
    charges = rating.rate(_tiered("graduated", *REAL), Decimal(1031))
    assert [each.amount for each in charges] == [0, 900, 112, 0]
    assert [each.quantity for each in charges] == [1000, 0, 31, 0]
    assert [(each.tier, each.part) for each in charges] == [
        (1, "unit"),
        (1, "flat"),
        (2, "unit"),
        (2, "flat"),
    ]


@pytest.mark.parametrize(
    ("quantity", "amounts"),
    [
        ("0", [0, 900]),
        ("-5", [0, 900]),
        ("1000", [0, 900]),
        ("1000.5", [0, 900, 2, 0]),
        ("1001", [0, 900, 4, 0]),
    ],
)
def test_graduated_bounds(quantity, amounts):
    assert _amounts(_tiered("graduated", *REAL), quantity) == amounts


@pytest.mark.parametrize(
    ("quantity", "amounts"), [("0", [0, 900]), ("1000", [0, 900]), ("1031", [3712, 0])]
)
def test_volume_bounds(quantity, amounts):
    assert _amounts(_tiered("volume", *REAL), quantity) == amounts


def test_a_tier_without_an_amount_makes_no_line():
    price = _tiered("graduated", _tier(10, flat="500"), _tier(None, unit="2"))
    assert _amounts(price, "12") == [500, 4]


@pytest.mark.parametrize(
    ("quantity", "how", "amount"),
    [
        ("0", "up", 0),
        ("1", "up", 700),
        ("1000", "up", 700),
        ("1001", "up", 1400),
        ("999", "down", 0),
        ("1999.9", "down", 700),
    ],
)
def test_packages(quantity, how, amount):
    price = _flat_price("700", {"divide_by": 1000, "round": how})
    assert _amounts(price, quantity) == [amount]


def test_half_a_minor_unit_goes_up():
    assert _amounts(_flat_price("0.5"), "1") == [1]
    assert _amounts(_flat_price("0.000000000001"), "499999999999") == [0]
    assert _amounts(_flat_price("0.000000000001"), "500000000000") == [1]


amounts = st.one_of(st.none(), st.decimals("0", "999", places=3).map(lambda each: f"{each:f}"))


@st.composite
def _tiers(draw):
    ends = sorted(draw(st.sets(st.integers(1, UNITS), max_size=4)))
    made = []
    for end in [*ends, None]:
        unit, flat = draw(amounts), draw(amounts)
        made.append(_tier(end, "1" if unit is None and flat is None else unit, flat))
    return made


def _holding(tiers, unit):
    """The number of the tier that the unit, counted from 1, falls into."""
    return next(n for n, t in enumerate(tiers) if t["up_to"] is None or unit <= t["up_to"])


def _half_up(amount):
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def _counted(tiers, reached, units_of):
    """The expected amounts: of each tier reached its units one by one, and its flat part."""
    expected = []
    for number in reached:
        tier = tiers[number]
        if tier["unit_amount_decimal"] is not None:
            each = Decimal(tier["unit_amount_decimal"])
            expected.append(_half_up(sum((each for _ in units_of(number)), Decimal(0))))
        if tier["flat_amount_decimal"] is not None:
            expected.append(_half_up(Decimal(tier["flat_amount_decimal"])))
    return expected


@given(_tiers(), st.integers(0, UNITS + 5))
def test_graduated_is_every_unit_at_its_own_tier(tiers, quantity):
    places = [_holding(tiers, unit) for unit in range(1, quantity + 1)]
    reached = sorted({0, *places})
    expected = _counted(tiers, reached, lambda number: [p for p in places if p == number])
    assert _amounts(_tiered("graduated", *tiers), quantity) == expected


@given(_tiers(), st.integers(0, UNITS + 5))
def test_volume_is_every_unit_at_the_tier_of_the_last(tiers, quantity):
    place = _holding(tiers, quantity)
    expected = _counted(tiers, [place], lambda _: range(quantity))
    assert _amounts(_tiered("volume", *tiers), quantity) == expected


@given(st.integers(0, 500), st.integers(1, 50), st.sampled_from(["up", "down"]))
def test_packages_are_filled_one_by_one(quantity, size, how):
    full, rest = 0, quantity
    while rest >= size:
        full, rest = full + 1, rest - size
    expected = full + (1 if rest and how == "up" else 0)
    assert rating.packages(Decimal(quantity), {"divide_by": size, "round": how}) == expected
