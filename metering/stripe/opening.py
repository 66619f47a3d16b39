"""A mapping that begins in the past: what Stripe has of that time from elsewhere.

    questions   whose totals are to be asked for before it is made
    ask         asks; no transaction is open
    adopt       writes them down as pushes that others made, so that only the differences are sent

Who goes live must not bill again what old code has sent. A total that is not zero is therefore
taken over only if whoever makes the mapping names exactly it: `openingTotal`.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from metering.catalog import metrics, places
from metering.catalog.mirror import StripeMeter, SubscriptionItem
from metering.catalog.models import MetricMapping
from metering.catalog.period import hour_of
from metering.errors import ConflictError, InvalidInputError
from metering.stripe import answers, schedules, streams
from metering.stripe.calls import Calls
from metering.stripe.destinations import BY_THE_HOUR, Atlas
from metering.stripe.models import Push, PushStream
from metering.stripe.modes import Mode
from metering.stripe.spans import Periods, Source
from metering.stripe.streams import StreamKey
from pricing.numbers import plain

HOUR = timedelta(hours=1)
# Reads of Stripe are rationed; whoever has more customers begins at the next full hour.
MOST = 200
# Stripe takes nothing older, so that nothing older is ever sent.
OLDEST = timedelta(days=35)
ADOPTED = "adopted"


@dataclass(frozen=True)
class Question:
    """A customer's total on a meter over `[start_at, end_at)`, by the hour and billing period.

    boundaries: the starts of the customer's billing periods, in order. An hour that holds one is
                asked for in two parts, or what was used before would be billed after it.
    """

    stream: StreamKey
    meter_id: str
    start_at: datetime
    end_at: datetime
    boundaries: tuple[datetime, ...] = ()

    def cuts(self, hour: datetime) -> list[datetime]:
        """Where periods begin within the hour, its own start aside."""
        return [each for each in self.boundaries if hour < each < hour + HOUR]

    def part_of(self, instant: datetime) -> datetime:
        """The start of the hour's part that holds the instant."""
        hour = hour_of(instant)
        return max([hour, *(each for each in self.cuts(hour) if each <= instant)])

    def period_of(self, instant: datetime) -> datetime | None:
        """The start of the billing period that holds the instant, as far as it is known."""
        return max((each for each in self.boundaries if each <= instant), default=None)


Totals = Mapping[Question, Sequence[answers.Summary]]


def questions(
    session: Session,
    tenant_id: str,
    wanted: Mapping[str, Any],
    *,
    default_account: str | None,
    modes: Sequence[str],
    now: datetime,
) -> list[Question]:
    """What is to be asked before this mapping is made; nothing where it begins now or later, or
    leads nowhere.

    modes:  those that can be called; in the others nothing is sent.
    Raises: ConflictError for a meter that is not known yet, and for more customers than can be
            asked about.
    """
    end_at = hour_of(now) + HOUR
    start_at = wanted.get("effective_from")
    if start_at is None or start_at >= now:
        return []
    mapping = _meant(session, tenant_id, wanted)
    refs = [] if mapping.customer_ref is None else [mapping.customer_ref]
    atlas = Atlas(session, tenant_id, refs, [mapping.metric], default_account=default_account)
    is_hourly = atlas.aggregation(mapping) in BY_THE_HOUR
    found: list[Question] = []
    for mode in modes:
        is_on = mapping.is_active if mode == "live" else mapping.is_shadow
        if not is_on or (mode == "live" and atlas.is_test_tenant):
            continue
        account_id = atlas.account(mode, mapping.customer_ref or "", mapping)
        if account_id is None or account_id not in atlas.bound:
            continue
        meters = atlas.meters(mode, account_id, mapping)
        if not meters and atlas.leads_anywhere(mode, mapping):
            raise ConflictError(
                "the mapping begins in the past, and its meter is not known yet, so that Stripe"
                " cannot be asked what it has of that time: read the account first, with"
                " `stripemeter stripe sync`, or let the mapping begin at the next full hour",
                pointer="/effectiveFrom",
            )
        for meter in meters:
            own = [atlas.stripe_customer(mode, account_id, ref) for ref in refs]
            customers = own or _customers(session, meter)
            found += [
                Question(
                    StreamKey(mode, account_id, meter.event_name, customer),
                    meter.meter_id,
                    max(hour_of(start_at), hour_of(now - OLDEST)),
                    end_at,
                    _boundaries(session, meter, customer, at_prices=is_hourly),
                )
                for customer in customers
                if customer is not None
            ]
    if len(found) > MOST:
        raise ConflictError(
            f"more than {MOST} customers may have usage on this meter already, and reads of Stripe"
            " are rationed: let the mapping begin at the next full hour",
            pointer="/effectiveFrom",
        )
    return found


