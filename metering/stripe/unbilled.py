"""What no invoice bills becomes a proposal that people decide on: an adjustment.

Two causes: Stripe accepted it after the invoice was final (see `late`), or it was never sent for
that reason or for its age. Of each cause a customer's metric has one pending proposal in a period,
whose delta follows what is missing; what was decided stays, and a further difference becomes a
further proposal. Proposals have names that follow from what they are about, so that looking twice
proposes nothing twice.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from metering.catalog.models import BillingPeriod
from metering.counters import adjustments
from metering.counters.models import Adjustment
from metering.stripe import late, owed, streams
from metering.stripe.late import Key, Late, Missing, Segment
from metering.stripe.spans import Periods, Source
from metering.tenancy import locks, tenants

ACTOR = "stripemeter"
UNSENT = "unsent"
# Periods that one transaction looks at.
STRETCH = 200
ZERO = Decimal(0)


@dataclass
class Found:
    """What is unbilled of one period for one cause.

    others: who else feeds the place in Stripe, where it could not be told whose the usage is.
    """

    quantity: Decimal = ZERO
    taken: list[Late] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    others: set[Source] = field(default_factory=set)


def places(session: Session, tenant_id: str) -> list[Key]:
    """The periods in which something may be unbilled, or is proposed to be."""
    return late.places(session, tenant_id, _mode(session, tenant_id))


def propose(session: Session, tenant_id: str, keys: Iterable[Key], *, now: datetime) -> int:
    """Bring the proposals of these periods up to what is unbilled of them just now.

    Of the mode that bills people only: a shadow is a test that nobody pays.
    Returns: how many proposals were made, changed or withdrawn.
    """
    wanted, mode = set(keys), _mode(session, tenant_id)
    if not wanted:
        return 0
    locks.lock(session, tenant_id)
    found = _found(session, tenant_id, mode, wanted)
    known = _known(session, tenant_id, {key for key, _ in found} | wanted)
    for key, cause in _former(session, tenant_id, known):
        found.setdefault((key, cause), Found())
    changed, decided = 0, list[Missing]()
    for (key, cause), each in sorted(found.items(), key=lambda one: one[0]):
        series = _Series(session, tenant_id, key, cause, known.get(key, {}), now)
        changed += series.bring_up(each)
        if series.pending is None:
            decided += each.missing
    session.flush()
    late.note_decided(session, tenant_id, decided)
    return changed


def propose_late(session: Session, tenant_id: str, keys: Sequence[Key], *, now: datetime) -> int:
    """The same of periods whose invoice we have just heard to be final; cheap where nothing was
    taken after it."""
    if not late.taken(session, tenant_id, _mode(session, tenant_id), keys):
        return 0
    return propose(session, tenant_id, keys, now=now)


def open_late(session: Session, tenant_id: str, keys: Iterable[Key]) -> dict[Key, Decimal]:
    """What Stripe took too late of these periods, as far as nobody has decided on it; in the mode
    that bills people."""
    found: dict[Key, Decimal] = defaultdict(Decimal)
    for each in late.taken(session, tenant_id, _mode(session, tenant_id), keys):
        found[each.key] += each.quantity
    for key, rows in _known(session, tenant_id, found).items():
        if not any(row.status == "pending" for row in rows.values()):
            del found[key]
    return found


def _mode(session: Session, tenant_id: str) -> str:
    return tenants.get(session, tenant_id).mode


def _found(
    session: Session, tenant_id: str, mode: str, wanted: set[Key]
) -> dict[tuple[Key, str], Found]:
    """By period and cause. Whose the usage of a shared stream is, its segments tell."""
    fed = owed.fed_by(session, tenant_id, (key.source for key in wanted))
    ids = {each.stream_id for of in fed.values() for each in of if each.mode == mode}
    feeding = streams.sources(session, tenant_id, ids)
    periods = Periods(
        session, tenant_id, {source for found in feeding.values() for source in found}
    )
    # Also of those who share a stream with them: what is not theirs is the others'.
    every = wanted | {
        Key(source, periods.at(source, key.start_at).start_at)
        for key in wanted
        for each in fed.get(key.source, ())
        if each.mode == mode
        for source in feeding[each.stream_id]
    }
    taken = {_segment(each): each for each in late.taken(session, tenant_id, mode, every)}
    missing = {
        _segment(each): each for each in late.missing(session, tenant_id, mode, every, periods)
    }
    users = late.users(session, tenant_id, [*taken, *missing])
    every_feeding = {**feeding, **_rest(session, tenant_id, feeding, [*taken, *missing])}
    found: dict[tuple[Key, str], Found] = defaultdict(Found)

    def of(segment: Segment, key: Key, cause: str) -> Found:
        owner, others = _owner(users.get(segment, []), every_feeding[segment[0]])
        start_at = key.start_at
        if owner != key.source:
            start_at = periods.at(owner, segment[2]).start_at
        made = found[Key(owner, start_at), cause]
        made.others |= others
        return made

    for segment, taken_late in taken.items():
        each = of(segment, taken_late.key, taken_late.invoice_id or "")
        each.quantity += taken_late.quantity
        each.taken.append(taken_late)
    for segment, not_sent in missing.items():
        each = of(segment, not_sent.key, UNSENT)
        each.quantity += not_sent.quantity
        each.missing.append(not_sent)
    return {(key, cause): each for (key, cause), each in found.items() if key in every}


def _rest(
    session: Session, tenant_id: str, known: Mapping[str, object], segments: Iterable[Segment]
) -> dict[str, list[Source]]:
    others = {stream_id for stream_id, _, _ in segments} - known.keys()
    return streams.sources(session, tenant_id, others) if others else {}


def _segment(of: Late | Missing) -> Segment:
    return of.stream_id, of.basis, of.segment_start


def _owner(users: Sequence[Source], feeding: Sequence[Source]) -> tuple[Source, set[Source]]:
    """Whose a segment is; and who else's it may be, where that cannot be told."""
    if len(users) == 1:
        return users[0], set()
    candidates = sorted(users or feeding)
    return candidates[0], set(candidates[1:])


