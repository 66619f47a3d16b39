"""Prices in, exact charges out. Pure: the standard library and nothing else.

No database, no clock, no network: whoever calls brings the quantities and the instants.
"""

from pricing.errors import PricingError
from pricing.price import Price
from pricing.simulator import InvoiceSimulator

__all__ = ["InvoiceSimulator", "Price", "PricingError"]