def ask(stripe: Calls, asked: Sequence[Question]) -> Totals:
    """Ask Stripe. Raises: StripeFault."""
    totals = {}
    for question in asked:
        mode: Mode = "live" if question.stream.mode == "live" else "test"
        hours = stripe.summaries(
            mode,
            question.stream.account_id,
            question.meter_id,
            question.stream.stripe_customer,
            question.start_at,
            question.end_at,
            window="hour",
        )
        totals[question] = [part for each in hours for part in _parts(stripe, mode, question, each)]
    return totals


def _parts(
    stripe: Calls, mode: Mode, question: Question, hour: answers.Summary
) -> list[answers.Summary]:
    """The hour's total, in parts where a billing period begins within it.

    Stripe tells by the minute: what was used in a boundary's own minute counts as after it.
    """
    cuts = question.cuts(hour.start_at)
    if not cuts or not hour.value:
        return [hour]
    parts, rest = [], hour.value
    for start_at, end_at in pairwise([hour.start_at, *cuts]):
        since, until = _minute(start_at), _minute(end_at)
        before = Decimal(0)
        if since < until:
            told = stripe.summaries(
                mode,
                question.stream.account_id,
                question.meter_id,
                question.stream.stripe_customer,
                since,
                until,
                window=None,
            )
            before = sum((each.value for each in told), Decimal(0))
        parts.append(answers.Summary(start_at, end_at, before))
        rest -= before
    return [*parts, answers.Summary(cuts[-1], hour.end_at, rest)]


def foreign(session: Session, tenant_id: str, totals: Totals) -> Totals:
    """What of these totals we have not sent ourselves, by an earlier mapping.

    Stripe may not yet show all that we sent: less than nothing came from nobody else.
    """
    left = {}
    for question, found in totals.items():
        ours = _ours(session, tenant_id, question)
        left[question] = [
            replace(each, value=max(each.value - ours[each.start_at], Decimal(0)))
            if each.start_at in ours
            else each
            for each in found
        ]
    return left


def agree(asked: Sequence[Question], totals: Totals, opening_total: Decimal | None) -> None:
    """Raise unless the totals are zero, or exactly what is acknowledged.

    Raises: ConflictError naming the figure; InvalidInputError where there is nothing to name.
    """
    if not asked:
        if opening_total is not None:
            raise InvalidInputError(
                "there is nothing to acknowledge: the mapping does not begin in the past, or leads"
                " to no meter that is known",
                pointer="/openingTotal",
            )
        return
    theirs = sum((each.value for found in totals.values() for each in found), Decimal(0))
    if theirs != (opening_total or 0):
        span = f"{asked[0].start_at:%Y-%m-%dT%H:%MZ} to {asked[0].end_at:%Y-%m-%dT%H:%MZ}"
        raise ConflictError(
            f"Stripe's total from {span} is {plain(theirs)} already: let the mapping begin at the"
            f' next full hour, or acknowledge it with "openingTotal": "{plain(theirs)}", and only'
            " what is missing there will be sent",
            pointer="/openingTotal",
        )


