"""What-if for one invoice, in the shape of the HTTP contract's pricing input."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pricing import invoice, money
from pricing.config import from_config
from pricing.definition import Price
from pricing.errors import PricingError
from pricing.invoice import Credit, Discount, Invoice, Terms, UsageItem
from pricing.money import Currency
from pricing.numbers import MAX_AMOUNT, ZERO
from pricing.presentation import shown
from pricing.proration import share
from pricing.reading import Members
from pricing.shares import RESIDUES
from pricing.stripe_price import from_stripe

ITEMS = 1000


class InvoiceSimulator:
    """Turns usage and prices into an invoice. Holds nothing between calls."""

    def simulate(
        self, scenario: Mapping[str, Any] | None = None, /, **named: Any
    ) -> dict[str, Any]:
        """Work out the invoice of a scenario.

        scenario: the contract's pricing input, or the same as keyword arguments in snake_case.
                  Numbers may be numbers, strings or Decimals; amounts are in major units.
        Returns:  `{currency, lineItems, subtotal, discounts, credits, tax, total, …}`: decimal
                  strings in major units, each total also as an integer `…Minor`.
        Raises:   PricingError naming the field.
        """
        if scenario is not None and named:
            raise PricingError("", "give a scenario or keyword arguments, not both")
        return shown(self.invoice(named if scenario is None else scenario))

    def invoice(self, scenario: Mapping[str, Any]) -> Invoice:
        """The same as an `Invoice`, in minor units."""
        members = Members(scenario)
        members.text("customer_id")
        start, end = members.instant("period_start"), members.instant("period_end")
        if start is not None and end is not None and start >= end:
            raise PricingError(members.at("period_end"), "must lie after the period's start")
        stated = _currency(members)
        currency, items = stated, []
        for i, given in enumerate(members.items("usage_items", most=ITEMS)):
            at = f"{members.at('usage_items')}/{i}"
            item, price_at = _item(given, at, stated, start, end)
            if currency is not None and item.price.currency != currency:
                raise invoice.mixed(item.price.currency, currency, f"{price_at}/currency")
            currency = item.price.currency
            items.append(item)
        if currency is None:
            raise PricingError(members.at("usage_items"), "is empty, and there is no currency")
        terms = _terms(members, currency)
        members.finish()
        return invoice.make(currency, items, terms, at=end)


def _currency(members: Members) -> Currency | None:
    code = members.take("currency")
    return None if code is None else money.currency(code, members.at("currency"))


def _item(
    given: Any, path: str, currency: Currency | None, start: datetime | None, end: datetime | None
) -> tuple[UsageItem, str]:
    """A usage item, and where its price stands."""
    members = Members(given, path)
    if not members.needed("metric"):
        raise PricingError(members.at("metric"), "must not be empty")
    quantity = members.number("quantity")
    if quantity is None:
        raise PricingError(members.at("quantity"), "is required")
    price, price_at = _price(members, currency)
    item = UsageItem(
        metric=members.text("metric", most=100) or "",
        quantity=quantity,
        price=price,
        active=_active(members, start, end),
    )
    members.finish()
    return item, price_at


def _price(members: Members, currency: Currency | None) -> tuple[Price, str]:
    given = members.take("stripe_price")
    if given is None:
        at = members.at("price_config")
        price = from_config(members.needed("price_config"), path=at, currency=currency)
    elif members.take("price_config") is not None:
        raise PricingError(members.at("price_config"), "and stripePrice exclude each other")
    else:
        at = members.at("stripe_price")
        try:
            price = from_stripe(given)
        except PricingError as error:
            raise error.within(at) from None
    return price, at


def _active(members: Members, start: datetime | None, end: datetime | None) -> Fraction:
    since, until = members.instant("active_from"), members.instant("active_until")
    if since is None and until is None:
        return Fraction(1)
    if start is None or end is None:
        raise PricingError(members.at("active_from"), "needs periodStart and periodEnd")
    try:
        return share(since or start, until or end, start, end)
    except PricingError as error:
        raise PricingError(members.at("active_from"), error.reason) from None


def _terms(members: Members, currency: Currency) -> Terms:
    discounts = members.items("discounts", most=100)
    at = members.at("discounts")
    return Terms(
        discounts=[_discount(each, f"{at}/{i}", currency) for i, each in enumerate(discounts)],
        credits=[
            *_credits(members, "commitments", "commitment", currency),
            *_credits(members, "credits", "credit", currency),
        ],
        minimum_commitment=_money(members, "minimum_commitment", currency),
        tax_rate=members.number("tax_rate", below=Decimal(1000), decimals=6) or ZERO,
        tax_inclusive=members.choice("tax_behavior", ("exclusive", "inclusive")) == "inclusive",
        tax_rounding=members.choice("tax_rounding", invoice.TAX_ROUNDINGS) or "invoice",
        residue=members.choice("discount_residue", RESIDUES) or RESIDUES[0],
    )


def _money(members: Members, name: str, currency: Currency) -> Decimal | None:
    amount = members.number(name, below=money.major(MAX_AMOUNT, currency))
    return None if amount is None else money.minor(amount, currency)


def _discount(given: Any, path: str, currency: Currency) -> Discount:
    """`{percentOff | amountOff, metric?, name?}`, or `{type: percent|amount, value, …}`."""
    members = Members(given, path)
    kind = members.choice("type", ("percent", "percentage", "amount", "fixed"))
    percent = members.number("percent_off", decimals=6)
    amount = _money(members, "amount_off", currency)
    if kind is not None:
        if percent is not None or amount is not None:
            raise PricingError(path, "says both a type with its value and percentOff or amountOff")
        if kind.startswith("percent"):
            percent = members.number("value", decimals=6)
        else:
            amount = _money(members, "value", currency)
    if (percent is None) == (amount is None):
        raise PricingError(path, "needs either percentOff or amountOff")
    if percent is not None and percent > 100:
        raise PricingError(members.at("percent_off" if kind is None else "value"), "is over 100")
    _same_currency(members, currency)
    discount = Discount(
        members.text("name", most=200) or "Discount", percent, amount, members.text("metric")
    )
    members.finish()
    return discount


def _credits(members: Members, name: str, kind: str, currency: Currency) -> list[Credit]:
    """A plain amount, or a list of `{amount, name?, priority?, effectiveAt?, expiresAt?,
    metrics?}`."""
    given = members.take(name)
    if given is None:
        return []
    if not isinstance(given, list | tuple):
        amount = _money(members, name, currency)
        return [Credit(kind.capitalize(), kind, amount or ZERO)]
    at = members.at(name)
    return [_credit(each, f"{at}/{i}", kind, currency) for i, each in enumerate(given)]


def _credit(given: Any, path: str, kind: str, currency: Currency) -> Credit:
    if not isinstance(given, Mapping):
        given = {"amount": given}
    members = Members(given, path)
    amount = _money(members, "amount", currency)
    if amount is None:
        raise PricingError(members.at("amount"), "is required")
    metrics = members.items("metrics", most=ITEMS)
    if members.has("metrics") and not metrics:
        raise PricingError(members.at("metrics"), "names none: leave it out to pay for all")
    if not all(isinstance(metric, str) for metric in metrics):
        raise PricingError(members.at("metrics"), "must be a list of names")
    _same_currency(members, currency)
    priority = members.whole("priority", below=101)
    credit = Credit(
        name=members.text("name", most=200) or kind.capitalize(),
        kind=kind,
        amount=amount,
        priority=50 if priority is None else priority,
        effective_at=members.instant("effective_at"),
        expires_at=members.instant("expires_at"),
        metrics=frozenset(metrics) or None,
    )
    members.finish()
    return credit


def _same_currency(members: Members, currency: Currency) -> None:
    code = members.take("currency")
    if code is not None and money.currency(code, members.at("currency")) != currency:
        raise PricingError(
            members.at("currency"), f"differs from the invoice's, which is {currency.code}"
        )
