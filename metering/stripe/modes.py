"""Stripe's two modes: keys, objects and totals of the one know nothing of the other's."""

from typing import Literal

Mode = Literal["live", "test"]
MODES: tuple[Mode, ...] = ("live", "test")
