"""What Stripe should hold of a stream's segment, and what it does hold.

Should: the sum over all customers and metrics that feed the stream, each read as its mapping
says. Does: the sum of all pushes that Stripe has not rejected. The difference is the delta.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.catalog.period import hour_of
from metering.counters.aggregation import IS_COUNTED, reading
from metering.counters.carry import carried
from metering.stripe.destinations import Atlas, Destination
from metering.stripe.obstacles import Obstacle
from metering.stripe.spans import PeriodOf, Periods, Source
from metering.stripe.streams import StreamKey
from pricing.numbers import EXACT, ZERO

HOUR = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class SegmentKey:
    """A stream's segment: an hour, or a billing period for what only differences can carry."""

    stream_id: str
    basis: str
    start_at: datetime


@dataclass(frozen=True)
class Should:
    """totals: of each segment; none where something stands in the way of one of its sources.

    readings: the aggregations by which each is read now; none where nothing feeds it any more.
    obstructed: of the segments without, who has nowhere to go, and why: what was sent must not be
    taken back because a meter is away.
    """

    totals: Mapping[SegmentKey, Decimal]
    readings: Mapping[SegmentKey, set[str]]
    obstructed: Mapping[SegmentKey, tuple[Source, Obstacle]]


def should_hold(
    session: Session,
    tenant_id: str,
    atlas: Atlas,
    streams: Mapping[str, StreamKey],
    wanted: Iterable[SegmentKey],
    sources: Mapping[str, Sequence[Source]],
    periods: Periods,
) -> Should:
    """What Stripe should hold of each segment.

    atlas: loaded for every source's customer and metric.  sources: by stream id.
    """
    wanted = list(wanted)
    obstacles: dict[SegmentKey, list[tuple[Source, Obstacle]]] = {}
    for key in wanted:
        stream = streams[key.stream_id]
        found = [
            (each, _obstacle(atlas, stream, each, key, periods)) for each in sources[key.stream_id]
        ]
        obstacles[key] = [(each, obstacle) for each, obstacle in found if obstacle is not None]
    used = _segments(
        session,
        tenant_id,
        [(key, each) for key, found in obstacles.items() for each, _ in found],
    )
    totals: dict[SegmentKey, Decimal] = {}
    readings: dict[SegmentKey, set[str]] = defaultdict(set)
    obstructed: dict[SegmentKey, tuple[Source, Obstacle]] = {}
    hours: list[tuple[SegmentKey, Source, Destination]] = []
    spans: list[tuple[SegmentKey, Source, Destination]] = []
    for key in wanted:
        # Who has used nothing in an hour has no share in it, known or not.
        in_the_way = [
            (each, obstacle)
            for each, obstacle in obstacles[key]
            if key.basis == "period" or (each, key.start_at) in used
        ]
        if in_the_way:
            obstructed[key] = min(in_the_way, key=lambda one: one[0])
            continue
        totals[key] = ZERO
        for source in sources[key.stream_id]:
            for destination in leading(atlas, streams[key.stream_id], source, key, periods):
                readings[key].add(destination.aggregation)
                (hours if key.basis == "hour" else spans).append((key, source, destination))
    values = _segments(session, tenant_id, [(key, source) for key, source, _ in hours])
    for key, source, destination in hours:
        row = values.get((source, key.start_at))
        if row is not None:
            totals[key] += reading(destination.aggregation, row)
    for key, source, destination in spans:
        totals[key] += _difference(session, tenant_id, source, destination, key, periods)
    return Should(totals, readings, obstructed)


def _obstacle(
    atlas: Atlas, stream: StreamKey, source: Source, key: SegmentKey, periods: Periods
) -> Obstacle | None:
    for instant in _instants(atlas, stream, source, key, periods):
        found = atlas.find(stream.mode, source.customer_ref, source.metric, instant)
        for each in found.obstacles:
            if each.event_name in (None, stream.event_name):
                return each
    return None


def leading(
    atlas: Atlas, stream: StreamKey, source: Source, key: SegmentKey, periods: Periods
) -> list[Destination]:
    """The mappings by which a source feeds this very segment."""
    if key.basis == "period" and periods.at(source, key.start_at).start_at != key.start_at:
        return []
    found: dict[str, Destination] = {}
    for instant in _instants(atlas, stream, source, key, periods):
        for each in atlas.find(
            stream.mode, source.customer_ref, source.metric, instant
        ).destinations:
            if each.stream == stream and each.basis == key.basis:
                found[each.mapping_id] = each
    return list(found.values())


def _instants(
    atlas: Atlas, stream: StreamKey, source: Source, key: SegmentKey, periods: Periods
) -> list[datetime]:
    """Where to ask what feeds a segment: a mapping that begins within a period bills what is added
    from then on."""
    if key.basis == "hour":
        return [key.start_at]
    end_at = periods.at(source, key.start_at).end_at
    return [key.start_at, *atlas.changes(stream.mode, source.metric, key.start_at, end_at)]


def _difference(
    session: Session,
    tenant_id: str,
    source: Source,
    destination: Destination,
    key: SegmentKey,
    periods: Periods,
) -> Decimal:
    """What a max, last or unique reading grew by within a period while the mapping held."""
    period = periods.at(source, key.start_at)
    until = destination.until
    end = None if until is None or until >= period.end_at else until
    whole = _read(session, tenant_id, source, destination, period, end)
    if destination.since <= period.start_at:
        return whole
    before = _read(session, tenant_id, source, destination, period, destination.since)
    return whole - before