def _known(
    session: Session, tenant_id: str, keys: Iterable[Key]
) -> dict[Key, dict[str, Adjustment]]:
    """The proposals that there are, by period and name."""
    names = [
        (key.source.customer_ref, key.source.metric, key.start_at) for key in sorted(set(keys))
    ]
    found: dict[Key, dict[str, Adjustment]] = defaultdict(dict)
    if not names:
        return found
    rows = session.scalars(
        select(Adjustment)
        .where(
            Adjustment.tenant_id == tenant_id,
            Adjustment.origin == "unbilled",
            tuple_(Adjustment.customer_ref, Adjustment.metric, Adjustment.period_start).in_(names),
        )
        .execution_options(populate_existing=True)
    )
    for row in rows:
        key = Key(Source(row.customer_ref, row.metric), row.period_start)
        found[key][row.adjustment_id] = row
    return found


def _former(
    session: Session, tenant_id: str, known: Mapping[Key, Mapping[str, Adjustment]]
) -> Iterator[tuple[Key, str]]:
    """The causes of what is proposed: it may have gone by now."""
    for key in known:
        yield key, UNSENT
        invoice_id = session.scalar(
            select(BillingPeriod.invoice_id).where(
                BillingPeriod.tenant_id == tenant_id,
                BillingPeriod.customer_ref == key.source.customer_ref,
                BillingPeriod.metric == key.source.metric,
                BillingPeriod.start_at == key.start_at,
            )
        )
        if invoice_id is not None:
            yield key, invoice_id


