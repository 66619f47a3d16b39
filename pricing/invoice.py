"""An invoice: the lines of several prices, and what is taken off and put on.

Order: lines, each rounded → minimum commitment → discounts of a line → discounts of the invoice →
prepaid commitments and credits → tax.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from pricing.definition import Price
from pricing.errors import PricingError
from pricing.money import Currency, rounded
from pricing.numbers import EXACT, ZERO
from pricing.part import Part
from pricing.proration import prorated, shared
from pricing.shares import RESIDUES, split

TAX_ROUNDINGS = ("invoice", "line")


@dataclass(frozen=True, slots=True)
class UsageItem:
    """So much of a metric at a price. active: the share of the period a fixed fee is due for."""

    metric: str
    quantity: Decimal
    price: Price
    active: Fraction = Fraction(1)


@dataclass(slots=True)
class Line:
    """One usage item as invoiced, or the minimum commitment's top-up (`metric` None).

    amount: the sum of the rounded parts, minor units.  left: what discounts and credits leave.
    """

    metric: str | None
    quantity: Decimal
    price: Price | None
    parts: Sequence[Part]
    exact: Decimal
    amount: int
    discount: int = 0
    credit: int = 0

    @property
    def left(self) -> int:
        return self.amount - self.discount - self.credit


@dataclass(frozen=True, slots=True)
class Discount:
    """A coupon: percent_off (0-100) or amount_off (minor units); of one metric's lines, or all."""

    name: str
    percent_off: Decimal | None = None
    amount_off: Decimal | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """Money paid or given in advance, drawn down before tax.

    kind: commitment (prepaid) or credit.  priority: the lowest is drawn first; then what expires
    first; then credits before commitments, as Stripe draws promotional before paid; then in order.
    metrics: whose lines it pays; None: all.
    """

    name: str
    kind: str
    amount: Decimal
    priority: int = 50
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    metrics: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a discount or a credit came to, minor units. why_not: why it was not used, if so."""

    name: str
    kind: str
    amount: int
    remaining: int | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Everything on an invoice that is not usage. Amounts in minor units.

    tax_rate: percent.  tax_inclusive: it is contained in the prices.
    tax_rounding: once for the invoice, or for each line.  residue: see `pricing.shares`.
    """

    discounts: Sequence[Discount] = ()
    credits: Sequence[Credit] = ()
    minimum_commitment: Decimal | None = None
    minimum_share: Fraction = Fraction(1)
    tax_rate: Decimal = ZERO
    tax_inclusive: bool = False
    tax_rounding: str = TAX_ROUNDINGS[0]
    residue: str = RESIDUES[0]


@dataclass(frozen=True, slots=True)
class Invoice:
    """Minor units. total = subtotal - discounts - credits + tax, where tax is exclusive."""

    currency: Currency
    lines: Sequence[Line]
    subtotal: int
    discounts: int
    credits: int
    tax: int
    total: int
    applied_discounts: Sequence[Applied] = field(default=())
    applied_credits: Sequence[Applied] = field(default=())


def make(
    currency: Currency, items: Sequence[UsageItem], terms: Terms, *, at: datetime | None = None
) -> Invoice:
    """Work out an invoice.

    at: the instant by which credits must be effective and not expired: the period's end.
    Raises: PricingError for prices of other currencies, and for credits that need `at`.
    """
    lines = [line_of(item, currency, f"usageItems/{i}") for i, item in enumerate(items)]
    _top_up(lines, terms, currency)
    subtotal = sum(line.amount for line in lines)
    discounts = [_discount(lines, each, terms, currency) for each in _in_order(terms.discounts)]
    credits = [_draw(lines, each, terms, currency, at) for each in _drawing_order(terms.credits)]
    left = sum(line.left for line in lines)
    tax = _tax(lines, terms, currency)
    return Invoice(
        currency=currency,
        lines=lines,
        subtotal=subtotal,
        discounts=sum(each.amount for each in discounts),
        credits=sum(each.amount for each in credits),
        tax=tax,
        total=left if terms.tax_inclusive else left + tax,
        applied_discounts=discounts,
        applied_credits=credits,
    )


def line_of(item: UsageItem, currency: Currency, at: str) -> Line:
    """One usage item's line. at: where it stands, for errors."""
    price = item.price
    if price.currency != currency:
        raise mixed(price.currency, currency, f"{at}/priceConfig/currency")
    parts: Sequence[Part] = price.parts(item.quantity)
    if item.active != 1:
        parts = _prorated(price, parts, item, at)
    exact = ZERO
    for part in parts:
        exact = EXACT.add(exact, part.exact)
    amount = sum(part.amount for part in parts)
    return Line(item.metric, item.quantity, price, parts, exact, amount)