_COUNTER = """
SELECT event_count, sum_value, max_value, last_value, unique_count, delta FROM used_counters
WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s AND metric = %(metric)s
  AND period_start = %(start_at)s
"""
_PART = """
SELECT max(s.max_value) AS max_value,
       (array_agg(s.last_value ORDER BY s.last_occurred_at DESC NULLS LAST, s.last_key DESC))[1]
           AS last_value,
       coalesce(sum(s.delta), 0) AS delta
FROM used_segments s
WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
  AND s.metric = %(metric)s AND s.segment_start >= %(start_at)s AND s.segment_start < %(until)s
"""
_SEEN = f"""
SELECT count(DISTINCT e.resource_id) + (
    SELECT coalesce(sum(s.delta), 0) FROM corrected_segments s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
      AND s.metric = %(metric)s AND s.segment_start >= %(start_at)s AND s.segment_start < %(until)s)
FROM events e
WHERE e.tenant_id = %(tenant_id)s AND e.customer_ref = %(customer_ref)s
  AND e.metric = %(metric)s AND e.occurred_at >= %(start_at)s AND e.occurred_at < %(until)s
  AND {IS_COUNTED}
"""


def _read(
    session: Session,
    tenant_id: str,
    source: Source,
    destination: Destination,
    period: PeriodOf,
    until: datetime | None,
) -> Decimal:
    """A period's reading, whole or up to an instant."""
    aggregation = destination.aggregation
    parameters: dict[str, Any] = {
        "tenant_id": tenant_id,
        "customer_ref": source.customer_ref,
        "metric": source.metric,
        "start_at": period.start_at,
        "until": until,
    }
    connection = session.connection()
    delta: Decimal = ZERO
    if until is None:
        row = connection.exec_driver_sql(_COUNTER, parameters).first()
        if row is not None and not (aggregation == "last" and row.last_value is None):
            return reading(aggregation, row, row.unique_count)
        delta = ZERO if row is None else row.delta
    elif aggregation == "unique":
        # By whole segments, as all else: the rest of the hour in which a mapping ends is its own.
        begun = hour_of(until)
        parameters["until"] = begun if begun == until else min(begun + HOUR, period.end_at)
        return Decimal(connection.exec_driver_sql(_SEEN, parameters).scalar_one())
    else:
        part = connection.exec_driver_sql(_PART, parameters).one()
        value: Decimal | None = part.max_value if aggregation == "max" else part.last_value
        delta = part.delta
        if value is not None:
            return EXACT.add(value, delta)
    if aggregation == "last" and destination.carries_over:
        stood = carried(session, tenant_id, source.customer_ref, source.metric, period.start_at)
        return delta if stood is None else EXACT.add(stood, delta)
    return delta


_SEGMENTS = """
SELECT wanted.customer_ref, wanted.metric, wanted.segment_start,
       s.event_count, s.sum_value, s.max_value, s.last_value, s.delta
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(starts)s::timestamptz[])
    AS wanted (customer_ref, metric, segment_start)
CROSS JOIN LATERAL (
    SELECT event_count, sum_value, max_value, last_value, delta FROM used_segments
    WHERE tenant_id = %(tenant_id)s AND customer_ref = wanted.customer_ref
      AND metric = wanted.metric AND segment_start = wanted.segment_start
    OFFSET 0
) AS s
"""


def _segments(
    session: Session, tenant_id: str, wanted: Sequence[tuple[SegmentKey, Source]]
) -> dict[tuple[Source, datetime], Any]:
    if not wanted:
        return {}
    distinct = sorted({(s.customer_ref, s.metric, key.start_at) for key, s in wanted})
    parameters = {
        "tenant_id": tenant_id,
        "refs": [ref for ref, _, _ in distinct],
        "metrics": [metric for _, metric, _ in distinct],
        "starts": [start for _, _, start in distinct],
    }
    rows = session.connection().exec_driver_sql(_SEGMENTS, parameters)
    return {(Source(row.customer_ref, row.metric), row.segment_start): row for row in rows}


@dataclass(frozen=True)
class Held:
    """What Stripe holds of a segment. last_at: when the latest push of it was made.

    adopted: what of it others had sent before we took over.
    """

    quantity: Decimal = ZERO
    last_at: datetime | None = None
    adopted: Decimal = ZERO


_HELD = """
SELECT wanted.stream_id, wanted.basis, wanted.segment_start, sum(p.quantity) AS quantity,
       max(p.claimed_at) AS last_at,
       coalesce(sum(p.quantity) FILTER (WHERE p.state = 'adopted'), 0) AS adopted
FROM unnest(%(ids)s::text[], %(bases)s::text[], %(starts)s::timestamptz[])
    AS wanted (stream_id, basis, segment_start)
CROSS JOIN LATERAL (
    SELECT quantity, claimed_at, state FROM pushes
    WHERE tenant_id = %(tenant_id)s AND stream_id = wanted.stream_id
      AND segment_start = wanted.segment_start AND basis = wanted.basis AND state <> 'rejected'
    OFFSET 0
) AS p
GROUP BY 1, 2, 3
"""


def does_hold(
    session: Session, tenant_id: str, wanted: Sequence[SegmentKey]
) -> dict[SegmentKey, Held]:
    """What was pushed of each segment and not rejected."""
    held = dict.fromkeys(wanted, Held())
    if not wanted:
        return held
    parameters = {
        "tenant_id": tenant_id,
        "ids": [key.stream_id for key in wanted],
        "bases": [key.basis for key in wanted],
        "starts": [key.start_at for key in wanted],
    }
    for row in session.connection().exec_driver_sql(_HELD, parameters):
        key = SegmentKey(row.stream_id, row.basis, row.segment_start)
        held[key] = Held(row.quantity, row.last_at, row.adopted)
    return held
