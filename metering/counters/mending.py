"""Make segments, counters and members what the ledger says, under the tenant's lock.

What is computed is `ledger - unfolded - set aside - dead letters`: an event that is still waiting
is left to the fold, so that nothing is counted twice or lost. Nothing that was set aside is judged
again, and a closed period is never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters import (
    corrections,
    mended_counters,
    mended_members,
    mended_segments,
    unsent_marks,
)
from metering.counters.doubts import Place
from metering.counters.doubts_members import Member
from metering.counters.located import columns, locate
from metering.tenancy import locks

NOT_ASKED = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Doubts:
    """What is to be looked at again. counters: instants within their periods.

    asked_at: when the doubts were first raised.
    """

    segments: Sequence[Place] = ()
    counters: Sequence[Place] = ()
    missing: Sequence[Member] = ()
    superfluous: Sequence[Member] = ()
    asked_at: datetime = NOT_ASKED


@dataclass
class Mended:
    """What was changed; counters by their periods' starts."""

    segments: list[Place] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    counters: list[Place] = field(default_factory=list)


def lock(session: Session, tenant_id: str) -> None:
    """Keep all other writers of the tenant's counters out until the transaction ends."""
    locks.lock(session, tenant_id)
    # Small sets of keys, each by its primary key, but for the hours of the ledger.
    session.connection().exec_driver_sql(
        "SELECT set_config('jit', 'off', true), set_config('work_mem', '64MB', true)"
    )


def mend(session: Session, tenant_id: str, doubts: Doubts, *, now: datetime) -> Mended:
    """Look at what is doubted again, and write what is wrong. The caller holds the lock."""
    done = Mended()
    located = locate(session, tenant_id, [*doubts.segments, *doubts.counters])
    hours = [place for place in doubts.segments if place in located.open]
    done.segments = mended_segments.mend(session, tenant_id, hours)
    done.members = [
        *mended_members.add(session, tenant_id, doubts.missing),
        *mended_members.remove(session, tenant_id, doubts.superfluous, asked_at=doubts.asked_at),
    ]
    starts = [Place(m.customer_ref, m.metric, m.period_start) for m in done.members]
    moved = [place for place in doubts.counters if place not in located.closed]
    again = locate(session, tenant_id, starts).open if starts else {}
    periods = {located.open[place] for place in [*done.segments, *moved]} | set(again.values())
    # A counter whose period begins elsewhere is none.
    true = {Place(p.customer_ref, p.metric, p.span.start_at) for p in periods}
    done.counters = [
        *mended_counters.remove(session, tenant_id, [p for p in moved if p not in true]),
        *mended_counters.mend(session, tenant_id, sorted(periods), now=now),
    ]
    unsent_marks.mark(session, tenant_id, _touched(done), now=now)
    _refresh_corrections(session, tenant_id, done, now)
    return done


def _touched(done: Mended) -> list[tuple[str, str, datetime]]:
    places = {*done.segments, *done.counters}
    return sorted((place.customer_ref, place.metric, place.at) for place in places)


# What nobody decided anything about has no corrected row.
_CORRECTED = """
SELECT DISTINCT c.customer_ref, c.metric, c.period_start, c.period_end
FROM unnest(%(refs)s::text[], %(metrics)s::text[], %(ats)s::timestamptz[])
    AS w (customer_ref, metric, at)
JOIN corrected_counters c ON c.tenant_id = %(tenant_id)s AND c.customer_ref = w.customer_ref
    AND c.metric = w.metric AND c.period_start <= w.at AND c.period_end > w.at
ORDER BY 1, 2, 3
"""


def _refresh_corrections(session: Session, tenant_id: str, done: Mended, now: datetime) -> None:
    """What was decided about periods that were mended counts on top of the mended numbers."""
    places = sorted({*done.segments, *done.counters})
    parameters = {"tenant_id": tenant_id} | columns(places)
    for row in session.connection().exec_driver_sql(_CORRECTED, parameters).all():
        span = Span(row.period_start, row.period_end)
        corrections.refresh(session, tenant_id, row.customer_ref, row.metric, span, now=now)
