"""Only Stripe's own totals prove anything: pushes are confirmed, found, or found missing by them.

due       which streams want their summaries read, in a transaction
(read)    no transaction is open
judge     in another: what the summaries say of each push
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import combinations

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering import installation
from metering.catalog.period import hour_of
from metering.stripe import reopening, tally
from metering.stripe.digits import quantised
from metering.stripe.models import Push
from metering.stripe.streams import StreamKey

# How long Stripe's summaries may lag behind what it accepted.
SETTLING = timedelta(minutes=10)
# Streams that are asked about at once.
MOST = 40
# Reads are rationed: what Stripe accepted without a word is confirmed once a day and stream.
EVERY = timedelta(hours=24)
DOUBTFUL = ("ambiguous", "suspect")
# More doubtful pushes of one hour than this are not told apart by their sums.
MOST_TOLD_APART = 10
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Check:
    """A stream whose summaries are to be read by the hour; `[start_at, end_at)` are whole hours.

    meter_ids: all that have, or had, the event's name: a push went to the one that was active then.
    doubtful:  identifiers of the pushes in doubt that the summaries must show by now, if at all.
    """

    tenant_id: str
    stream_id: str
    stream: StreamKey
    meter_ids: tuple[str, ...]
    start_at: datetime
    end_at: datetime
    doubtful: frozenset[str] = frozenset()


def due(
    session: Session,
    tenant_id: str,
    *,
    now: datetime,
    most: int = MOST,
    only_doubtful: bool = False,
) -> list[Check]:
    """The streams to be asked about now, the doubtful first.

    A stream of which there is doubt is asked about until it is cleared; the others once a day.
    only_doubtful: to find these takes no time whatever else waits to be confirmed.
    """
    parameters = {
        "tenant_id": tenant_id,
        "now": now,
        "settled_before": now - SETTLING,
        "read_before": now - EVERY,
        "most": most,
        # An account that has changed hands is not read any more.
        "bound": sorted(installation.accounts_of(session, tenant_id)),
    }
    statement = _DOUBTFUL_DUE if only_doubtful else _ALL_DUE
    rows = session.connection().exec_driver_sql(statement, parameters).all()
    checks = []
    for row in rows:
        stream = StreamKey(row.mode, row.account_id, row.event_name, row.stripe_customer)
        start = hour_of(row.first_at)
        end = hour_of(row.last_at) + HOUR
        # Whoever asks next asks about others.
        asked = {
            "tenant_id": tenant_id,
            "stream_id": row.stream_id,
            "now": now,
            "later": now + SETTLING,
        }
        session.connection().exec_driver_sql(_ASKED, asked)
        doubtful = session.connection().exec_driver_sql(_DOUBTFUL_ASKED, asked).scalars()
        meter_ids = tuple(row.meter_ids)
        checks.append(
            Check(tenant_id, row.stream_id, stream, meter_ids, start, end, frozenset(doubtful))
        )
    return checks


_DUE = """
SELECT t.stream_id, t.mode, t.account_id, t.event_name, t.stripe_customer, m.meter_ids,
       asked.first_at, asked.last_at
FROM (
    SELECT p.stream_id, min(p.stamped_at) AS first_at, max(p.stamped_at) AS last_at,
           bool_or(p.state <> 'settled') AS is_doubtful
    FROM (
        SELECT stream_id, stamped_at, state FROM pushes
        WHERE tenant_id = %(tenant_id)s AND state IN ('claimed', 'ambiguous', 'suspect')
          AND state <> 'claimed' AND lease_until <= %(now)s
        {others}
    ) AS p
    GROUP BY p.stream_id
) AS asked
CROSS JOIN LATERAL (
    SELECT stream_id, mode, account_id, event_name, stripe_customer, confirmed_at
    FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = asked.stream_id OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT array_agg(meter_id ORDER BY meter_id) AS meter_ids FROM stripe_meters
    WHERE tenant_id = %(tenant_id)s AND mode = t.mode AND account_id = t.account_id
      AND event_name = t.event_name
) AS m
WHERE m.meter_ids IS NOT NULL AND t.account_id = ANY(%(bound)s)
  AND (asked.is_doubtful OR t.confirmed_at IS NULL OR t.confirmed_at <= %(read_before)s)
  AND NOT EXISTS (SELECT 1 FROM stripe_connections c WHERE c.tenant_id = %(tenant_id)s
      AND c.mode = t.mode AND c.account_id = t.account_id AND c.halted_until > %(now)s)
ORDER BY asked.is_doubtful DESC, asked.first_at LIMIT %(most)s
"""
_DOUBTFUL_DUE = _DUE.format(others="")
_ALL_DUE = _DUE.format(
    others="""UNION ALL
        SELECT stream_id, stamped_at, state FROM pushes
        WHERE tenant_id = %(tenant_id)s AND state = 'settled' AND settled_at <= %(settled_before)s
        """
)
_ASKED = """
UPDATE push_streams SET confirmed_at = %(now)s
WHERE tenant_id = %(tenant_id)s AND stream_id = %(stream_id)s
"""
_DOUBTFUL_ASKED = """
UPDATE pushes SET lease_until = %(later)s
WHERE tenant_id = %(tenant_id)s AND stream_id = %(stream_id)s
  AND state IN ('ambiguous', 'suspect') AND lease_until <= %(now)s
