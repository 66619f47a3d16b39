"""Live, shadow and our own counters side by side: does the test account hold what the live one
does, and do both hold what was used?"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.stripe import owed
from metering.stripe.modes import MODES
from metering.stripe.owed import ZERO, Counted, Fed, Owed, Shares, Told
from metering.stripe.spans import Source

# Sums are made over so many rows.
ADDED_UP_TO = 10_000
PAGE = 500
# Of those that are apart, so many are named.
MOST_APART = 10

State = Literal["off", "held", "shared", "waiting", "equal", "differs", "unknown"]
Verdict = Literal["agrees", "waits", "differs", "unknown"]
# Where a page ended: customer, metric, period start.
Place = tuple[str, str, datetime]


@dataclass(frozen=True)
class Side:
    """One mode of a compared period.

    owed:   what Stripe should have; None where nothing leads there, or it is not known.
    state:  `off` (nothing leads to Stripe in this mode), `held` (for `reason`), `shared` (its place
            in Stripe is also that of others, so that the pushes are not its alone), `waiting`,
            `equal`, `differs`, `unknown`.
    """

    state: State
    owed: Decimal | None = None
    pushed: Decimal = ZERO
    confirmed: Decimal = ZERO
    reason: str | None = None

    @property
    def difference(self) -> Decimal | None:
        """Pushed less owed; None where they cannot be compared."""
        if self.owed is None or self.state in ("off", "shared"):
            return None
        return self.pushed - self.owed


@dataclass(frozen=True)
class Compared:
    """A customer's metric in one billing period. local: what was counted."""

    source: Source
    span: Span
    local: Decimal
    live: Side
    shadow: Side

    @property
    def place(self) -> Place:
        return self.source.customer_ref, self.source.metric, self.span.start_at

    @property
    def verdict(self) -> Verdict:
        """`agrees`: every mode that it goes to holds what is owed. `waits`: one will by itself."""
        states = {side.state for side in (self.live, self.shadow)} - {"off"}
        if states & {"differs", "held"}:
            return "differs"
        if "waiting" in states:
            return "waits"
        return "agrees" if states == {"equal"} else "unknown"

    @property
    def apart(self) -> Decimal:
        """The size of the larger difference; 0 where there is none, or none that is known."""
        return max(abs(side.difference or ZERO) for side in (self.live, self.shadow))


@dataclass
class Sum:
    """One metric's rows added up. difference: of those rows that can be compared.

    agreeing: rows that agree.  live_rows, shadow_rows: those that go to Stripe in that mode.
    """

    metric: str
    rows: int = 0
    agreeing: int = 0
    live_rows: int = 0
    shadow_rows: int = 0
    local: Decimal = ZERO
    live_pushed: Decimal = ZERO
    live_confirmed: Decimal = ZERO
    live_difference: Decimal = ZERO
    shadow_pushed: Decimal = ZERO
    shadow_confirmed: Decimal = ZERO
    shadow_difference: Decimal = ZERO

    def add(self, row: Compared) -> None:
        self.rows += 1
        self.agreeing += row.verdict == "agrees"
        self.live_rows += row.live.state != "off"
        self.shadow_rows += row.shadow.state != "off"
        self.local += row.local
        self.live_pushed += row.live.pushed
        self.live_confirmed += row.live.confirmed
        self.live_difference += row.live.difference or ZERO
        self.shadow_pushed += row.shadow.pushed
        self.shadow_confirmed += row.shadow.confirmed
        self.shadow_difference += row.shadow.difference or ZERO


_LISTED = """
SELECT customer_ref, metric, period_start, period_end, event_count, sum_value, max_value,
       last_value, unique_count, delta
FROM used_counters
WHERE tenant_id = %(tenant_id)s AND metric = ANY(%(metrics)s)
  AND period_end > %(since)s AND period_end <= %(until)s
  AND (customer_ref, metric, period_start)
      > (%(after_ref)s::text, %(after_metric)s::text, %(after_start)s::timestamptz)
ORDER BY customer_ref, metric, period_start LIMIT %(limit)s
"""
_MAPPED = """
SELECT DISTINCT metric FROM mappings
WHERE tenant_id = %(tenant_id)s AND (is_active OR is_shadow)
  AND coalesce(meter_event_name, meter_id, price_id, shadow_price_id) IS NOT NULL
ORDER BY metric
"""


def page(
    session: Session, tenant_id: str, month: Span, *, after: Place | None = None, limit: int
) -> list[Compared]:
    """The billing periods that end within the month and are to go to Stripe, by customer and
    metric."""
    names = list(session.connection().exec_driver_sql(_MAPPED, {"tenant_id": tenant_id}).scalars())
    ref, metric, start = after or ("", "", month.start_at)
    parameters = {
        "tenant_id": tenant_id,
        "metrics": names,
        "since": month.start_at,
        "until": month.end_at,
        "after_ref": ref,
        "after_metric": metric,
        "after_start": start,
        "limit": limit,
    }
    rows = session.connection().exec_driver_sql(_LISTED, parameters).all()
    counted = [
        Counted(
            Source(row.customer_ref, row.metric),
            Span(row.period_start, row.period_end),
            row,
            row.unique_count,
        )
        for row in rows
    ]
    return _compared(session, tenant_id, counted)


