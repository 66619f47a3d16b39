"""A price: what a quantity costs, exactly and as invoiced."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from pricing.errors import PricingError, quoted
from pricing.flat import Flat
from pricing.graduated import Graduated
from pricing.money import Currency, rounded
from pricing.numbers import EXACT, MAX_AMOUNT, MAX_QUANTITY, ZERO, bounded
from pricing.package import Package
from pricing.part import Part
from pricing.per_unit import PerUnit
from pricing.volume import Volume

Model = PerUnit | Package | Graduated | Volume | Flat

ZERO_USAGE = ("first_tier_flat", "nothing")
INTERVALS = ("day", "week", "month", "year")
USAGE_TYPES = ("metered", "licensed")
TAX_BEHAVIORS = ("exclusive", "inclusive", "unspecified")

# Above any quantity that is read: sums of quantities, bounds and free units are priced as well.
_LIMIT = MAX_QUANTITY.scaleb(10)


@dataclass(frozen=True, slots=True)
class Recurring:
    """How often a Stripe price is billed, and from which meter."""

    interval: str = "month"
    interval_count: int = 1
    usage_type: str = "metered"
    meter: str | None = None

    def __post_init__(self) -> None:
        _one_of(self.interval, INTERVALS, "recurring/interval")
        _one_of(self.usage_type, USAGE_TYPES, "recurring/usage_type")
        if isinstance(self.interval_count, bool) or not isinstance(self.interval_count, int):
            raise PricingError("recurring/interval_count", "must be a whole number")
        if not 1 <= self.interval_count <= 1095:
            raise PricingError("recurring/interval_count", "must be from 1 to 1095")


@dataclass(frozen=True, slots=True)
class Price:
    """Amounts in minor units of `currency`.

    minimum_charge, maximum_charge: bounds on the whole charge, also where nothing was used.
    free_units:  billed units that cost nothing: for a package price, packages.
    zero_usage:  whether the first tier's flat price is due where nothing was used, which Stripe
                 leaves undocumented.
    others:      the same price in other currencies (Stripe's `currency_options`).
    """

    currency: Currency
    model: Model
    minimum_charge: Decimal | None = None
    maximum_charge: Decimal | None = None
    free_units: Decimal = ZERO
    zero_usage: str = "first_tier_flat"
    recurring: Recurring | None = None
    product: str | None = None
    nickname: str | None = None
    tax_behavior: str | None = None
    others: tuple["Price", ...] = ()
    _amount: Callable[[Decimal], int] | None = field(
        init=False, repr=False, compare=False, default=None
    )

    def __post_init__(self) -> None:
        bounded(self.free_units, "free_units")
        _one_of(self.zero_usage, ZERO_USAGE, "zero_usage")
        if self.tax_behavior is not None:
            _one_of(self.tax_behavior, TAX_BEHAVIORS, "tax_behavior")
        for name in ("minimum_charge", "maximum_charge"):
            if getattr(self, name) is not None:
                bounded(getattr(self, name), name, below=MAX_AMOUNT)
        for name, limit in (("product", 500), ("nickname", 5000)):
            if len(getattr(self, name) or "") > limit:
                raise PricingError(name, f"has more than {limit} characters")
        self._check_others()
        least, most = self.minimum_charge, self.maximum_charge
        if least is not None and most is not None and least > most:
            raise PricingError("minimum_charge", "is greater than the maximum charge")
        if isinstance(self.model, Graduated) and not self.is_bounded:
            compiled = self.model.compiled(self.currency, self.zero_usage)
            object.__setattr__(self, "_amount", compiled)

    def _check_others(self) -> None:
        known = {self.currency.code}
        for other in self.others:
            if other.others:
                raise PricingError("currency_options", "cannot have options of their own")
            if other.currency.code in known:
                raise PricingError(
                    "currency_options", f"say twice what it costs in {other.currency.code}"
                )
            known.add(other.currency.code)

    @property
    def is_bounded(self) -> bool:
        """True if a minimum or maximum charge applies."""
        return self.minimum_charge is not None or self.maximum_charge is not None

    def billed_units(self, quantity: Decimal) -> Decimal:
        """What is left of a quantity to be paid: packages where they are sold, less free units."""
        if not isinstance(quantity, Decimal) or not quantity.is_finite():
            quantity = bounded(quantity, "quantity")
        if not ZERO <= quantity < _LIMIT:
            bounded(quantity, "quantity", below=_LIMIT)
        units = self.model.billed(quantity) if isinstance(self.model, Package) else quantity
        if self.free_units:
            units = max(ZERO, EXACT.subtract(units, self.free_units))
        return units

    def charge(self, quantity: Decimal) -> Decimal:
        """The exact charge, unrounded, minor units. PricingError if the quantity is negative."""
        exact = self.model.charge(self.billed_units(quantity), self.zero_usage)
        if self.minimum_charge is not None:
            exact = max(exact, self.minimum_charge)
        if self.maximum_charge is not None:
            exact = min(exact, self.maximum_charge)
        return exact

    def charge_between(
        self, prior: Decimal, quantity: Decimal, *, billed_before: Decimal | None = None
    ) -> Decimal:
        """What `quantity` further units cost after `prior` ones, exactly; below 0 where a volume
        price falls.

        billed_before: what the prior units were billed; by default what they cost.
        """
        prior, quantity = bounded(prior, "prior"), bounded(quantity, "quantity")
        before = self.charge(prior) if billed_before is None else billed_before
        return EXACT.subtract(self.charge(EXACT.add(prior, quantity)), before)

    def amount(self, quantity: Decimal) -> int:
        """What an invoice bills: the sum of its rounded lines, minor units."""
        if self._amount is not None:
            return self._amount(self.billed_units(quantity))
        return sum(part.amount for part in self.parts(quantity))

    def parts(self, quantity: Decimal) -> tuple[Part, ...]:
        """The invoice's lines for this price, each rounded on its own."""
        of = self.currency
        parts = [
            replace(part, amount=rounded(part.exact, of))
            for part in self.model.parts(self.billed_units(quantity), self.zero_usage)
        ]
        if self.is_bounded:
            parts += self._bound(parts)
        return tuple(parts)

    def _bound(self, parts: list[Part]) -> list[Part]:
        exact = ZERO
        for part in parts:
            exact = EXACT.add(exact, part.exact)
        amount = sum(part.amount for part in parts)
        for kind, bound in (("minimum", self.minimum_charge), ("maximum", self.maximum_charge)):
            if bound is None:
                continue
            limit = rounded(bound, self.currency)
            is_missed = amount < limit if kind == "minimum" else amount > limit
            if is_missed:
                change = EXACT.subtract(bound, exact)
                return [Part(kind, None, Decimal(1), change, change, limit - amount)]
        return []

    def marginal(self, quantity: Decimal) -> Decimal:
        """What one more unit costs, exactly, minor units; below 0 where a volume price falls."""
        return self.charge_between(quantity, Decimal(1))

    def in_currency(self, code: str) -> "Price":
        """The same price in another of its currencies; PricingError if it has none of that name."""
        for price in (self, *self.others):
            if price.currency.code == code.lower():
                return price
        raise PricingError("currency", f"this price has none for {code!r}")


def _one_of(value: str, allowed: tuple[str, ...], field: str) -> None:
    if value not in allowed:
        raise PricingError(field, f"must be one of {', '.join(allowed)}; it is {quoted(value)}")
