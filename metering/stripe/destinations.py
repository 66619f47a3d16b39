"""Where a customer's usage of a metric goes, and what stands in the way.

Everything is read from rows: the mappings, what we know of Stripe's meters, items and customers,
and to whom accounts are bound. Nothing here calls Stripe.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from metering import installation
from metering.catalog import customers
from metering.catalog.mirror import StripeCustomer, StripeMeter, StripePrice, SubscriptionItem
from metering.catalog.models import Customer, Metric, MetricMapping
from metering.stripe import obstacles
from metering.stripe.modes import MODES
from metering.stripe.obstacles import Obstacle
from metering.stripe.streams import StreamKey
from metering.tenancy import tenants

# What adds up, hour by hour.
BY_THE_HOUR = ("sum", "count")
# A subscription of such a status bills nothing any more, or never did.
DEAD = ("canceled", "incomplete_expired", "incomplete")


@dataclass(frozen=True)
class Destination:
    """A stream that a mapping leads to, and how the metric is read for it.

    since, until: the mapping's time.  is_pinned: usage has gone to Stripe by the mapping before.
    read_at: the mapping's `updated_at` when it was read.
    carries_over: a gauge that stands until it is reported anew.
    """

    stream: StreamKey
    mapping_id: str
    aggregation: str
    since: datetime
    until: datetime | None
    is_pinned: bool
    read_at: datetime
    carries_over: bool = False

    @property
    def basis(self) -> str:
        """Sum and count go by the hour; the others only as differences within a period."""
        return "hour" if self.aggregation in BY_THE_HOUR else "period"


@dataclass
class Found:
    """What became of a mapping each: where it leads, or what stands in the way."""

    destinations: list[Destination] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)


class Atlas:
    """All that is needed to say where these customers' usage of these metrics goes.

    Loaded at once, in a handful of statements, for a turn of many.
    default_account: the keys' own account, for mappings and customers that name none.
    """

    def __init__(
        self,
        session: Session,
        tenant_id: str,
        refs: Iterable[str],
        metric_names: Iterable[str],
        *,
        default_account: str | None,
    ) -> None:
        refs, names = sorted(set(refs)), sorted(set(metric_names))
        self.default_account = default_account
        self.is_test_tenant = tenants.get(session, tenant_id).mode == "test"
        self.bound = installation.accounts_of(session, tenant_id)
        self._mappings: dict[str, list[MetricMapping]] = defaultdict(list)
        for mapping in session.scalars(
            select(MetricMapping).where(
                MetricMapping.tenant_id == tenant_id,
                MetricMapping.metric.in_(names),
                or_(MetricMapping.is_active, MetricMapping.is_shadow),
            )
        ):
            self._mappings[mapping.metric].append(mapping)
        self._metrics: Mapping[str, Metric] = {
            metric.metric: metric
            for metric in session.scalars(
                select(Metric).where(Metric.tenant_id == tenant_id, Metric.metric.in_(names))
            )
        }
        self._customers: Mapping[str, Customer] = customers.found(session, tenant_id, refs)
        self._named: dict[tuple[str, str], list[StripeCustomer]] = defaultdict(list)
        for named in session.scalars(
            select(StripeCustomer).where(
                StripeCustomer.tenant_id == tenant_id, StripeCustomer.customer_ref.in_(refs)
            )
        ):
            self._named[named.mode, str(named.customer_ref)].append(named)
        self._meters = _meters(session, tenant_id)
        self._prices = {
            (price.mode, price.account_id, price.price_id): price
            for price in session.scalars(
                select(StripePrice).where(
                    StripePrice.tenant_id == tenant_id, StripePrice.price_id.in_(self._price_ids())
                )
            )
        }
        self._items = self._items_of(session, tenant_id, refs)
        self._deleted = self._deleted_of(session, tenant_id, refs)

    def _price_ids(self) -> set[str]:
        mappings = [mapping for found in self._mappings.values() for mapping in found]
        ids = {mapping.price_id for mapping in mappings}
        return {each for each in ids | {m.shadow_price_id for m in mappings} if each}

    def find(self, mode: str, customer_ref: str, metric: str, at: datetime) -> Found:
        """Where the customer's usage at an instant goes in one mode; nothing in it where no
        mapping holds then."""
        found = Found()
        seen: set[StreamKey] = set()
        for mapping in self._in_force(mode, customer_ref, metric, at):
            made = self._lead(mode, customer_ref, mapping)
            if isinstance(made, Obstacle):
                found.obstacles.append(made)
            # Two mappings to one meter are one stream: the usage goes there once.
            elif made is not None and made.stream not in seen:
                seen.add(made.stream)
                found.destinations.append(made)
        return found

    def stripe_customer(self, mode: str, account_id: str, customer_ref: str) -> str | None:
        """Who the customer is in this mode: as told, as Stripe's metadata say, or by its ref."""
        known = self._customers.get(customer_ref)
        told = None
        if known is not None:
            told = known.stripe_customer_id if mode == "live" else known.shadow_stripe_customer_id
        if told is not None:
            return told
        for named in self._named[mode, customer_ref]:
            if named.account_id == account_id and not named.is_deleted:
                return named.stripe_customer
        # In test mode a live customer is nobody, but for a tenant that has nothing else.
        if mode == "live" or self.is_test_tenant:
            return customers.stripe_id(customer_ref, known)
        return None

    def _told_by(self, mode: str) -> str:
        """The field of /v1/customers by which a customer is told in this mode."""
        is_own = mode == "live" or self.is_test_tenant
        return "stripeCustomerId" if is_own else "shadowStripeCustomerId"

    def changes(
        self, mode: str, metric: str, start_at: datetime, end_at: datetime
    ) -> list[datetime]:
        """The instants within a span at which a mapping of the metric begins."""
        return sorted(
            {
                mapping.effective_from
                for mapping in self._mappings[metric]
                if (mapping.is_active if mode == "live" else mapping.is_shadow)
                and start_at < mapping.effective_from < end_at
            }
        )

    def beginnings(self, mode: str, customer_ref: str, metric: str) -> list[datetime]:
        """When the mappings of this mode that lead to Stripe begin for the customer."""
        return sorted(
            mapping.effective_from
            for mapping in self._mappings[metric]
            if (mapping.is_active if mode == "live" else mapping.is_shadow)
            and mapping.customer_ref in (None, customer_ref)
            and self.leads_anywhere(mode, mapping)
        )

    def aggregation(self, mapping: MetricMapping) -> str:
        """How the metric is read by the mapping: as it says, else as the metric does."""
        metric = self._metrics.get(mapping.metric)
        return mapping.aggregation or (metric.aggregation if metric else "sum")

    def is_by_the_hour(self, customer_ref: str, metric: str) -> bool:
        """Whether a mapping of the metric adds up what was used; the other readings are levels of
        a whole period."""
        return any(
            self.aggregation(mapping) in BY_THE_HOUR
            for mapping in self._mappings[metric]
            if mapping.customer_ref in (None, customer_ref)
            and any(self.leads_anywhere(mode, mapping) for mode in MODES)
        )

    def obstacle_since(
        self, mode: str, customer_ref: str, metric: str, since: datetime, until: datetime
    ) -> Obstacle | None:
        """What stands in the way at `since`, or from a later instant on until `until`: it can only
        change where a mapping begins or ends."""
        edges = {
            edge
            for mapping in self._mappings[metric]
            for edge in (mapping.effective_from, mapping.effective_until)
            if edge is not None and since < edge <= until
        }
        for at in [since, *sorted(edges)]:
            found = self.find(mode, customer_ref, metric, at)
            if found.obstacles:
                return found.obstacles[0]
        return None

    def account(self, mode: str, customer_ref: str, mapping: MetricMapping) -> str | None:
        """The account of the mapping, else the customer's, else the keys' own."""
        own = mapping.stripe_account if mode == "live" else mapping.shadow_stripe_account
        known = self._customers.get(customer_ref)
        of_customer = known.stripe_account if known is not None else None
        return own or of_customer or self.default_account

    def _in_force(
        self, mode: str, customer_ref: str, metric: str, at: datetime
    ) -> Sequence[MetricMapping]:
        """Of the mappings that hold then, those of the narrowest scope."""
        holding = [
            mapping
            for mapping in self._mappings[metric]
            if (mapping.is_active if mode == "live" else mapping.is_shadow)
            and mapping.customer_ref in (None, customer_ref)
            and mapping.effective_from <= at
            and (mapping.effective_until is None or at < mapping.effective_until)
            # A price of one's own, without a place in Stripe, takes nobody's place from him.
            and self.leads_anywhere(mode, mapping)
            and self._is_theirs(mode, customer_ref, mapping)
        ]
        if mode == "live" and self.is_test_tenant:
            return []
        narrowest = max((_scope(mode, mapping) for mapping in holding), default=None)
        return [mapping for mapping in holding if _scope(mode, mapping) == narrowest]

    def _is_theirs(self, mode: str, customer_ref: str, mapping: MetricMapping) -> bool:
        item_id = _item_of(mode, mapping)
        if item_id is None or mapping.customer_ref is not None:
            return True
        account_id = self.account(mode, customer_ref, mapping)
        if account_id is None:
            return False
        stripe_customer = self.stripe_customer(mode, account_id, customer_ref)
        return any(
            item.item_id == item_id
            for item in self._items.get((mode, account_id, stripe_customer or ""), ())
        )

    def _lead(
        self, mode: str, customer_ref: str, mapping: MetricMapping
    ) -> Destination | Obstacle | None:
        account_id = self.account(mode, customer_ref, mapping)
        if account_id is None:
            return obstacles.no_account()
        if account_id not in self.bound:
            return obstacles.unbound(account_id)
        meter = self._meter(mode, account_id, mapping)
        if meter is None:
            return None
        if isinstance(meter, Obstacle):
            return meter
        stripe_customer = self.stripe_customer(mode, account_id, customer_ref)
        if stripe_customer is None:
            return obstacles.unmapped(customer_ref, mode, self._told_by(mode), meter.event_name)
        if (mode, account_id, stripe_customer) in self._deleted:
            return obstacles.deleted_customer(
                stripe_customer, self._told_by(mode), meter.event_name
            )
        items = self.active_items(mode, account_id, stripe_customer, meter.meter_id)
        if len({item.subscription_id for item in items}) > 1 or len(items) > 1:
            named = ", ".join(sorted(item.item_id for item in items))
            return obstacles.conflict(stripe_customer, named, meter.event_name)
        metric = self._metrics.get(mapping.metric)
        return Destination(
            stream=StreamKey(mode, account_id, meter.event_name, stripe_customer),
            mapping_id=mapping.mapping_id,
            aggregation=self.aggregation(mapping),
            since=mapping.effective_from,
            until=mapping.effective_until,
            is_pinned=mapping.pushed_at is not None,
            read_at=mapping.updated_at,
            carries_over=metric is not None and metric.carry_over,
        )

    def active_items(
        self, mode: str, account_id: str, stripe_customer: str, meter_id: str
    ) -> list[SubscriptionItem]:
        """The customer's items that bill this meter now. Two would bill the same usage twice."""
        return [
            item
            for item in self._items.get((mode, account_id, stripe_customer), ())
            if item.meter_id == meter_id and item.ended_at is None and item.status not in DEAD
        ]

    def leads_anywhere(self, mode: str, mapping: MetricMapping) -> bool:
        """Whether the mapping names a place in Stripe at all."""
        return any(self._names(mode, mapping))

    def _names(
        self, mode: str, mapping: MetricMapping
    ) -> tuple[str | None, str | None, str | None]:
        """What a mapping names of Stripe in a mode: the event's name, the meter, the price."""
        name, meter_id, price_id = mapping.meter_event_name, mapping.meter_id, mapping.price_id
        if mode == "test":
            # The ids are those of live objects; only the event's name is common to both modes.
            meter_id, price_id = None, mapping.shadow_price_id
            if self.is_test_tenant:
                meter_id, price_id = mapping.meter_id, mapping.shadow_price_id or mapping.price_id
        return name, meter_id, price_id

    def meters(self, mode: str, account_id: str, mapping: MetricMapping) -> list[StripeMeter]:
        """The meters that a mapping may mean, whatever can be said against them."""
        name, meter_id, price_id = self._names(mode, mapping)
        price = self._prices.get((mode, account_id, price_id)) if price_id else None
        if name is None and meter_id is None and price is not None:
            meter_id = price.meter_id
        of_account = self._meters[mode, account_id]
        if name is not None:
            # Usage is sent to the name; an id of another meter would only make it waver.
            return [meter for meter in of_account if meter.event_name == name]
        return [meter for meter in of_account if meter.meter_id == meter_id]

    def is_contradictory(self, mode: str, account_id: str, mapping: MetricMapping) -> bool:
        """Whether the mapping names a meter by its id that is not the one of its event's name."""
        name, meter_id, _ = self._names(mode, mapping)
        return name is not None and any(
            meter.meter_id == meter_id and meter.event_name != name
            for meter in self._meters[mode, account_id]
        )

    def obstacle(self, mode: str, mapping: MetricMapping) -> Obstacle | None:
        """What stands in the mapping's way for everybody; None also where it names no place."""
        account_id = self.account(mode, mapping.customer_ref or "", mapping)
        if account_id is None:
            return obstacles.no_account()
        if account_id not in self.bound:
            return obstacles.unbound(account_id)
        meter = self._meter(mode, account_id, mapping)
        return meter if isinstance(meter, Obstacle) else None

    def schedule_mode(self, customer_ref: str, metric: str) -> str:
        """Whose items draw the billing periods: the live ones where the metric is billed live."""
        if self.is_test_tenant:
            return "test"
        is_live = any(
            mapping.is_active and mapping.customer_ref in (None, customer_ref)
            for mapping in self._mappings[metric]
            if self.leads_anywhere("live", mapping)
        )
        return "live" if is_live else "test"

    def items(self, mode: str, customer_ref: str, metric: str) -> list[SubscriptionItem]:
        """The customer's items that bill the metric or once did, by any of its mappings."""
        found: dict[str, SubscriptionItem] = {}
        for mapping in self._mappings[metric]:
            is_on = mapping.is_active if mode == "live" else mapping.is_shadow
            if not is_on or mapping.customer_ref not in (None, customer_ref):
                continue
            named = self.account(mode, customer_ref, mapping)
            for account_id in self.bound if named is None else self.bound & {named}:
                meter_ids = {meter.meter_id for meter in self.meters(mode, account_id, mapping)}
                stripe_customer = self.stripe_customer(mode, account_id, customer_ref)
                for item in self._items.get((mode, account_id, stripe_customer or ""), ()):
                    if item.meter_id in meter_ids and _item_of(mode, mapping) in (
                        None,
                        item.item_id,
                    ):
                        found[item.item_id] = item
        return list(found.values())

    def metrics_on(self, mode: str, account_id: str, meter_id: str) -> list[str]:
        """The metrics that have a mapping to the meter."""
        return sorted(
            metric
            for metric, mappings in self._mappings.items()
            if any(
                meter.meter_id == meter_id
                for mapping in mappings
                if (mapping.is_active if mode == "live" else mapping.is_shadow)
                for meter in self.meters(mode, account_id, mapping)
            )
        )

    def _meter(
        self, mode: str, account_id: str, mapping: MetricMapping
    ) -> StripeMeter | Obstacle | None:
        """The meter a mapping leads to; None: the mapping has no place in Stripe."""
        if not self.leads_anywhere(mode, mapping):
            return None
        name, meter_id, price_id = self._names(mode, mapping)
        candidates = self.meters(mode, account_id, mapping)
        if not candidates:
            named = name or meter_id or price_id
            return obstacles.no_meter(named, account_id, name)
        active = [meter for meter in candidates if meter.is_active]
        if not active:
            return obstacles.inactive(candidates[0].event_name)
        return obstacles.refusal(active[0]) or active[0]

    def _items_of(
        self, session: Session, tenant_id: str, refs: Sequence[str]
    ) -> Mapping[tuple[str, str, str], Sequence[SubscriptionItem]]:
        found: dict[tuple[str, str, str], list[SubscriptionItem]] = defaultdict(list)
        rows = session.scalars(
            select(SubscriptionItem).where(
                SubscriptionItem.tenant_id == tenant_id,
                SubscriptionItem.stripe_customer.in_(self._possible_ids(refs)),
            )
        )
        for item in rows:
            found[item.mode, item.account_id, item.stripe_customer].append(item)
        return found

    def _deleted_of(
        self, session: Session, tenant_id: str, refs: Sequence[str]
    ) -> set[tuple[str, str, str]]:
        rows = session.scalars(
            select(StripeCustomer).where(
                StripeCustomer.tenant_id == tenant_id,
                StripeCustomer.stripe_customer.in_(self._possible_ids(refs)),
                StripeCustomer.is_deleted,
            )
        )
        return {(row.mode, row.account_id, row.stripe_customer) for row in rows}

    def _possible_ids(self, refs: Sequence[str]) -> set[str]:
        ids = {ref for ref in refs if ref.startswith(customers.STRIPE_PREFIX)}
        for customer in self._customers.values():
            ids |= {customer.stripe_customer_id or "", customer.shadow_stripe_customer_id or ""}
        for named in self._named.values():
            ids |= {each.stripe_customer for each in named}
        return ids - {""}


def _meters(session: Session, tenant_id: str) -> Mapping[tuple[str, str], Sequence[StripeMeter]]:
    meters: dict[tuple[str, str], list[StripeMeter]] = defaultdict(list)
    for meter in session.scalars(select(StripeMeter).where(StripeMeter.tenant_id == tenant_id)):
        meters[meter.mode, meter.account_id].append(meter)
    return meters


def _item_of(mode: str, mapping: MetricMapping) -> str | None:
    if mode == "live":
        return mapping.subscription_item_id
    return mapping.shadow_subscription_item_id


def _scope(mode: str, mapping: MetricMapping) -> tuple[bool, bool]:
    return mapping.customer_ref is not None, _item_of(mode, mapping) is not None