def every(session: Session, tenant_id: str, month: Span) -> Iterator[Compared]:
    """All of them, page by page."""
    after: Place | None = None
    while True:
        rows = page(session, tenant_id, month, after=after, limit=PAGE)
        yield from rows
        if len(rows) < PAGE:
            return
        after = rows[-1].place


@dataclass
class Overall:
    """All rows together, or the first `ADDED_UP_TO` of them.

    sums:  by metric.  verdicts: how many rows there are of each.
    apart: the rows that are furthest apart, the furthest first, at most `MOST_APART`.
    """

    sums: list[Sum] = field(default_factory=list)
    verdicts: dict[Verdict, int] = field(default_factory=dict)
    apart: list[Compared] = field(default_factory=list)
    is_complete: bool = True

    @property
    def rows(self) -> int:
        return sum(self.verdicts.values())


def overall(rows: Iterable[Compared]) -> Overall:
    """What the rows come to."""
    made, sums, apart = Overall(), dict[str, Sum](), list[Compared]()
    for number, row in enumerate(rows):
        if number == ADDED_UP_TO:
            made.is_complete = False
            break
        sums.setdefault(row.source.metric, Sum(row.source.metric)).add(row)
        made.verdicts[row.verdict] = made.verdicts.get(row.verdict, 0) + 1
        if row.apart:
            apart.append(row)
    made.sums = [sums[metric] for metric in sorted(sums)]
    made.apart = heapq.nlargest(MOST_APART, apart, key=lambda row: row.apart)
    return made


def sums(rows: Iterable[Compared]) -> tuple[list[Sum], bool]:
    """By metric; True if all rows are in."""
    made = overall(rows)
    return made.sums, made.is_complete


def _compared(session: Session, tenant_id: str, counted: Sequence[Counted]) -> list[Compared]:
    shares = Shares(session, tenant_id, (each.source.metric for each in counted))
    asked = [(mode, each) for mode in MODES for each in counted]
    fed = owed.fed_by(session, tenant_id, (each.source for each in counted))
    streams = [[f for f in fed[each.source] if f.mode == mode] for mode, each in asked]
    sides = [
        _side(due, said, of, way)
        for due, said, of, way in zip(
            owed.owed(session, tenant_id, shares, asked),
            owed.told(
                session,
                tenant_id,
                [
                    ([each.stream_id for each in of], one.span)
                    for of, (_, one) in zip(streams, asked, strict=True)
                ],
            ),
            streams,
            _ways(session, tenant_id, asked),
            strict=True,
        )
    ]
    live, shadow = sides[: len(counted)], sides[len(counted) :]
    return [
        Compared(each.source, each.span, _local(shares, each), one, other)
        for each, one, other in zip(counted, live, shadow, strict=True)
    ]


def _local(shares: Shares, counted: Counted) -> Decimal:
    """As the live mapping reads it, else the shadow one, else the metric itself."""
    for mode in MODES:
        share = shares.of(mode, counted.source, counted.span)
        if share is not None:
            return counted.read(share.aggregation)
    return counted.read(shares.own_aggregation(counted.source.metric))


def _side(due: Owed | None, said: Told, streams: Sequence[Fed], way: Any) -> Side:
    state: State
    reason = None
    quantity = None if due is None else due.quantity
    if due is None and not streams:
        state = "off"
    elif any(each.is_shared for each in streams):
        state = "shared"
    elif way is not None and way.reason is not None:
        state, reason = "held", way.reason
    elif quantity is None:
        state = "unknown"
    elif quantity == said.pushed:
        state = "equal"
    else:
        state = "waiting" if (way is not None and way.waits) or said.open else "differs"
    return Side(state, quantity, said.pushed, said.confirmed, reason)


_WAYS = """
SELECT w.number, h.reason,
       EXISTS (SELECT 1 FROM unsent u WHERE u.tenant_id = %(tenant_id)s AND u.mode = w.mode
               AND u.customer_ref = w.customer_ref AND u.metric = w.metric
               AND u.segment_start >= w.start_at AND u.segment_start < w.end_at) AS waits
FROM unnest(%(numbers)s::int[], %(modes)s::text[], %(refs)s::text[], %(metrics)s::text[],
            %(starts)s::timestamptz[], %(ends)s::timestamptz[])
    AS w (number, mode, customer_ref, metric, start_at, end_at)
LEFT JOIN held h ON h.tenant_id = %(tenant_id)s AND h.mode = w.mode
    AND h.customer_ref = w.customer_ref AND h.metric = w.metric AND h.since_segment < w.end_at
ORDER BY w.number
"""


def _ways(session: Session, tenant_id: str, asked: Sequence[tuple[str, Counted]]) -> list[Any]:
    """Of each: whether something of it waits, and why it is held."""
    if not asked:
        return []
    parameters = {
        "tenant_id": tenant_id,
        "numbers": list(range(len(asked))),
        "modes": [mode for mode, _ in asked],
        "refs": [each.source.customer_ref for _, each in asked],
        "metrics": [each.source.metric for _, each in asked],
        "starts": [each.span.start_at for _, each in asked],
        "ends": [each.span.end_at for _, each in asked],
    }
    return list(session.connection().exec_driver_sql(_WAYS, parameters))