def mixed(one: Currency, other: Currency, at: str) -> PricingError:
    """The refusal of a second currency."""
    return PricingError(
        at, f"is {one.code}, but the invoice is in {other.code}: currencies are never mixed"
    )


def _prorated(price: Price, parts: Sequence[Part], item: UsageItem, at: str) -> Sequence[Part]:
    if price.model.kind != "flat" or price.is_bounded:
        raise PricingError(f"{at}/activeFrom", "prorates a fixed fee only: usage is what it is")
    amount = prorated(parts[0].exact, item.active, price.currency)
    exact = shared(parts[0].exact, item.active)
    return (Part("fee", None, Decimal(1), parts[0].unit_amount, exact, amount),)


def _top_up(lines: list[Line], terms: Terms, currency: Currency) -> None:
    """Add what is missing to the minimum commitment as a line of its own."""
    if terms.minimum_commitment is None:
        return
    missing = true_up(
        terms.minimum_commitment, sum(line.amount for line in lines), terms.minimum_share, currency
    )
    if missing:
        exact = Decimal(missing)
        part = Part("true_up", None, Decimal(1), exact, exact, missing)
        lines.append(Line(None, Decimal(1), None, (part,), exact, missing))


def true_up(minimum: Decimal, used: int, active: Fraction, currency: Currency) -> int:
    """What is missing to (a share of) the minimum, minor units; 0 if it was reached."""
    return max(0, prorated(minimum, active, currency) - used)


def _in_order(discounts: Sequence[Discount]) -> list[Discount]:
    """Those of a line before those of the invoice, else as given."""
    return sorted(discounts, key=lambda discount: discount.metric is None)


def _discount(lines: list[Line], given: Discount, terms: Terms, currency: Currency) -> Applied:
    chosen = [line for line in lines if given.metric in (None, line.metric)]
    weights = [line.left for line in chosen]
    whole = sum(weights)
    if given.percent_off is not None:
        exact = EXACT.scaleb(EXACT.multiply(Decimal(whole), given.percent_off), -2)
    else:
        exact = given.amount_off or ZERO
    amount = min(rounded(exact, currency), whole)
    for line, share in zip(
        chosen, split(amount, weights, currency.step, terms.residue), strict=True
    ):
        line.discount += share
    why_not = None
    if given.metric is not None and not chosen:
        why_not = f"there is no line of {given.metric}"
    return Applied(given.name, "discount", amount, why_not=why_not)


def _drawing_order(credits: Sequence[Credit]) -> list[Credit]:
    def order(credit: Credit) -> tuple[object, ...]:
        expires = credit.expires_at.timestamp() if credit.expires_at else float("inf")
        return (credit.priority, expires, credit.kind == "commitment")

    return sorted(credits, key=order)


def _draw(
    lines: list[Line], credit: Credit, terms: Terms, currency: Currency, at: datetime | None
) -> Applied:
    held = rounded(credit.amount, currency)
    why_not = _why_unusable(credit, at)
    chosen = [line for line in lines if credit.metrics is None or line.metric in credit.metrics]
    weights = [line.left for line in chosen]
    amount = 0 if why_not else min(held, sum(weights))
    for line, share in zip(
        chosen, split(amount, weights, currency.step, terms.residue), strict=True
    ):
        line.credit += share
    return Applied(credit.name, credit.kind, amount, held - amount, why_not)


def _why_unusable(credit: Credit, at: datetime | None) -> str | None:
    if at is None and (credit.expires_at or credit.effective_at):
        raise PricingError("periodEnd", "is needed to tell whether a credit is still valid")
    if at is not None and credit.expires_at is not None and credit.expires_at < at:
        return "it expired before the period's end"
    if at is not None and credit.effective_at is not None and credit.effective_at > at:
        return "it begins after the period's end"
    return None


def _tax(lines: list[Line], terms: Terms, currency: Currency) -> int:
    if not terms.tax_rate:
        return 0
    rate = Fraction(terms.tax_rate) / 100
    share = rate / (1 + rate) if terms.tax_inclusive else rate
    if terms.tax_rounding == "line":
        return sum(prorated(Decimal(line.left), share, currency) for line in lines)
    return prorated(Decimal(sum(line.left for line in lines)), share, currency)
