"""Prices in, exact charges out. Pure: the standard library and nothing else.

No database, no clock, no network: whoever calls brings the quantities and the instants.
"""
