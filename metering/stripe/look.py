"""One look at what is unsent of a tenant: which segments are behind, and by how much."""

import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog.models import MetricMapping
from metering.catalog.period import hour_of
from metering.stripe import amounts, backlog, connections, holding, streams, unsent
from metering.stripe.amounts import SegmentKey
from metering.stripe.backlog import Row
from metering.stripe.destinations import Atlas, Destination
from metering.stripe.digits import truncated
from metering.stripe.models import Push, PushStream
from metering.stripe.obstacles import Obstacle
from metering.stripe.spans import PeriodOf, Periods, Source
from metering.stripe.streams import StreamKey

LEASE = timedelta(seconds=90)
# Stripe takes events of the last 35 days; an hour less, for the way there.
OLDEST = timedelta(days=35) - timedelta(hours=1)
# How long a row whose stream is busy is left alone.
BUSY = timedelta(seconds=2)
HOUR = timedelta(hours=1)
# And one that asks for an account that is not ours.
NOT_OURS = timedelta(hours=1)

# The least time between two pushes of one segment, by (mode, account).
Cadence = Callable[[str, str], timedelta]


class Look:
    """One look at a tenant's unsent rows, which are locked by now."""

    def __init__(
        self,
        session: Session,
        tenant_id: str,
        now: datetime,
        default_account: str | None,
        cadence: Cadence,
        most: int,
    ) -> None:
        self.session, self.tenant_id, self.now = session, tenant_id, now
        self.default_account, self.cadence, self.most = default_account, cadence, most
        # What is still to be told of each row: when to look again; a row without is done with.
        self.later: dict[Row, datetime] = {}
        self.pinned: set[str] = set()

    def push(self, rows: Sequence[Row]) -> list[tuple[Push, PushStream, bool]]:
        """Write pushes for these rows, and delete or put off each of them."""
        if not rows:
            return []
        leads = self._leads(rows)
        keys = {each.stream for found in leads.values() for each in found}
        locked = streams.lock(self.session, self.tenant_id, keys, now=self.now)
        streams.feed(
            self.session,
            self.tenant_id,
            (
                (locked[each.stream].stream_id, row.source)
                for row, found in leads.items()
                for each in found
                if each.stream in locked
            ),
        )
        wanted = self._wanted(rows, leads, locked)
        made = self._push(wanted, locked)
        self._finish(rows)
        return made

    def _leads(self, rows: Sequence[Row]) -> dict[Row, list[Destination]]:
        """Where each row goes; what stands in the way is written down."""
        self.atlas = self._atlas({row.source for row in rows})
        leads: dict[Row, list[Destination]] = {}
        obstacles: dict[tuple[str, Source], tuple[datetime, Obstacle]] = {}
        for row in rows:
            source = row.source
            found = self.atlas.find(row.mode, source.customer_ref, source.metric, row.segment_start)
            leads[row] = found.destinations
            if found.obstacles:
                key = row.mode, source
                since = min(row.segment_start, obstacles.get(key, (row.segment_start,))[0])
                obstacles[key] = since, found.obstacles[0]
        # In the order of their keys: two workers then never wait for each other in a circle.
        for (mode, source), (since, obstacle) in sorted(obstacles.items(), key=lambda one: one[0]):
            self._hold(mode, source, since, obstacle)
        self._release({(row.mode, row.source) for row in rows} - obstacles.keys())
        return leads

    def _hold(self, mode: str, source: Source, since: datetime, obstacle: Obstacle) -> None:
        holding.hold(self.session, self.tenant_id, mode, source, since, obstacle, now=self.now)

    def _release(self, candidates: set[tuple[str, Source]]) -> None:
        """Forget that these are held once nothing that is held has anything in its way.

        What is held has no unsent row any more: whoever finds the way free for one segment must
        have all of them looked at again, for nobody else may.
        """
        for held in holding.found(self.session, self.tenant_id, candidates):
            obstacle = self.atlas.obstacle_since(
                held.mode, held.customer_ref, held.metric, held.since_segment, self.now
            )
            if obstacle is None:
                unsent.remind(
                    self.session,
                    self.tenant_id,
                    held.customer_ref,
                    held.metric,
                    since=held.since_segment,
                    now=self.now,
                )
                self.session.delete(held)
        self.session.flush()

    def _atlas(self, sources: Iterable[Source]) -> Atlas:
        sources = list(sources)
        return Atlas(
            self.session,
            self.tenant_id,
            (source.customer_ref for source in sources),
            (source.metric for source in sources),
            default_account=self.default_account,
        )

    def _wanted(
        self,
        rows: Sequence[Row],
        leads: Mapping[Row, Sequence[Destination]],
        locked: dict[StreamKey, PushStream],
    ) -> dict[SegmentKey, list[Row]]:
        """The segments to be looked at, with the rows that ask for them."""
        self.sources = streams.sources(
            self.session, self.tenant_id, [each.stream_id for each in locked.values()]
        )
        asked = {row.source for row in rows}
        self.periods = Periods(self.session, self.tenant_id, asked)
        former = self._former(rows, leads, locked)
        every = {source for sources in self.sources.values() for source in sources} | asked
        if every - asked:
            # Others feed the same locked: their share must not be taken for nothing.
            self.periods = Periods(self.session, self.tenant_id, every)
            self.atlas = self._atlas(every)
        wanted: dict[SegmentKey, list[Row]] = defaultdict(list)
        for row in rows:
            for each in leads[row]:
                stream = locked.get(each.stream)
                if stream is None:
                    self._put_off(row, self.now + BUSY)
                    continue
                start = row.segment_start
                if each.basis == "period":
                    start = self.periods.at(row.source, start).start_at
                wanted[SegmentKey(stream.stream_id, each.basis, start)].append(row)
            for key in former.get(row, ()):
                wanted[key].append(row)
        return {key: asking for key, asking in wanted.items() if asking}

    def _former(
        self,
        rows: Sequence[Row],
        leads: Mapping[Row, Sequence[Destination]],
        locked: dict[StreamKey, PushStream],
    ) -> dict[Row, list[SegmentKey]]:
        """Segments of these rows that were once pushed elsewhere, or by another basis: what was
        sent there must be taken back, for it goes to a new place now. Usage that goes nowhere any
        more stays where it is. At the start of a period there may be no mapping yet, or the period
        may be another one now: what was sent of it is always looked at."""
        starts = {row: self.periods.at(row.source, row.segment_start).start_at for row in rows}
        parameters = {
            **backlog.names(self.tenant_id, rows),
            "periods": [starts[row] for row in rows],
        }
        by_name = {
            (row.mode, row.source.customer_ref, row.source.metric, row.segment_start): row
            for row in rows
        }
        former: dict[Row, list[SegmentKey]] = defaultdict(list)
        for found in self.session.connection().exec_driver_sql(_FORMER, parameters).all():
            row = by_name[found.mode, found.customer_ref, found.metric, found.segment_start]
            if not leads[row] and found.basis == "hour":
                continue
            key = StreamKey(found.mode, found.account_id, found.event_name, found.stripe_customer)
            if key not in locked:
                # Locked by id, for nothing else led to it.
                stream = self.session.scalar(
                    select(PushStream)
                    .where(
                        PushStream.tenant_id == self.tenant_id,
                        PushStream.stream_id == found.stream_id,
                    )
                    .with_for_update(skip_locked=True)
                )
                if stream is None:
                    self._put_off(row, self.now + BUSY)
                    continue
                locked[key] = stream
                self.sources.update(
                    streams.sources(self.session, self.tenant_id, [stream.stream_id])
                )
            former[row].append(SegmentKey(found.stream_id, found.basis, found.pushed_start))
        return former

    def _push(
        self,
        wanted: Mapping[SegmentKey, Sequence[Row]],
        locked: Mapping[StreamKey, PushStream],
    ) -> list[tuple[Push, PushStream, bool]]:
        by_id = {stream.stream_id: stream for stream in locked.values()}
        ready = self._ready(wanted, by_id)
        should = amounts.should_hold(
            self.session,
            self.tenant_id,
            self.atlas,
            {stream_id: streams.key_of(stream) for stream_id, stream in by_id.items()},
            ready,
            self.sources,
            self.periods,
        )
        does = amounts.does_hold(self.session, self.tenant_id, ready)
        opened: set[str] = set()
        made: list[tuple[Push, PushStream, bool]] = []
        for key in sorted(ready, key=lambda key: _rank(key, wanted[key])):
            asking, held, stream = wanted[key], does[key], by_id[key.stream_id]
            if key in should.obstructed:
                # The one who is in the way is held; those who asked may be others, who have
                # nothing to be held for, and are looked at again.
                source, obstacle = should.obstructed[key]
                self._hold(stream.mode, source, key.start_at, obstacle)
                self._put_off_all(asking, self.now + obstacle.retry_in)
                continue
            total = should.totals[key]
            if held.adopted and self._is_never_less(key, should.readings.get(key, set()), asking):
                # Others knew of usage that we were not told of.
                total = max(total, held.adopted)
            delta = total - held.quantity
            if not delta:
                holding.forget(self.session, self.tenant_id, key)
                continue
            refusal = self._unsendable(key, asking, stream)
            if refusal is not None:
                holding.decide(self.session, self.tenant_id, key, delta, refusal, now=self.now)
                continue
            due_at = self._cadence_end(stream, held, asking)
            if key.stream_id in opened or due_at > self.now or len(made) >= self.most:
                self._put_off_all(asking, max(due_at, self.now))
                continue
            if not self._pin(key, stream):
                self._put_off_all(asking, self.now + BUSY)
                continue
            opened.add(key.stream_id)
            quantity = truncated(delta)
            if quantity != delta:
                self._put_off_all(asking, self.now)
            is_urgent = any(row.is_urgent for row in asking)
            made.append((self._write(stream, key, quantity, asking), stream, is_urgent))
        return made

    def _ready(
        self, wanted: Mapping[SegmentKey, Sequence[Row]], by_id: Mapping[str, PushStream]
    ) -> list[SegmentKey]:
        """The segments of streams that nothing stops just now."""
        open_until = {
            push.stream_id: push.lease_until
            for push in self.session.scalars(
                select(Push).where(
                    Push.tenant_id == self.tenant_id,
                    Push.stream_id.in_(by_id),
                    Push.state.in_(("claimed", "ambiguous")),
                )
            )
        }
        halted = connections.halted(self.session, self.tenant_id, self.now)
        ready = []
        for key, asking in wanted.items():
            stream = by_id[key.stream_id]
            until = max(
                (
                    instant
                    for instant in (
                        halted.get((stream.mode, stream.account_id)),
                        stream.retry_at,
                        # What was sent to an account of ours that is another's now stays there.
                        None if stream.account_id in self.atlas.bound else self.now + NOT_OURS,
                        self.now + BUSY if key.stream_id in open_until else None,
                        key.start_at,
                    )
                    if instant is not None and instant > self.now
                ),
                default=None,
            )
            if until is None:
                ready.append(key)
            else:
                self._put_off_all(asking, until)
        return ready

    def _is_never_less(
        self, key: SegmentKey, readings: Collection[str], asking: Sequence[Row]
    ) -> bool:
        """Whether what others had sent of a segment, before we took over, is never taken back.

        A level may fall; and what nothing feeds any more has gone elsewhere. So has a part of an
        hour that was cut in two after it had been taken over as one.
        """
        if not readings or "last" in readings:
            return False
        boundary = self._period(key, asking).end_at
        if key.basis == "hour" and boundary < key.start_at.replace(minute=0, second=0) + HOUR:
            rest = SegmentKey(key.stream_id, "hour", boundary)
            return bool(amounts.does_hold(self.session, self.tenant_id, [rest])[rest].adopted)
        return True

    def _cadence_end(
        self, stream: PushStream, held: amounts.Held, asking: Sequence[Row]
    ) -> datetime:
        if held.last_at is None or any(row.is_urgent for row in asking):
            return self.now
        return held.last_at + self.cadence(stream.mode, stream.account_id)

    def _unsendable(self, key: SegmentKey, asking: Sequence[Row], stream: PushStream) -> str | None:
        """Why Stripe would bill this on no invoice, if it would not."""
        period = self._period(key, asking)
        if period.is_final and period.mode == stream.mode:
            return "invoice_final"
        if self._stamp(key, period) < self.now - OLDEST:
            return "too_old"
        return None

    def _period(self, key: SegmentKey, asking: Sequence[Row]) -> PeriodOf:
        return self.periods.at(asking[0].source, key.start_at)

    def _stamp(self, key: SegmentKey, period: PeriodOf) -> datetime:
        """The timestamp for Stripe: the segment's start; of a long period, as early in it as
        Stripe still takes."""
        if key.basis == "hour":
            return key.start_at
        earliest = hour_of(self.now - OLDEST)
        stamp = max(key.start_at, earliest + timedelta(hours=1))
        return stamp if stamp < period.end_at else key.start_at

    def _write(
        self, stream: PushStream, key: SegmentKey, quantity: Decimal, asking: Sequence[Row]
    ) -> Push:
        push = Push(
            tenant_id=self.tenant_id,
            identifier=f"sm_{secrets.token_hex(16)}",
            stream_id=stream.stream_id,
            basis=key.basis,
            segment_start=key.start_at,
            quantity=quantity,
            stamped_at=self._stamp(key, self._period(key, asking)),
            state="claimed",
            attempts=1,
            outcomes=0,
            answered_failures=0,
            is_uncertain=False,
            claimed_at=self.now,
            lease_until=self.now + LEASE,
        )
        self.session.add(push)
        return push

    def _pin(self, key: SegmentKey, stream: PushStream) -> bool:
        """From now on the mappings by which this is sent cannot change their meaning.

        False: somebody is changing one of them just now, or has since it was read. Nobody is
        waited for: who changes a mapping waits in turn for the rows that are looked at here.
        """
        leads = {
            each.mapping_id: each
            for source in self.sources[stream.stream_id]
            for each in amounts.leading(
                self.atlas, streams.key_of(stream), source, key, self.periods
            )
            if not each.is_pinned and each.mapping_id not in self.pinned
        }
        if not leads:
            return True
        found = self.session.execute(
            select(MetricMapping.mapping_id, MetricMapping.updated_at)
            .where(MetricMapping.tenant_id == self.tenant_id, MetricMapping.mapping_id.in_(leads))
            .order_by(MetricMapping.mapping_id)
            .with_for_update(skip_locked=True)
        ).all()
        as_read = {(each.mapping_id, each.read_at) for each in leads.values()}
        if {(row.mapping_id, row.updated_at) for row in found} != as_read:
            return False
        for mapping_id, each in leads.items():
            self.session.execute(
                update(MetricMapping)
                .where(
                    MetricMapping.tenant_id == self.tenant_id,
                    MetricMapping.mapping_id == mapping_id,
                    MetricMapping.pushed_at.is_(None),
                )
                .values(pushed_at=self.now, aggregation=each.aggregation)
                .execution_options(synchronize_session=False)
            )
            self.pinned.add(mapping_id)
        return True

    def _put_off(self, row: Row, until: datetime) -> None:
        self.later[row] = min(until, self.later.get(row, until))

    def _put_off_all(self, rows: Iterable[Row], until: datetime) -> None:
        for row in rows:
            self._put_off(row, until)

    def _finish(self, rows: Sequence[Row]) -> None:
        self.session.flush()
        backlog.finish(self.session, self.tenant_id, rows, self.later)


