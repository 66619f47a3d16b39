"""Stretching a period's usage over the whole of it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.projection import extrapolate

QUANTITIES = st.decimals(min_value=0, max_value=10**9, places=12)


def test_half_a_period_is_doubled() -> None:
    assert extrapolate(Decimal(10), Decimal(50), Decimal(100)) == 20


def test_before_anything_has_elapsed_nothing_is_known() -> None:
    assert extrapolate(Decimal(10), Decimal(0), Decimal(100)) == 10


def test_time_outside_the_period_is_refused() -> None:
    with pytest.raises(ValueError, match="within the period"):
        extrapolate(Decimal(1), Decimal(101), Decimal(100))


@given(QUANTITIES, st.integers(1, 10**7))
def test_at_the_end_the_projection_is_the_quantity(quantity: Decimal, seconds: int) -> None:
    assert extrapolate(quantity, Decimal(seconds), Decimal(seconds)) == quantity


@given(QUANTITIES, st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_projection_is_never_less_than_the_usage(
    quantity: Decimal, elapsed: int, rest: int
) -> None:
    assert extrapolate(quantity, Decimal(elapsed), Decimal(elapsed + rest)) >= quantity
