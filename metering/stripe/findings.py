"""What is stuck between us and Stripe, each with its reason and the way out; no money here.

held        a customer's metric that has nowhere to go as things are
blocked     a stream whose pushes Stripe refuses
halted      an account that does not answer, or not to our key
doubtful    pushes of which only Stripe's own totals can tell whether it has them
drift       pushes that Stripe accepted and whose hour adds up to something else there
unsendable  usage that Stripe would bill on no invoice
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from metering.stripe import owed
from metering.stripe.spans import Source

KINDS = ("held", "blocked", "halted", "doubtful", "drift", "unsendable")
# Of each kind so many are looked at, the oldest first; of a halted account so many streams.
MOST = 2_000
MOST_OF_ACCOUNT = 1_000


@dataclass(frozen=True)
class Behind:
    """Streams that are behind what their sources used, in the periods that end after `since`."""

    streams: tuple[str, ...]
    sources: tuple[Source, ...]
    since: datetime
    is_shared: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that is stuck.

    cause:   a word for programs (`unmapped`, `auth`, `too_old` …).  reason: a sentence.
    way_out: what to do, in words.  may_retry: trying again by hand may help.
    pushes:  how many pushes or segments it is about, 0 where that says nothing.
    behind:  what is not at Stripe, to be reckoned; known: (segment, quantity) where rows say it.
    is_counted: False if there is too much of it to be reckoned.
    """

    kind: str
    cause: str
    mode: str
    reason: str
    way_out: str
    since: datetime | None = None
    next_try_at: datetime | None = None
    may_retry: bool = False
    account_id: str | None = None
    stream_id: str | None = None
    event_name: str | None = None
    stripe_customer: str | None = None
    sources: tuple[Source, ...] = ()
    pushes: int = 0
    behind: tuple[Behind, ...] = ()
    known: tuple[tuple[datetime, Decimal], ...] = ()
    is_counted: bool = True

    @property
    def name(self) -> str:
        """What tells it from all others of its tenant."""
        of = self.sources[0] if self.kind == "held" else Source("", "")
        what = (self.kind, self.mode, self.stream_id or self.account_id or "", of.customer_ref)
        return "\n".join((*what, of.metric, self.cause if self.kind == "unsendable" else ""))


def found(
    session: Session, tenant_id: str, *, mode: str | None = None, kind: str | None = None
) -> list[Finding]:
    """Everything that is stuck, of one mode and one kind where these are given."""
    every: list[Finding] = []
    for name, look in _LOOKS.items():
        if kind in (None, name):
            every += look(session, tenant_id)
    return [finding for finding in every if mode in (None, finding.mode)]


def _held(session: Session, tenant_id: str) -> list[Finding]:
    rows = _rows(session, _HELD, tenant_id)
    fed = owed.fed_by(session, tenant_id, (_source(row) for row in rows))
    findings = []
    for row in rows:
        source, (reason, way_out) = _source(row), _parted(row.reason)
        streams = [each for each in fed[source] if each.mode == row.mode]
        findings.append(
            Finding(
                "held",
                row.kind,
                row.mode,
                reason,
                way_out or _MEND,
                since=row.held_at,
                next_try_at=row.retry_at,
                may_retry=True,
                sources=(source,),
                behind=(
                    Behind(
                        tuple(each.stream_id for each in streams),
                        (source,),
                        row.since_segment,
                        any(each.is_shared for each in streams),
                    ),
                ),
            )
        )
    return findings


def _blocked(session: Session, tenant_id: str) -> list[Finding]:
    rows = _rows(session, _BLOCKED, tenant_id)
    sources = _sources(session, tenant_id, (row.stream_id for row in rows))
    return [
        Finding(
            "blocked",
            row.blocked_kind,
            row.mode,
            _REFUSED.format(said=row.blocked_reason),
            _GONE if row.blocked_kind == "gone" else _REJECTED,
            since=row.blocked_at,
            next_try_at=row.retry_at,
            may_retry=True,
            sources=sources[row.stream_id],
            behind=(Behind((row.stream_id,), sources[row.stream_id], row.behind_since),),
            **_stream(row),
        )
        for row in rows
    ]


def _halted(session: Session, tenant_id: str) -> list[Finding]:
    findings = []
    for row in _rows(session, _HALTED, tenant_id):
        of = {"mode": row.mode, "account_id": row.account_id, "most": MOST_OF_ACCOUNT + 1}
        waiting = _rows(session, _WAITING, tenant_id, **of)
        sources = _sources(session, tenant_id, (each.stream_id for each in waiting))
        is_counted = len(waiting) <= MOST_OF_ACCOUNT
        findings.append(
            Finding(
                "halted",
                row.halted_kind,
                row.mode,
                _SAID.get(row.halted_kind, "{said}").format(said=row.halted_reason),
                _HALTED_WAYS.get(row.halted_kind, _MEND).format(mode=row.mode),
                since=row.last_ok_at,
                next_try_at=row.halted_until,
                may_retry=True,
                account_id=row.account_id,
                pushes=len(waiting),
                behind=tuple(
                    Behind((each.stream_id,), sources[each.stream_id], each.since)
                    for each in waiting
                )
                if is_counted
                else (),
                is_counted=is_counted,
            )
        )
    return findings