_FORMER = """
SELECT DISTINCT w.mode, w.customer_ref, w.metric, w.segment_start, p.basis, t.stream_id,
       t.account_id, t.event_name, t.stripe_customer, p.segment_start AS pushed_start
FROM unnest(%(modes)s::text[], %(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[],
            %(periods)s::timestamptz[])
    AS w (mode, customer_ref, metric, segment_start, period_start)
CROSS JOIN LATERAL (
    SELECT stream_id FROM stream_sources
    WHERE tenant_id = %(tenant_id)s AND customer_ref = w.customer_ref AND metric = w.metric
    OFFSET 0
) AS f
CROSS JOIN LATERAL (
    SELECT stream_id, account_id, event_name, stripe_customer FROM push_streams
    WHERE tenant_id = %(tenant_id)s AND stream_id = f.stream_id AND mode = w.mode
    OFFSET 0
) AS t
CROSS JOIN LATERAL (
    SELECT basis, segment_start FROM pushes
    WHERE tenant_id = %(tenant_id)s AND stream_id = t.stream_id
      AND segment_start IN (w.segment_start, w.period_start)
      AND (basis = 'period' OR basis = 'hour' AND segment_start = w.segment_start)
      AND state <> 'rejected'
    OFFSET 0
) AS p
"""


def _rank(key: SegmentKey, asking: Sequence[Row]) -> tuple[bool, datetime]:
    """Those whose invoice is near first, then the oldest."""
    return not any(row.is_urgent for row in asking), key.start_at
