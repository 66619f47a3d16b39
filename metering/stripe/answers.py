"""What Stripe's objects say, as values that we own; `parsing` reads them from JSON.

API version: the one the library pins (`current_period_*` on subscription items, `pricing` and
`parent` on invoice lines). Instants are aware UTC; quantities and amounts exact. `json` is the
object as it came, for what is not named here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Meter:
    """formula: `sum`, `count` or `last`.  window: `hour` or `day` where only the latest event of
    one counts.  customer_key, value_key: the payload's members that it reads."""

    id: str
    event_name: str
    display_name: str
    formula: str
    window: str | None
    is_active: bool
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"


@dataclass(frozen=True)
class Summary:
    """What a meter adds up to for a customer over `[start_at, end_at)`."""

    start_at: datetime
    end_at: datetime
    value: Decimal


@dataclass(frozen=True)
class Product:
    id: str
    name: str
    is_active: bool


@dataclass(frozen=True)
class Price:
    """json: as `pricing.stripe_price.from_stripe` reads it, tiers and all."""

    id: str
    product_id: str | None
    meter_id: str | None
    currency: str
    is_active: bool
    is_metered: bool
    interval: str | None
    interval_count: int
    json: Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Item:
    """An item of a subscription, with the billing period it is in."""

    id: str
    price: Price
    current_start: datetime
    current_end: datetime
    created_at: datetime


@dataclass(frozen=True)
class Subscription:
    """is_paused: its invoices are not collected, so that usage is billed nobody knows when."""

    id: str
    customer_id: str
    status: str
    items: tuple[Item, ...]
    anchor_at: datetime
    started_at: datetime
    created_at: datetime
    cancel_at: datetime | None
    canceled_at: datetime | None
    ended_at: datetime | None
    trial_end: datetime | None
    is_paused: bool
    metadata: Mapping[str, str]
    json: Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Customer:
    id: str
    name: str | None
    email: str | None
    is_deleted: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class InvoiceLine:
    """amount: minor units, as billed.  quantity: exact, from `quantity_decimal`."""

    id: str
    amount: int
    currency: str
    quantity: Decimal | None
    unit_amount: Decimal | None
    description: str | None
    start_at: datetime
    end_at: datetime
    price_id: str | None
    product_id: str | None
    item_id: str | None
    subscription_id: str | None
    is_proration: bool
    json: Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Invoice:
    """id: None on a preview of an API that gives none.  Amounts in minor units.

    finalizes_at: when Stripe will finalize it by itself; None: not yet said, or never.
    lines:        all of them on a preview, else the first ten or so: `Driver.invoice_lines`.
    """

    id: str | None
    customer_id: str
    subscription_id: str | None
    status: str | None
    billing_reason: str | None
    currency: str
    subtotal: int
    total: int
    period_start: datetime
    period_end: datetime
    created_at: datetime
    finalizes_at: datetime | None
    finalized_at: datetime | None
    auto_advance: bool
    lines: tuple[InvoiceLine, ...]
    json: Json = field(repr=False, compare=False)


@dataclass(frozen=True)
class Event:
    """A snapshot event. account: the connected account it is of, None: the keys' own.

    object: the object as it was when the event was made; unordered, so refetch what matters.
    """

    id: str
    type: str
    mode: str
    account: str | None
    created_at: datetime
    object: Json = field(repr=False)
    previous: Json = field(repr=False)


@dataclass(frozen=True)
class ThinEvent:
    """An event that only says what happened to which object; fetch it for more.

    context: the account it is of, None: the keys' own.
    """

    id: str
    type: str
    mode: str
    context: str | None
    created_at: datetime
    related_id: str | None
    related_type: str | None


@dataclass(frozen=True)
class Sample:
    """One refused meter event. request: the idempotency key of the call that sent it."""

    message: str
    request: str | None


@dataclass(frozen=True)
class MeterErrors:
    """Meter events that were refused for one reason. count: of all; samples: of a few."""

    code: str
    count: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class MeterReport:
    """What Stripe says it could not count, in events accepted within `[start_at, end_at)`.

    meter_id: None where there is no meter of the events' name.
    """

    event: ThinEvent
    meter_id: str | None
    summary: str | None
    start_at: datetime | None
    end_at: datetime | None
    errors: tuple[MeterErrors, ...]
