"""Every call that we make of Stripe, typed, over the one `request` that the driver gives.

account: the Stripe account that is meant; None: the keys' own. All raise StripeFault and nothing
else. What is listed comes lazily, a page of 100 a call, so that no transaction should be open
while it is read.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from metering.stripe import answers, faults, parsing
from metering.stripe.answers import Json
from metering.stripe.digits import wire
from metering.stripe.modes import Mode

PAGE = 100
Read = TypeVar("Read")
# A price of several currencies keeps the others' tiers where only this finds them.
_PRICE_WHOLE = ("tiers", "currency_options.tiers")


class Calls(ABC):
    """What Stripe is asked and told."""

    @abstractmethod
    def request(
        self,
        mode: Mode,
        account: str | None,
        method: Literal["get", "post"],
        path: str,
        params: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        repeatable: bool = False,
        urgent: bool = False,
    ) -> Json:
        """One call's answer. repeatable: may be made again when it fails, for it changes nothing.

        urgent: may use what other calls leave of the limit.
        """

    # Meter events

    def send_meter_event(
        self,
        mode: Mode,
        account: str | None,
        *,
        event_name: str,
        stripe_customer: str,
        value: Decimal,
        timestamp: datetime,
        identifier: str,
        idempotency_key: str,
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        urgent: bool = False,
    ) -> None:
        """Add to what a customer has used, once. Never repeated here: the push row decides.

        value: at most 15 significant digits (ValueError).  timestamp: of a whole second.
        """
        params = {
            "event_name": event_name,
            "payload": {customer_key: stripe_customer, value_key: wire(value)},
            "identifier": identifier,
            "timestamp": _seconds(timestamp),
        }
        self.request(
            mode,
            account,
            "post",
            "/v1/billing/meter_events",
            params,
            idempotency_key=idempotency_key,
            urgent=urgent,
        )

    def cancel_meter_event(
        self,
        mode: Mode,
        account: str | None,
        *,
        event_name: str,
        identifier: str,
        idempotency_key: str,
    ) -> None:
        """Take back a meter event that Stripe received within the last 24 h."""
        params = {"type": "cancel", "event_name": event_name, "cancel": {"identifier": identifier}}
        path = "/v1/billing/meter_event_adjustments"
        self.request(mode, account, "post", path, params, idempotency_key=idempotency_key)

    def summaries(
        self,
        mode: Mode,
        account: str | None,
        meter_id: str,
        stripe_customer: str,
        start: datetime,
        end: datetime,
        *,
        window: Literal["hour", "day"] | None = None,
    ) -> list[answers.Summary]:
        """What the meter adds up to for a customer over `[start, end)`, oldest first; windows
        without usage may be missing.

        start, end: of whole minutes; of whole hours or UTC days where there is a window.
        window:     None: one summary of it all.
        """
        params: dict[str, Any] = {
            "customer": stripe_customer,
            "start_time": _seconds(start),
            "end_time": _seconds(end),
        }
        if window is not None:
            params["value_grouping_window"] = window
        path = f"/v1/billing/meters/{_id(meter_id)}/event_summaries"
        found = list(self._all(mode, account, path, params, parsing.summary))
        return sorted(found, key=lambda summary: summary.start_at)

    # The catalogue

    def meter(self, mode: Mode, account: str | None, meter_id: str) -> answers.Meter:
        return self._one(mode, account, f"/v1/billing/meters/{_id(meter_id)}", {}, parsing.meter)

    def meters(
        self, mode: Mode, account: str | None, *, status: str | None = None
    ) -> Iterator[answers.Meter]:
        """status: `active` or `inactive`; None: both."""
        params = {"status": status}
        return self._all(mode, account, "/v1/billing/meters", params, parsing.meter)

    def price(self, mode: Mode, account: str | None, price_id: str) -> answers.Price:
        params = {"expand": list(_PRICE_WHOLE)}
        return self._one(mode, account, f"/v1/prices/{_id(price_id)}", params, parsing.price)

    def prices(
        self, mode: Mode, account: str | None, *, active: bool | None = None
    ) -> Iterator[answers.Price]:
        """All prices, tiers and all."""
        params = {"active": active, "expand": [f"data.{each}" for each in _PRICE_WHOLE]}
        return self._all(mode, account, "/v1/prices", params, parsing.price)

    def create_meter(
        self,
        mode: Mode,
        account: str | None,
        *,
        display_name: str,
        event_name: str,
        idempotency_key: str,
    ) -> answers.Meter:
        """A meter that adds up: the only kind to which differences can be sent."""
        params = {
            "display_name": display_name,
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        path = "/v1/billing/meters"
        return self._make(mode, account, path, params, idempotency_key, parsing.meter)

    def create_product(
        self,
        mode: Mode,
        account: str | None,
        *,
        name: str,
        idempotency_key: str,
        metadata: Mapping[str, str] | None = None,
    ) -> answers.Product:
        params = {"name": name, "metadata": dict(metadata or {})}
        return self._make(mode, account, "/v1/products", params, idempotency_key, parsing.product)

    def create_price(
        self, mode: Mode, account: str | None, parameters: Json, *, idempotency_key: str
    ) -> answers.Price:
        """parameters: as `pricing.stripe_price.to_stripe` writes them."""
        params = {**parameters, "expand": list(_PRICE_WHOLE)}
        return self._make(mode, account, "/v1/prices", params, idempotency_key, parsing.price)

    # Customers and their subscriptions

    def customer(self, mode: Mode, account: str | None, customer_id: str) -> answers.Customer:
        """A deleted customer is found, and says that it is deleted."""
        path = f"/v1/customers/{_id(customer_id)}"
        return self._one(mode, account, path, {}, parsing.customer)

    def customers(
        self, mode: Mode, account: str | None, *, created_since: datetime | None = None
    ) -> Iterator[answers.Customer]:
        params = {"created": _since(created_since)}
        return self._all(mode, account, "/v1/customers", params, parsing.customer)

    def create_customer(
        self,
        mode: Mode,
        account: str | None,
        *,
        name: str,
        idempotency_key: str,
        metadata: Mapping[str, str] | None = None,
        test_clock: str | None = None,
    ) -> answers.Customer:
        params = {"name": name, "metadata": dict(metadata or {}), "test_clock": test_clock}
        path = "/v1/customers"
        return self._make(mode, account, path, params, idempotency_key, parsing.customer)

    def subscription(
        self, mode: Mode, account: str | None, subscription_id: str
    ) -> answers.Subscription:
        path = f"/v1/subscriptions/{_id(subscription_id)}"
        return self._whole(mode, account, self.request(mode, account, "get", path, {}))

    def subscriptions(
        self,
        mode: Mode,
        account: str | None,
        *,
        status: str = "all",
        customer_id: str | None = None,
        created_since: datetime | None = None,
    ) -> Iterator[answers.Subscription]:
        """Also those that have ended, unless `status` says otherwise."""
        params = {"status": status, "customer": customer_id, "created": _since(created_since)}
        for page in self._pages(mode, account, "/v1/subscriptions", params):
            for obj in page:
                yield self._whole(mode, account, obj)

    def create_subscription(
        self, mode: Mode, account: str | None, parameters: Json, *, idempotency_key: str
    ) -> answers.Subscription:
        """Set `billing_cycle_anchor_config` to whole minutes: summaries know no seconds."""
        params = {"billing_mode": {"type": "flexible"}, **parameters}
        path = "/v1/subscriptions"
        return self._make(mode, account, path, params, idempotency_key, parsing.subscription)

    def _whole(self, mode: Mode, account: str | None, obj: Json) -> answers.Subscription:
        """A subscription with all its items: only the first ones are embedded."""
        found = _read(parsing.subscription, obj)
        if not obj["items"].get("has_more"):
            return found
        params = {"subscription": found.id}
        pages = self._pages(mode, account, "/v1/subscription_items", params)
        items = [each for page in pages for each in page]
        return _read(parsing.subscription, {**obj, "items": {"data": items}})

    # Invoices

    def invoice(self, mode: Mode, account: str | None, invoice_id: str) -> answers.Invoice:
        path = f"/v1/invoices/{_id(invoice_id)}"
        return self._one(mode, account, path, {}, parsing.invoice)

    def invoices(
        self,
        mode: Mode,
        account: str | None,
        *,
        customer_id: str | None = None,
        subscription_id: str | None = None,
        status: str | None = None,
        created_since: datetime | None = None,
    ) -> Iterator[answers.Invoice]:
        """Newest first."""
        params = {
            "customer": customer_id,
            "subscription": subscription_id,
            "status": status,
            "created": _since(created_since),
        }
        return self._all(mode, account, "/v1/invoices", params, parsing.invoice)

    def invoice_lines(
        self, mode: Mode, account: str | None, invoice_id: str
    ) -> Iterator[answers.InvoiceLine]:
        path = f"/v1/invoices/{_id(invoice_id)}/lines"
        return self._all(mode, account, path, {}, parsing.invoice_line)

    def create_preview(
        self, mode: Mode, account: str | None, *, subscription_id: str
    ) -> answers.Invoice:
        """The invoice that the subscription's period would end in now, with all its lines.

        Nothing is made: it is a question, although it is a POST.
        """
        params = {"subscription": subscription_id}
        path = "/v1/invoices/create_preview"
        obj = self.request(mode, account, "post", path, params, repeatable=True)
        if obj["lines"].get("has_more") and obj.get("id"):
            pages = self._pages(mode, account, f"/v1/invoices/{_id(obj['id'])}/lines", {})
            obj = {**obj, "lines": {"data": [line for page in pages for line in page]}}
        return _read(parsing.invoice, obj)

    # Events

    def event(self, mode: Mode, account: str | None, event_id: str) -> answers.Event:
        return self._one(mode, account, f"/v1/events/{_id(event_id)}", {}, parsing.event)

    def events(
        self,
        mode: Mode,
        account: str | None,
        *,
        after: str | None = None,
        since: datetime | None = None,
        types: tuple[str, ...] = (),
    ) -> Iterator[answers.Event]:
        """Events, oldest first: those after the one named, else those since an instant.

        Stripe keeps them for 30 days: the fault is `gone` where the one named is not kept any more.
        types: at most 20.
        """
        params: dict[str, Any] = {"types": list(types), "created": _since(since)}
        if after is not None:
            yield from self._events_after(mode, account, params, after)
            return
        newest_first = list(self._all(mode, account, "/v1/events", params, parsing.event))
        yield from reversed(newest_first)

    def _events_after(
        self, mode: Mode, account: str | None, params: dict[str, Any], after: str
    ) -> Iterator[answers.Event]:
        more = True
        while more:
            asked = {**params, "limit": PAGE, "ending_before": after}
            page = self.request(mode, account, "get", "/v1/events", _given(asked), repeatable=True)
            found, more = _listed(page)
            for obj in reversed(found):
                yield _read(parsing.event, obj)
            if found:
                after = found[0]["id"]
            more = more and bool(found)

    def meter_report(self, mode: Mode, account: str | None, event_id: str) -> answers.MeterReport:
        """What a thin event about a meter was about; it says so only when it is fetched."""
        path = f"/v2/core/events/{_id(event_id)}"
        return self._one(mode, account, path, {}, parsing.meter_report)

    # How the above are made

    def _one(
        self,
        mode: Mode,
        account: str | None,
        path: str,
        params: Json,
        read: Callable[[Json], Read],
    ) -> Read:
        return _read(
            read, self.request(mode, account, "get", path, _given(params), repeatable=True)
        )

    def _make(
        self,
        mode: Mode,
        account: str | None,
        path: str,
        params: Json,
        idempotency_key: str,
        read: Callable[[Json], Read],
    ) -> Read:
        given = _given(params)
        made = self.request(mode, account, "post", path, given, idempotency_key=idempotency_key)
        return _read(read, made)

    def _all(
        self,
        mode: Mode,
        account: str | None,
        path: str,
        params: Json,
        read: Callable[[Json], Read],
    ) -> Iterator[Read]:
        for page in self._pages(mode, account, path, params):
            for obj in page:
                yield _read(read, obj)

    def _pages(
        self, mode: Mode, account: str | None, path: str, params: Json
    ) -> Iterator[list[Json]]:
        asked = {**params, "limit": PAGE}
        more = True
        while more:
            page = self.request(mode, account, "get", path, _given(asked), repeatable=True)
            found, more = _listed(page)
            yield found
            if found:
                asked["starting_after"] = found[-1]["id"]
            more = more and bool(found)


def _read(read: Callable[[Json], Read], obj: Json) -> Read:
    """Read an object, or say that it is not what we know. It is of another API version then."""
    try:
        return read(obj)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise faults.unexpected(read.__name__, error) from error


def _listed(page: Json) -> tuple[list[Json], bool]:
    try:
        return list(page["data"]), bool(page["has_more"])
    except (KeyError, TypeError) as error:
        raise faults.unexpected("list", error) from error


def _given(params: Json) -> dict[str, Any]:
    """The parameters that say something."""
    return {name: value for name, value in params.items() if value not in (None, [], {})}


def _seconds(at: datetime) -> int:
    """Unix seconds; Stripe knows no fractions of them."""
    if at.tzinfo is None:
        raise ValueError(f"{at} names no time zone")
    return int(at.timestamp())


def _since(at: datetime | None) -> dict[str, int] | None:
    return None if at is None else {"gte": _seconds(at)}


def _id(id: str) -> str:
    """An id as a part of a path, whatever is in it."""
    return quote(id, safe="")