def adopt(session: Session, mapping: MetricMapping, totals: Totals, *, now: datetime) -> None:
    """Write Stripe's totals down as pushes that we did not make.

    By the hour where hours are compared, else by the billing period.
    """
    total = sum((each.value for found in totals.values() for each in found), Decimal(0))
    if not total and not any(each.value for found in totals.values() for each in found):
        return
    mapping.opening_total = total
    metric = metrics.get(session, mapping.tenant_id, mapping.metric)
    aggregation = mapping.aggregation or metric.aggregation
    is_hourly = aggregation in BY_THE_HOUR
    # What is in Stripe is meant by the mapping from now on, as if it had gone there by it.
    mapping.pushed_at, mapping.aggregation = now, aggregation
    for question, found in totals.items():
        stream = streams.wait_for(session, mapping.tenant_id, question.stream, now=now)
        sources = _sources(session, mapping, question.stream)
        fed = ((stream.stream_id, source) for source in sources)
        streams.feed(session, mapping.tenant_id, fed)
        periods = Periods(session, mapping.tenant_id, sources)
        sums: dict[datetime, Decimal] = {}
        for each in found:
            start_at = each.start_at
            if not is_hourly and sources:
                known = question.period_of(start_at)
                start_at = known or periods.at(sources[0], start_at).start_at
            sums[start_at] = sums.get(start_at, Decimal(0)) + each.value
        session.add_all(
            Push(
                tenant_id=mapping.tenant_id,
                identifier=f"{ADOPTED}_{secrets.token_hex(16)}",
                stream_id=stream.stream_id,
                basis="hour" if is_hourly else "period",
                segment_start=start_at,
                quantity=quantity,
                stamped_at=start_at,
                state=ADOPTED,
                claimed_at=now,
                lease_until=now,
                settled_at=now,
            )
            for start_at, quantity in sums.items()
            if quantity
        )
    session.flush()


def _meant(session: Session, tenant_id: str, wanted: Mapping[str, Any]) -> MetricMapping:
    """The mapping as it would be; never written."""
    names = {column.key for column in MetricMapping.__mapper__.column_attrs}
    given = {name: value for name, value in wanted.items() if name in names and name != "price"}
    is_shadow = given.setdefault("is_shadow", False)
    given.setdefault("is_active", not is_shadow)
    mapping = MetricMapping(tenant_id=tenant_id, **given)
    places.complete(session, mapping)
    return mapping


def _customers(session: Session, meter: StripeMeter) -> list[str]:
    """Whose usage the meter may have: whoever has, or had, an item on it."""
    found = session.scalars(
        select(SubscriptionItem.stripe_customer)
        .where(
            SubscriptionItem.tenant_id == meter.tenant_id,
            SubscriptionItem.mode == meter.mode,
            SubscriptionItem.account_id == meter.account_id,
            SubscriptionItem.meter_id == meter.meter_id,
        )
        .distinct()
        .limit(MOST + 1)
    )
    return sorted(found.all())


def _ours(session: Session, tenant_id: str, question: Question) -> dict[datetime, Decimal]:
    """What we sent, by the part of an hour for which Stripe counts it."""
    stream = question.stream
    rows = session.execute(
        select(Push.stamped_at, Push.quantity)
        .join(
            PushStream,
            and_(PushStream.tenant_id == Push.tenant_id, PushStream.stream_id == Push.stream_id),
        )
        .where(
            Push.tenant_id == tenant_id,
            PushStream.tenant_id == tenant_id,
            PushStream.mode == stream.mode,
            PushStream.account_id == stream.account_id,
            PushStream.event_name == stream.event_name,
            PushStream.stripe_customer == stream.stripe_customer,
            Push.stamped_at >= question.start_at,
            Push.stamped_at < question.end_at,
            Push.state != "rejected",
        )
    )
    sums: dict[datetime, Decimal] = {}
    for stamped_at, quantity in rows:
        part = question.part_of(stamped_at)
        sums[part] = sums.get(part, Decimal(0)) + quantity
    return sums


def _boundaries(
    session: Session, meter: StripeMeter, customer: str, *, at_prices: bool
) -> tuple[datetime, ...]:
    """The starts of the periods that a customer's items on the meter draw."""
    items = session.scalars(
        select(SubscriptionItem).where(
            SubscriptionItem.tenant_id == meter.tenant_id,
            SubscriptionItem.mode == meter.mode,
            SubscriptionItem.account_id == meter.account_id,
            SubscriptionItem.meter_id == meter.meter_id,
            SubscriptionItem.stripe_customer == customer,
        )
    ).all()
    return tuple(period.start_at for period in schedules.tiled(items, at_prices=at_prices))


def _sources(session: Session, mapping: MetricMapping, key: StreamKey) -> list[Source]:
    refs = schedules.refs(session, mapping.tenant_id, key.mode, key.account_id, key.stripe_customer)
    return [
        Source(ref, mapping.metric) for ref in sorted(refs) if mapping.customer_ref in (None, ref)
    ]


def _minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)
