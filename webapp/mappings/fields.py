"""The fields that only mappings have: Stripe's ids, and prices in either form."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError, fields

from pricing import PricingError
from pricing.numbers import MAX_QUANTITY, bounded
from pricing.price import Price, from_config, from_stripe
from webapp import wire


class StripeIdField(wire.TextField):
    """An id of the form that Stripe gives to such things. Whether it exists is not asked."""

    def __init__(self, *prefixes: str, **kwargs: Any) -> None:
        pattern = f"^({'|'.join(prefixes)})[A-Za-z0-9_]{{1,200}}$"
        super().__init__(allow_none=True, metadata={"pattern": pattern}, **kwargs)
        self.prefixes = prefixes
        self._form = re.compile(pattern.rstrip("$"))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not self._form.fullmatch(text):
            raise ValidationError(
                f"must begin with {' or '.join(self.prefixes)}, followed by letters and digits"
            )
        return text


class QuantityField(fields.Field[Decimal]):
    """A quantity as a JSON number or a decimal string, taken exactly."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        try:
            return bounded(value, "", least=-MAX_QUANTITY)
        except PricingError as error:
            raise ValidationError(error.reason) from None


class PriceField(fields.Field[Price]):
    """A price, read; what is wrong with it is told where it stands."""

    def __init__(self, form: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._read: Callable[[Any], Price] = from_stripe if form == "stripe" else from_config

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Price:
        try:
            price = self._read(value)
        except PricingError as error:
            raise ValidationError(_nested(error.field, error.reason)) from None
        for field, text in _texts(price):
            try:
                wire.check_text(text)
            except ValidationError as error:
                raise ValidationError(_nested(field, str(error.messages[0]))) from None
        return price


def _nested(field: str, reason: str) -> Any:
    """`tiers/1/upTo` as marshmallow nests its messages, from which the pointer is made."""
    message: Any = [reason]
    for name in reversed(field.split("/") if field else []):
        message = {name: message}
    return message


def _texts(price: Price) -> Iterator[tuple[str, str]]:
    """The free texts of a price, which are kept and shown again."""
    meter = None if price.recurring is None else price.recurring.meter
    texts = {"product": price.product, "nickname": price.nickname, "recurring/meter": meter}
    yield from ((field, text) for field, text in texts.items() if text is not None)
    for other in price.others:
        yield from _texts(other)
