"""The five readings of a counter, and the SQL by which they are put together again.

All of them can be combined from parts but unique, whose parts are sets: it is counted from
`unique_members` for a period and from the ledger for any other span.

Two kinds of rows are read. Counters and segments hold what was folded, and nothing else. The views
`used_counters` and `used_segments` hold what counts: the same rows, but where somebody has decided
something, the corrected one instead (see `corrections`). Whatever is shown, priced or sent reads
the views.
"""

from decimal import Decimal
from typing import Protocol

from pricing.numbers import EXACT, ZERO


class Aggregated(Protocol):
    """Anything that carries the kept aggregates of what counts, or a sum of such.

    max_value, last_value: None where nothing counts.  delta: what approved deltas add to it.
    """

    @property
    def event_count(self) -> int: ...

    @property
    def sum_value(self) -> Decimal: ...

    @property
    def max_value(self) -> Decimal | None: ...

    @property
    def last_value(self) -> Decimal | None: ...

    @property
    def delta(self) -> Decimal: ...


def reading(aggregation: str, aggregates: Aggregated, unique_count: int | None = None) -> Decimal:
    """The number that `aggregation` reads from the aggregates; below 0 only by its deltas.

    Raises: ValueError for `unique` without a count, and for an unknown aggregation.
    """
    counted = _counted(aggregation, aggregates, unique_count)
    return EXACT.add(counted, aggregates.delta) if aggregates.delta else counted


def _counted(aggregation: str, aggregates: Aggregated, unique_count: int | None) -> Decimal:
    match aggregation:
        case "sum":
            return aggregates.sum_value
        case "count":
            return Decimal(aggregates.event_count)
        case "max":
            return aggregates.max_value or ZERO
        case "last":
            return aggregates.last_value or ZERO
        case "unique" if unique_count is not None:
            return Decimal(unique_count)
    raise ValueError(f"no reading of {aggregation!r} from these aggregates")


# Aggregates of events `e`, and of rows `s` that are aggregates themselves.
OF_EVENTS = """
    count(*) AS event_count, sum(e.quantity) AS sum_value, max(e.quantity) AS max_value,
    (array_agg(e.quantity ORDER BY e.occurred_at DESC, e.idempotency_key DESC))[1] AS last_value,
    max(e.occurred_at) AS last_occurred_at,
    (array_agg(e.idempotency_key ORDER BY e.occurred_at DESC, e.idempotency_key DESC))[1]
        AS last_key
"""
OF_PARTS = """
    sum(s.event_count)::bigint AS event_count, sum(s.sum_value) AS sum_value,
    max(s.max_value) AS max_value,
    (array_agg(s.last_value ORDER BY s.last_occurred_at DESC, s.last_key DESC))[1] AS last_value,
    max(s.last_occurred_at) AS last_occurred_at,
    (array_agg(s.last_key ORDER BY s.last_occurred_at DESC, s.last_key DESC))[1] AS last_key
"""
# The same of rows of the views, of which one may hold nothing but a delta.
OF_USED = """
    sum(s.event_count)::bigint AS event_count, sum(s.sum_value) AS sum_value,
    max(s.max_value) AS max_value,
    (array_agg(s.last_value ORDER BY s.last_occurred_at DESC NULLS LAST, s.last_key DESC))[1]
        AS last_value,
    max(s.last_occurred_at) AS last_occurred_at,
    (array_agg(s.last_key ORDER BY s.last_occurred_at DESC NULLS LAST, s.last_key DESC))[1]
        AS last_key,
    sum(s.delta) AS delta
"""

# How `unique_members` names a resource: by its id, or where that is long by its digest, which is
# longer than any id that stands for itself.
RESOURCE_KEY = """
    CASE WHEN octet_length({resource_id}) <= 64 THEN {resource_id}
         ELSE 'sha256:' || encode(sha256(convert_to({resource_id}, 'UTF8')), 'hex') END
"""

# True of an event `e` that was judged: neither waiting nor a dead letter.
_IS_JUDGED = """
    NOT EXISTS (SELECT 1 FROM unfolded u WHERE u.tenant_id = %(tenant_id)s
        AND u.recorded_at = e.recorded_at AND u.idempotency_key = e.idempotency_key)
    AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.tenant_id = %(tenant_id)s
        AND d.idempotency_key = e.idempotency_key)
"""

# True of an event `e` that a counter holds: judged, and not set aside.
IS_FOLDED = f"""{_IS_JUDGED}
    AND NOT EXISTS (SELECT 1 FROM set_aside a WHERE a.tenant_id = %(tenant_id)s
        AND a.idempotency_key = e.idempotency_key)
"""

# True of an event `e` that counts: folded and not void, or set aside and approved.
IS_COUNTED = f"""{_IS_JUDGED}
    AND NOT EXISTS (SELECT 1 FROM voids v WHERE v.tenant_id = %(tenant_id)s
        AND v.idempotency_key = e.idempotency_key)
    AND NOT EXISTS (SELECT 1 FROM set_aside a
        LEFT JOIN adjustments j ON j.tenant_id = %(tenant_id)s
            AND j.adjustment_id = a.adjustment_id AND j.status = 'approved'
            AND j.disposition = 'apply'
        WHERE a.tenant_id = %(tenant_id)s AND a.idempotency_key = e.idempotency_key
          AND j.adjustment_id IS NULL)
"""