def _doubtful(session: Session, tenant_id: str) -> list[Finding]:
    rows = _rows(session, _DOUBTFUL, tenant_id)
    sources = _sources(session, tenant_id, (row.stream_id for row in rows))
    # By hand there is nothing to try: a total that is read before it can show a push would have
    # the push sent twice.
    return [
        Finding(
            "doubtful",
            "suspect" if row.is_suspect else "ambiguous",
            row.mode,
            row.error or _UNKNOWN,
            _TOTALS_TELL,
            since=row.since,
            next_try_at=row.read_at,
            sources=sources[row.stream_id],
            pushes=row.pushes,
            known=tuple(zip(row.starts, row.quantities, strict=True)),
            **_stream(row),
        )
        for row in rows
    ]


def _drift(session: Session, tenant_id: str) -> list[Finding]:
    rows = _rows(session, _DRIFT, tenant_id)
    sources = _sources(session, tenant_id, (row.stream_id for row in rows))
    return [
        Finding(
            "drift",
            "drift",
            row.mode,
            row.error,
            _COMPARE,
            since=row.since,
            may_retry=True,
            sources=sources[row.stream_id],
            pushes=row.pushes,
            is_counted=False,
            **_stream(row),
        )
        for row in rows
    ]


def _unsendable(session: Session, tenant_id: str) -> list[Finding]:
    rows = _rows(session, _UNSENDABLE, tenant_id)
    sources = _sources(session, tenant_id, (row.stream_id for row in rows))
    findings = []
    for row in rows:
        reason, way_out = _parted(row.reason)
        findings.append(
            Finding(
                "unsendable",
                row.kind,
                row.mode,
                reason,
                way_out or _MEND,
                since=row.since,
                sources=sources[row.stream_id],
                pushes=row.segments,
                known=tuple(zip(row.starts, row.quantities, strict=True)),
                **_stream(row),
            )
        )
    return findings


_LOOKS = {
    "held": _held,
    "blocked": _blocked,
    "halted": _halted,
    "doubtful": _doubtful,
    "drift": _drift,
    "unsendable": _unsendable,
}


def _rows(session: Session, statement: str, tenant_id: str, **more: object) -> Sequence[Any]:
    parameters = {"tenant_id": tenant_id, "most": MOST, **more}
    return session.connection().exec_driver_sql(statement, parameters).all()


def _source(row: Any) -> Source:
    return Source(row.customer_ref, row.metric)


def _stream(row: Any) -> dict[str, Any]:
    return {
        "stream_id": row.stream_id,
        "account_id": row.account_id,
        "event_name": row.event_name,
        "stripe_customer": row.stripe_customer,
    }


def _parted(reason: str) -> tuple[str, str]:
    """Our own sentences say what is wrong, a colon, and the way out."""
    what, _, way_out = reason.partition(": ")
    return what, way_out


def _sources(
    session: Session, tenant_id: str, stream_ids: Iterable[str]
) -> Mapping[str, tuple[Source, ...]]:
    found: dict[str, tuple[Source, ...]] = defaultdict(tuple)
    for row in _rows(session, _SOURCES, tenant_id, ids=sorted(set(stream_ids))):
        found[row.stream_id] += (_source(row),)
    return found


