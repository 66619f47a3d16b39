"""What is stuck, with the money that hangs on it, the most first."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.stripe import findings, owed
from metering.stripe.findings import Behind, Finding
from metering.stripe.owed import ZERO, Counted, Owed, Shares
from metering.stripe.spans import Periods, Source
from metering.stripe.stakes import Part, Prices, Stake
from metering.tenancy import tenants

# Where a page ended: the size of the amount, and the finding's name.
Place = tuple[Decimal, str]


@dataclass(frozen=True)
class Stuck:
    """One thing that is stuck, and what is at stake."""

    finding: Finding
    stake: Stake

    @property
    def place(self) -> Place:
        return self.stake.rank, self.finding.name


def everything(
    session: Session, tenant_id: str, *, mode: str | None = None, kind: str | None = None
) -> list[Stuck]:
    """All that is stuck; the largest amount first, then what has none, by name."""
    found = findings.found(session, tenant_id, mode=mode, kind=kind)
    stakes = _Reckoning(session, tenant_id).stakes(found)
    made = [Stuck(finding, stake) for finding, stake in zip(found, stakes, strict=True)]
    return sorted(made, key=_order)


def page(every: Sequence[Stuck], *, after: Place | None = None, limit: int) -> list[Stuck]:
    """So many of them, from where the page before ended."""
    if after is not None:
        every = [each for each in every if _of(each.place) > _of(after)]
    return list(every[:limit])


def _order(each: Stuck) -> tuple[Decimal, str]:
    return _of(each.place)


def _of(place: Place) -> tuple[Decimal, str]:
    size, name = place
    return -size, name


@dataclass(frozen=True)
class _Ask:
    """Streams that are behind, in a mode. is_halted: what is on its way does not get there."""

    mode: str
    behind: Behind
    is_halted: bool


class _Reckoning:
    """What findings come to, in a handful of statements for all of them."""

    def __init__(self, session: Session, tenant_id: str) -> None:
        self.session, self.tenant_id = session, tenant_id

    def stakes(self, found: Sequence[Finding]) -> list[Stake]:
        if not found:
            return []
        self.is_test_tenant = tenants.get(self.session, self.tenant_id).mode == "test"
        asks = [
            _Ask(each.mode, one, each.kind == "halted") for each in found for one in each.behind
        ]
        behind = iter(self._behind(asks))
        known = self._known(found)
        parts = [
            known[number] if each.known else _joined([next(behind) for _ in each.behind])
            for number, each in enumerate(found)
        ]
        priced = Prices(self.session, self.tenant_id, (one for of in parts for one in of or ()))
        return [self._stake(each, of, priced) for each, of in zip(found, parts, strict=True)]

    def _stake(self, finding: Finding, parts: Sequence[Part] | None, priced: Prices) -> Stake:
        if not finding.is_counted:
            return Stake(why_not=_TOO_MANY if finding.kind == "halted" else _NOT_COUNTED)
        if parts is None:
            return Stake(why_not=_SHARED)
        if finding.mode == "test" and not self.is_test_tenant:
            quantity = sum((part.missing for part in parts), ZERO)
            return Stake(quantity, why_not=NOBODY_PAYS)
        return priced.stake(parts)

    def _behind(self, asks: Sequence[_Ask]) -> list[list[Part] | None]:
        """The parts of each; None where they cannot be told from counters."""
        periods = self._periods(asks)
        flat = [(n, span, of) for n, spans in enumerate(periods) for span, of in spans.items()]
        streams = [(asks[number].behind.streams, span) for number, span, _ in flat]
        owes = iter(self._owed([(asks[n].mode, each) for n, _, of in flat for each in of]))
        answers: list[list[Part] | None] = [
            None if ask.behind.is_shared or _overlap(spans) else []
            for ask, spans in zip(asks, periods, strict=True)
        ]
        told = owed.told(self.session, self.tenant_id, streams)
        for (number, span, of), said in zip(flat, told, strict=True):
            due = [each for each in [next(owes) for _ in of] if each is not None]
            parts = answers[number]
            if parts is None:
                continue
            if any(each.quantity is None for each in due):
                answers[number] = None
                continue
            has = said.pushed - (said.open if asks[number].is_halted else ZERO)
            missing = sum((each.quantity or ZERO for each in due), ZERO) - has
            if missing:
                total = sum((each.total for each in due), ZERO)
                parts.append(Part(of[0].source, span, total, missing))
        return answers

    def _periods(self, asks: Sequence[_Ask]) -> list[dict[Span, list[Counted]]]:
        """Of each, what its sources counted, by billing period."""
        wanted = [(source, ask.behind.since) for ask in asks for source in ask.behind.sources]
        counted = owed.counted_since(self.session, self.tenant_id, wanted)
        numbers = iter(range(len(wanted)))
        periods = []
        for ask in asks:
            of: dict[Span, list[Counted]] = {}
            for _ in ask.behind.sources:
                for each in counted[next(numbers)]:
                    of.setdefault(each.span, []).append(each)
            periods.append(of)
        return periods

    def _owed(self, asked: Sequence[tuple[str, Counted]]) -> list[Owed | None]:
        shares = Shares(self.session, self.tenant_id, (each.source.metric for _, each in asked))
        return owed.owed(self.session, self.tenant_id, shares, asked)

    def _known(self, found: Sequence[Finding]) -> dict[int, list[Part]]:
        """Quantities that rows name, by the billing periods that they are of."""
        naming = [(n, each) for n, each in enumerate(found) if each.known and each.sources]
        periods = Periods(
            self.session, self.tenant_id, (source for _, each in naming for source in each.sources)
        )
        missing: dict[tuple[int, Source, Span], Decimal] = defaultdict(Decimal)
        for number, each in naming:
            source = each.sources[0]
            for start, quantity in each.known:
                period = periods.at(source, start)
                missing[number, source, Span(period.start_at, period.end_at)] += quantity
        totals = self._totals(found, list(missing))
        parts: dict[int, list[Part]] = {n: [] for n, each in enumerate(found) if each.known}
        for (number, source, span), quantity in missing.items():
            # Stripe's total is at least what it would be with this.
            total = max(totals.get((number, source, span), ZERO), quantity)
            parts[number].append(Part(source, span, total, quantity))
        return parts

    def _totals(
        self, found: Sequence[Finding], wanted: Sequence[tuple[int, Source, Span]]
    ) -> dict[tuple[int, Source, Span], Decimal]:
        counted = owed.counted_since(
            self.session, self.tenant_id, [(source, span.start_at) for _, source, span in wanted]
        )
        there = [
            (key, each)
            for number, key in enumerate(wanted)
            for each in counted[number]
            if each.span.start_at == key[2].start_at
        ]
        owes = self._owed([(found[key[0]].mode, each) for key, each in there])
        return {key: of.total for (key, _), of in zip(there, owes, strict=True) if of is not None}


def _joined(parts: Iterable[list[Part] | None]) -> list[Part] | None:
    joined: list[Part] = []
    for each in parts:
        if each is None:
            return None
        joined += each
    return joined


def _overlap(spans: Iterable[Span]) -> bool:
    ordered = sorted(spans)
    return any(b.start_at < a.end_at for a, b in pairwise(ordered))


_SHARED = "how much of it is missing only its segments could tell"
NOBODY_PAYS = "a shadow is a test that nobody pays"
_NOT_COUNTED = "only the hour's total is known"
_TOO_MANY = "too many customers wait to add up what hangs on it"
