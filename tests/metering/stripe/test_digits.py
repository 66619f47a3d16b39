"""What goes over the wire is the number, plainly written, or nothing."""

import re
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.stripe.digits import LARGEST, SIGNIFICANT_DIGITS, quantised, truncated, wire

PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
quantities = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30
)


def significant(digits: str) -> int:
    """As the strictest reader would count them."""
    return len(digits.replace("-", "").replace(".", "").lstrip("0"))


@given(quantities)
def test_what_is_truncated_can_be_sent_to_the_digit(value: Decimal) -> None:
    cut = truncated(value)
    text = wire(cut)
    assert PLAIN.fullmatch(text)
    assert Decimal(text) == cut
    assert significant(text) <= SIGNIFICANT_DIGITS


@given(quantities)
def test_truncation_never_sends_more_than_there_is(value: Decimal) -> None:
    cut = truncated(value)
    assert abs(cut) <= abs(value)
    assert cut == 0 or (cut > 0) == (value > 0)
    with localcontext(prec=60):
        rest = abs(value - cut)
        assert rest <= abs(value) * Decimal("1e-14") or abs(cut) == LARGEST


@given(quantities)
def test_what_fits_is_not_changed(value: Decimal) -> None:
    cut = truncated(value)
    assert truncated(cut) == quantised(cut) == cut


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=6
    )
)
def test_deltas_of_a_growing_total_add_up_to_it(total: Decimal) -> None:
    """What truncation leaves goes with the next delta: a few deltas tell it all."""
    told = Decimal(0)
    for _ in range(3):
        told += Decimal(wire(truncated(total - told)))
    assert told == total


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 12))
def test_a_double_is_read_back_as_what_was_sent(coefficient: int, places: int) -> None:
    sent = Decimal(coefficient).scaleb(-places)
    assert quantised(Decimal(repr(float(sent)))) == sent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1E-7", "0.0000001"),
        ("1E+14", "100000000000000"),
        ("999999999999999", "999999999999999"),
        ("-0.000", "0"),
        ("2.500", "2.5"),
        ("-12.340", "-12.34"),
        ("123456789012345", "123456789012345"),
        ("0.000123456789012345", "0.000123456789012345"),
    ],
)
def test_digits_are_plain(value: str, text: str) -> None:
    assert wire(Decimal(value)) == text


def test_sixteen_digits_are_refused_and_not_rounded() -> None:
    with pytest.raises(ValueError, match="15 significant digits"):
        wire(Decimal("1234567890.123456"))
    for value in ("1E+15", "-1000000000000000", "1E+30"):
        with pytest.raises(ValueError, match="15 significant digits"):
            wire(Decimal(value))
    assert truncated(Decimal("1234567890.123456")) == Decimal("1234567890.12345")
    assert truncated(Decimal("-1234567890.123459")) == Decimal("-1234567890.12345")


def test_a_quantity_beyond_the_largest_takes_several_events() -> None:
    total, told = Decimal("-2500000000000000.5"), Decimal(0)
    events = []
    while total != told:
        events.append(wire(truncated(total - told)))
        told += Decimal(events[-1])
    assert events == ["-999999999999999", "-999999999999999", "-500000000000002", "-0.5"]


def test_what_doubles_add_is_taken_away() -> None:
    assert quantised(Decimal("0.30000000000000004")) == Decimal("0.3")
    assert quantised(Decimal("1e21")) == Decimal(10) ** 21


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_number_is_refused(value: str) -> None:
    for reading in (wire, truncated, quantised):
        with pytest.raises(ValueError, match="is not a quantity"):
            reading(Decimal(value))