_SOURCES = """
SELECT stream_id, customer_ref, metric FROM stream_sources
WHERE tenant_id = %(tenant_id)s AND stream_id = ANY(%(ids)s) ORDER BY 1, 2, 3
"""
_HELD = """
SELECT mode, customer_ref, metric, since_segment, kind, reason, held_at, retry_at FROM held
WHERE tenant_id = %(tenant_id)s ORDER BY held_at, customer_ref, metric LIMIT %(most)s
"""
_BLOCKED = """
SELECT t.stream_id, t.mode, t.account_id, t.event_name, t.stripe_customer, t.blocked_kind,
       t.blocked_reason, t.blocked_at, t.retry_at,
       coalesce((SELECT min(u.segment_start) FROM stream_sources f
                 JOIN unsent u ON u.tenant_id = %(tenant_id)s AND u.mode = t.mode
                     AND u.customer_ref = f.customer_ref AND u.metric = f.metric
                 WHERE f.tenant_id = %(tenant_id)s AND f.stream_id = t.stream_id),
                t.blocked_at) AS behind_since
FROM push_streams t
WHERE t.tenant_id = %(tenant_id)s AND t.blocked_kind IS NOT NULL
ORDER BY t.blocked_at, t.stream_id LIMIT %(most)s
"""
# That Stripe asks for a little patience is no trouble.
_HALTED = """
SELECT mode, account_id, halted_kind, halted_reason, halted_until, last_ok_at
FROM stripe_connections
WHERE tenant_id = %(tenant_id)s AND halted_kind IS NOT NULL AND halted_kind <> 'rate_limited'
ORDER BY mode, account_id
"""
# Those that are blocked on their own are told of on their own.
_WAITING = """
SELECT waiting.stream_id, min(waiting.since) AS since
FROM (
    SELECT t.stream_id, u.segment_start AS since
    FROM push_streams t
    JOIN stream_sources f ON f.tenant_id = %(tenant_id)s AND f.stream_id = t.stream_id
    JOIN unsent u ON u.tenant_id = %(tenant_id)s AND u.mode = t.mode
        AND u.customer_ref = f.customer_ref AND u.metric = f.metric
    WHERE t.tenant_id = %(tenant_id)s AND t.mode = %(mode)s AND t.account_id = %(account_id)s
      AND t.blocked_kind IS NULL
    UNION ALL
    SELECT t.stream_id, p.segment_start
    FROM pushes p
    JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
    WHERE p.tenant_id = %(tenant_id)s AND p.state IN ('claimed', 'ambiguous')
      AND p.state = 'claimed'
      AND t.mode = %(mode)s AND t.account_id = %(account_id)s AND t.blocked_kind IS NULL
) AS waiting
GROUP BY waiting.stream_id ORDER BY waiting.stream_id LIMIT %(most)s
"""
_DOUBTFUL = """
SELECT t.stream_id, t.mode, t.account_id, t.event_name, t.stripe_customer,
       count(*) AS pushes, min(p.claimed_at) AS since, min(p.lease_until) AS read_at,
       bool_or(p.state = 'suspect') AS is_suspect,
       (array_agg(p.error ORDER BY p.claimed_at))[1] AS error,
       array_agg(p.segment_start ORDER BY p.identifier) AS starts,
       array_agg(p.quantity ORDER BY p.identifier) AS quantities
FROM pushes p
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
WHERE p.tenant_id = %(tenant_id)s AND p.state IN ('claimed', 'ambiguous', 'suspect')
  AND p.state <> 'claimed'
GROUP BY 1, 2, 3, 4, 5 ORDER BY min(p.claimed_at), 1 LIMIT %(most)s
"""
_DRIFT = """
SELECT t.stream_id, t.mode, t.account_id, t.event_name, t.stripe_customer,
       count(*) AS pushes, min(p.settled_at) AS since,
       (array_agg(p.error ORDER BY p.stamped_at))[1] AS error
FROM pushes p
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = p.stream_id
WHERE p.tenant_id = %(tenant_id)s AND p.state = 'settled' AND p.error IS NOT NULL
GROUP BY 1, 2, 3, 4, 5 ORDER BY min(p.settled_at), 1 LIMIT %(most)s
"""
_UNSENDABLE = """
SELECT t.stream_id, t.mode, t.account_id, t.event_name, t.stripe_customer, u.kind,
       min(u.reason) AS reason, count(*) AS segments, min(u.found_at) AS since,
       array_agg(u.segment_start ORDER BY u.segment_start, u.basis) AS starts,
       array_agg(u.quantity ORDER BY u.segment_start, u.basis) AS quantities
FROM unsendable u
JOIN push_streams t ON t.tenant_id = %(tenant_id)s AND t.stream_id = u.stream_id
WHERE u.tenant_id = %(tenant_id)s AND NOT u.is_decided AND u.quantity <> 0
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY min(u.found_at), 1, u.kind LIMIT %(most)s
"""

_REFUSED = "Stripe refuses what is sent: {said}"
_SAID = {
    "auth": "Stripe does not accept the key: {said}",
    "unreachable": "Stripe does not answer: {said}",
}
_HALTED_WAYS = {
    "auth": (
        "give StripeMeter a {mode} key that may use this account and restart it; what waits is"
        " sent then, and nothing is lost"
    ),
    "unreachable": (
        "none is needed, unless this machine cannot reach the internet: it is tried again by"
        " itself, and nothing is lost"
    ),
}
_MEND = "mend what the reason names, then try again"
_REJECTED = "mend in Stripe what its message names, then try again"
_GONE = (
    "restore in Stripe what the message names, or map the customer or the metric to another; then"
    " try again"
)
_UNKNOWN = "its outcome is not known"
_TOTALS_TELL = (
    "none is needed: Stripe's own total will tell, and is read again by itself; nothing is sent"
    " twice"
)
_COMPARE = (
    "compare the meter's events of this hour in Stripe with ours: other code may be sending to the"
    " same meter"
)