RETURNING identifier
"""


@dataclass(frozen=True)
class Judged:
    """What a reading of summaries settled, in pushes. drifted: hours whose total is not ours."""

    confirmed: int = 0
    rejected: int = 0
    drifted: int = 0


def judge(
    session: Session, check: Check, totals: Mapping[datetime, Decimal], *, now: datetime
) -> Judged:
    """Hold each hour's pushes against what Stripe has of it.

    totals: by the start of the UTC hour; an hour that is missing is 0.
    An hour with a push that is on its way, or that Stripe may have accepted too lately to show it,
    says nothing: a total that agrees already may do so by what cancels out, and one that does not
    agree yet may only be behind.
    """
    pushes = session.scalars(
        select(Push)
        .where(
            Push.tenant_id == check.tenant_id,
            Push.stream_id == check.stream_id,
            Push.state != "rejected",
            Push.stamped_at >= check.start_at,
            Push.stamped_at < check.end_at,
        )
        # As whoever else locks several: by identifier.
        .order_by(Push.identifier)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    by_hour: dict[datetime, list[Push]] = defaultdict(list)
    for push in sorted(pushes, key=lambda push: (push.stamped_at, push.identifier)):
        by_hour[hour_of(push.stamped_at)].append(push)
    confirmed = drifted = 0
    gone: list[Push] = []
    for hour, held in by_hour.items():
        if not _is_calm(held, check.doubtful, now):
            continue
        found, missing = _judge_hour(held, totals.get(hour, Decimal(0)))
        for push in found:
            confirmed += push.state != "confirmed"
            _confirm(push, now)
        for push in missing:
            push.state, push.is_missing, push.error = "rejected", True, _MISSING
            gone.append(push)
        if not found and not missing:
            drifted += 1
            _note_drift(held, totals.get(hour, Decimal(0)))
    reopening.reopen(session, check.tenant_id, gone, now=now)
    verdicts = ["confirmed"] * confirmed + ["missing"] * len(gone)
    tally.add(session, check.tenant_id, ((check.stream.mode, each) for each in verdicts))
    return Judged(confirmed, len(gone), drifted)


def _judge_hour(pushes: Sequence[Push], total: Decimal) -> tuple[Sequence[Push], Sequence[Push]]:
    """(those that Stripe has, those that it has not); both empty where it cannot be told."""
    if _is_total(pushes, total):
        return pushes, []
    doubtful = [push for push in pushes if push.state in DOUBTFUL]
    if not doubtful or len(doubtful) > MOST_TOLD_APART:
        return [], []
    certain = [push for push in pushes if push.state not in DOUBTFUL]
    fitting = [
        chosen
        for count in range(len(doubtful) + 1)
        for chosen in combinations(doubtful, count)
        if _is_total([*certain, *chosen], total)
    ]
    # Of several ways to make up the total any is as good, as long as each segment has as much of
    # it. One whose answer may still come is best taken to be there, for then it changes nothing.
    if len({_by_segment(chosen) for chosen in fitting}) != 1:
        return [], []
    there = max(fitting, key=lambda chosen: any(push.state == "ambiguous" for push in chosen))
    return [*certain, *there], [push for push in doubtful if push not in there]


def _by_segment(pushes: Iterable[Push]) -> frozenset[tuple[str, datetime, Decimal]]:
    """How much of each segment these are."""
    sums: dict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    for push in pushes:
        sums[push.basis, push.segment_start] += push.quantity
    return frozenset((*segment, total) for segment, total in sums.items() if total)


def _is_total(pushes: Iterable[Push], total: Decimal) -> bool:
    """To fifteen digits: Stripe tells no more of a total, and several pushes may need more."""
    return quantised(sum((push.quantity for push in pushes), Decimal(0))) == quantised(total)


def _is_calm(pushes: Sequence[Push], doubtful: Collection[str], now: datetime) -> bool:
    """True if nothing is on its way and everything had time to show."""
    return all(
        push.state != "claimed"
        and (push.state not in DOUBTFUL or push.identifier in doubtful)
        and (push.settled_at is None or push.settled_at <= now - SETTLING)
        for push in pushes
    )


def _confirm(push: Push, now: datetime) -> None:
    if push.state == "adopted":
        return
    push.state, push.error = "confirmed", None
    push.settled_at, push.confirmed_at = push.settled_at or now, now


def _note_drift(pushes: Sequence[Push], total: Decimal) -> None:
    ours = sum((push.quantity for push in pushes), Decimal(0))
    for push in pushes:
        if push.state != "confirmed":
            push.error = _DRIFT.format(theirs=f"{total:f}", ours=f"{ours:f}")


_MISSING = "Stripe's own total does not hold it: it was never taken, or it was thrown away later"
_DRIFT = "Stripe's total of this hour is {theirs}, and what was pushed adds up to {ours}"
