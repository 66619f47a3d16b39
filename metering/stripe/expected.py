"""What Stripe would be sent of some segments, if they were pushed now; nothing is written.

By the same rules as a look at what is unsent: what Stripe should hold less what it does hold.
Segments that Stripe would bill on no invoice are told apart: they become a decision for people.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.stripe import amounts, streams
from metering.stripe.amounts import SegmentKey
from metering.stripe.destinations import Atlas
from metering.stripe.models import PushStream
from metering.stripe.modes import MODES
from metering.stripe.spans import Periods, Source
from metering.stripe.streams import StreamKey

OLDEST = timedelta(days=35) - timedelta(hours=1)


@dataclass(frozen=True, order=True)
class Delta:
    """What is missing at Stripe of one customer's metric in one mode; below 0: too much is there.

    why_not: why it would not be sent; None: it would.
    """

    mode: str
    customer_ref: str
    metric: str
    quantity: Decimal
    why_not: str | None = None


def deltas(
    session: Session,
    tenant_id: str,
    segments: Iterable[tuple[Source, datetime]],
    periods_of: Iterable[tuple[Source, datetime]],
    *,
    now: datetime,
    default_account: str | None = None,
) -> list[Delta]:
    """By mode, customer and metric.

    segments: starts of those in question.  periods_of: instants in the periods of which a reading
    changed; they matter where only differences within a period can be sent.
    """
    hours, levels = set(segments), set(periods_of)
    places = sorted(hours | levels)
    if not places:
        return []
    sources = {source for source, _ in places}
    atlas = _atlas(session, tenant_id, sources, default_account)
    leads = [
        (mode, source, at, each)
        for mode in MODES
        for source, at in places
        for each in atlas.find(mode, source.customer_ref, source.metric, at).destinations
        if each.basis == "period" or (source, at) in hours
    ]
    ids = _ids(session, tenant_id, {each.stream for _, _, _, each in leads})
    feeding = {key: set[Source]() for key in ids.values()}
    known = streams.sources(session, tenant_id, ids.values())
    for stream_id, found in known.items():
        feeding[stream_id].update(found)
    for _, source, _, each in leads:
        feeding[ids[each.stream]].add(source)
    every = {source for found in feeding.values() for source in found} | sources
    if every - sources:
        atlas = _atlas(session, tenant_id, every, default_account)
    periods = Periods(session, tenant_id, every)
    asked: dict[SegmentKey, tuple[str, Source]] = {}
    for mode, source, at, each in leads:
        start = at if each.basis == "hour" else periods.at(source, at).start_at
        asked.setdefault(SegmentKey(ids[each.stream], each.basis, start), (mode, source))
    wanted = [key for key in sorted(asked) if key.start_at <= now]
    should = amounts.should_hold(
        session,
        tenant_id,
        atlas,
        {stream_id: key for key, stream_id in ids.items()},
        wanted,
        {stream_id: sorted(found) for stream_id, found in feeding.items()},
        periods,
    )
    does = amounts.does_hold(session, tenant_id, wanted)
    sums: dict[tuple[str, str, str, str | None], Decimal] = defaultdict(Decimal)
    for key in wanted:
        in_mode, source = asked[key]
        if key in should.obstructed:
            continue
        delta = should.totals[key] - does[key].quantity
        period = periods.at(source, key.start_at)
        why_not = None
        if period.is_final and period.mode == in_mode:
            why_not = _FINAL
        elif key.basis == "hour" and key.start_at < now - OLDEST:
            why_not = _TOO_OLD
        sums[in_mode, source.customer_ref, source.metric, why_not] += delta
    found_deltas = [
        Delta(mode, ref, metric, quantity, why_not)
        for (mode, ref, metric, why_not), quantity in sums.items()
        if quantity
    ]
    return sorted(found_deltas, key=lambda d: (d.mode, d.customer_ref, d.metric, d.why_not or ""))


def _atlas(
    session: Session, tenant_id: str, sources: Iterable[Source], default_account: str | None
) -> Atlas:
    named = list(sources)
    return Atlas(
        session,
        tenant_id,
        (source.customer_ref for source in named),
        (source.metric for source in named),
        default_account=default_account,
    )


def _ids(session: Session, tenant_id: str, keys: set[StreamKey]) -> dict[StreamKey, str]:
    """The streams' ids; of one that nothing was ever sent to, a name that no stream has."""
    rows = session.scalars(
        select(PushStream).where(
            PushStream.tenant_id == tenant_id,
            tuple_(
                PushStream.mode,
                PushStream.account_id,
                PushStream.event_name,
                PushStream.stripe_customer,
            ).in_([(k.mode, k.account_id, k.event_name, k.stripe_customer) for k in keys]),
        )
    )
    found = {streams.key_of(row): row.stream_id for row in rows}
    return {key: found.get(key, f"new {number}") for number, key in enumerate(sorted(keys))}


_FINAL = "the invoice of its period is final: it becomes a decision for people"
_TOO_OLD = "Stripe takes no usage this old: it becomes a decision for people"