class _Series:
    """The proposals of one period for one cause, of which the last may be pending."""

    def __init__(
        self,
        session: Session,
        tenant_id: str,
        key: Key,
        cause: str,
        known: Mapping[str, Adjustment],
        now: datetime,
    ) -> None:
        self.session, self.tenant_id, self.now = session, tenant_id, now
        self.key, self.cause = key, cause
        rows: list[Adjustment] = []
        while (row := known.get(_name(key, cause, len(rows)))) is not None:
            rows.append(row)
        self.pending = rows.pop() if rows and rows[-1].status == "pending" else None
        self.decided, self.number = rows, len(rows)

    def bring_up(self, found: Found) -> bool:
        """Make, change or withdraw what is pending. Returns: whether anything was done."""
        delta = _undecided(found.quantity, self.decided)
        row = self.pending
        if row is None:
            if delta:
                self._make(delta, found)
            return bool(delta)
        if row.delta == delta:
            return False
        if delta:
            row.delta, row.note = delta, _note(found, delta)
            self._step(row, "change", f"what is missing has become {delta:f}")
            return True
        row.delta, row.status = ZERO, "declined"
        row.decided_at, row.decided_by = self.now, ACTOR
        self._step(row, "decline", "nothing is missing any more")
        self.pending = None
        return True

    def _make(self, delta: Decimal, found: Found) -> None:
        row = Adjustment(
            tenant_id=self.tenant_id,
            adjustment_id=_name(self.key, self.cause, self.number),
            customer_ref=self.key.source.customer_ref,
            metric=self.key.source.metric,
            period_start=self.key.start_at,
            kind="delta",
            delta=delta,
            reason="late",
            status="pending",
            note=_note(found, delta),
            origin="unbilled",
            created_at=self.now,
            created_by=ACTOR,
        )
        self.session.add(row)
        self._step(row, "propose", row.note)
        self.pending = row

    def _step(self, row: Adjustment, action: str, note: str | None) -> None:
        adjustments.write_down(self.session, row, action, ACTOR, note, self.now)


def _undecided(quantity: Decimal, decided: Sequence[Adjustment]) -> Decimal:
    """What of it is billed nowhere and let go by nobody.

    What was billed elsewhere and is not missing any more is to be taken back; what was let go needs
    no such thing.
    """
    billed = sum((row.delta or ZERO for row in decided if _is_billed(row)), ZERO)
    let_go = sum((row.delta or ZERO for row in decided if not _is_billed(row)), ZERO)
    rest = quantity - billed
    if rest > 0:
        return max(rest - max(let_go, ZERO), ZERO)
    return min(rest - min(let_go, ZERO), ZERO)


def _is_billed(row: Adjustment) -> bool:
    return row.status == "approved" and row.disposition != "write_off"


def _name(key: Key, cause: str, number: int) -> str:
    at = key.start_at.astimezone(UTC).isoformat()
    parts = (key.source.customer_ref, key.source.metric, at, cause, str(number))
    return f"adj_{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:24]}"


def _note(found: Found, delta: Decimal) -> str:
    """Sentences: what is unbilled, and why."""
    said = [*_of_taken(found.taken), *_of_missing(found.missing)]
    if delta != found.quantity:
        said.append(f"Some of it was decided before; {delta:f} is left.")
    if found.others:
        names = ", ".join(f"{each.metric} of {each.customer_ref}" for each in sorted(found.others))
        said.append(
            f"The place in Stripe is shared with {names}: whose usage it is could not be told."
        )
    return " ".join(said)


def _of_taken(taken: Sequence[Late]) -> Iterator[str]:
    if not taken:
        return
    quantity = sum((each.quantity for each in taken), ZERO)
    first, last = min(each.first_at for each in taken), max(each.last_at for each in taken)
    when = f"at {_at(first)}" if first == last else f"between {_at(first)} and {_at(last)}"
    yield (
        f"Stripe accepted {quantity:f} {when}, after invoice {taken[0].invoice_id} had become final"
        f" ({_at(taken[0].final_at)}): no invoice bills it."
    )
    if not all(each.is_certain for each in taken):
        yield "Some of it was on its way by then and may be on the invoice: look there first."


def _of_missing(missing: Sequence[Missing]) -> Iterator[str]:
    for kind, why in _WHY.items():
        quantity = sum((each.quantity for each in missing if each.kind == kind), ZERO)
        if quantity:
            yield why.format(quantity=f"{quantity:f}")


_WHY = {
    "invoice_final": "{quantity} was not sent to Stripe, for the period's invoice is final.",
    "too_old": "{quantity} was not sent to Stripe, which takes nothing older than 35 days.",
}


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
