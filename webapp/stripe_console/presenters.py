"""What the page about Stripe shows: the sentence, what is stuck, and how far everything is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from metering.catalog.models import Customer
from metering.stripe import standing, stuck
from metering.stripe.findings import KINDS, Finding
from metering.stripe.modes import MODES
from metering.stripe.stakes import Stake
from metering.stripe.standing import Halt, Standing
from metering.stripe.stuck import Stuck
from webapp import shown
from webapp.stripe_console import words
from webapp.stripe_console.words import Moment
from webapp.stripe_state import naming, sentences

# Usage that has waited for so long, and nothing holds it: the workers are to be looked at.
LATE = timedelta(minutes=15)
# Of the customers behind an account so many are named.
MOST_NAMED = 3


@dataclass(frozen=True)
class Lead:
    """The first line. mode: what it is about; None where nothing goes to Stripe at all."""

    sentence: str
    mode: str | None

    @property
    def is_test(self) -> bool:
        return self.mode == "test"


def lead(session: Session, tenant_id: str, now: datetime) -> Lead:
    """The first line alone, for other pages."""
    standings = standing.overview(session, tenant_id, now=now)
    return lead_of(standings, stuck.everything(session, tenant_id))


def lead_of(standings: Sequence[Standing], every: Sequence[Stuck]) -> Lead:
    """Of the mode that bills people, where there is one."""
    mode = next((each.mode for each in standings if each.is_used), None)
    return Lead(sentences.whole(standings, every), mode)


def late(of: Standing, now: datetime) -> Moment | None:
    """Since when usage waits that should long have been sent; None where what is stuck says why,
    or nothing waits for long."""
    waits = of.oldest_unsent_at
    if waits is None or of.blocked or of.doubtful or of.halts or now - waits < LATE:
        return None
    return words.moment(waits, now)


@dataclass(frozen=True)
class Choice:
    """A filter that can be chosen. value: None for all."""

    value: str | None
    text: str
    count: int
    is_chosen: bool


def choices(
    every: Sequence[Stuck], mode: str | None, kind: str | None
) -> tuple[list[Choice], list[Choice]]:
    """By mode, and by kind within the mode; what there is none of is not offered."""
    of_mode = [each for each in every if mode in (None, each.finding.mode)]
    by_mode = [(each, words.MODES[each]) for each in MODES]
    by_kind = [(each, words.KINDS[each][0]) for each in KINDS]
    return (
        _choices([each.finding.mode for each in every], by_mode, mode),
        _choices([each.finding.kind for each in of_mode], by_kind, kind),
    )


def _choices(
    found: Sequence[str], names: Iterable[tuple[str, str]], chosen: str | None
) -> list[Choice]:
    made = [Choice(None, "All", len(found), chosen is None)]
    for value, text in names:
        count = found.count(value)
        if count or value == chosen:
            made.append(Choice(value, text, count, value == chosen))
    return made


@dataclass(frozen=True)
class Who:
    """A customer, by name where there is one, and the metrics that it is about."""

    ref: str
    name: str | None
    metrics: str


@dataclass(frozen=True)
class Row:
    """One thing that is stuck.

    amount, quantity: None where they are not known; unknown: why the amount is not, or
    is_free: why there is none.
    others: how many customers there are beside those of `who`.
    """

    id: str
    kind: str
    meaning: str
    mode: str
    is_test: bool
    who: list[Who]
    others: int
    about: str
    amount: str | None
    unknown: str | None
    is_free: bool
    quantity: str | None
    reason: str
    way_out: str
    since: Moment | None
    next_try: Moment | None
    may_retry: bool
    where: str
    pushes: str


def refs(page: Sequence[Stuck]) -> list[str]:
    """The customers that a page names."""
    return sorted({ref for each in page for ref in list(_of(each.finding))[:MOST_NAMED]})


def row(each: Stuck, names: Mapping[str, Customer], now: datetime) -> Row:
    """One of the list."""
    finding, stake, of = each.finding, each.stake, _of(each.finding)
    kind, meaning = words.KINDS[finding.kind]
    who = [
        Who(ref, names[ref].name if ref in names else None, ", ".join(metrics))
        for ref, metrics in list(of.items())[:MOST_NAMED]
    ]
    return Row(
        id=naming.write(finding),
        kind=kind,
        meaning=meaning,
        mode=words.MODES[finding.mode],
        is_test=finding.mode == "test",
        who=who,
        others=len(of) - len(who),
        about=about(finding),
        amount=_amount(stake),
        unknown=stake.why_not,
        is_free=stake.why_not == stuck.NOBODY_PAYS,
        quantity=_quantity(stake),
        reason=words.sentence(finding.reason, {*of, finding.stripe_customer or ""}),
        way_out=finding.way_out.rstrip("."),
        since=words.moment(finding.since, now),
        next_try=words.next_try(finding.next_try_at, now),
        may_retry=finding.may_retry,
        where=words.where(finding),
        pushes=words.pushes(finding),
    )


def about(finding: Finding) -> str:
    """Its name in a sentence: `globex, api_calls`, or the account."""
    if finding.kind == "halted":
        return f"account {finding.account_id}"
    listed = [f"{ref}, {', '.join(metrics)}" for ref, metrics in _of(finding).items()]
    return "; ".join(listed[:MOST_NAMED]) or words.where(finding)


def _of(finding: Finding) -> dict[str, list[str]]:
    """The metrics that it is about, by customer."""
    sources = finding.sources or [one for each in finding.behind for one in each.sources]
    found: dict[str, list[str]] = {}
    for source in sorted(set(sources)):
        found.setdefault(source.customer_ref, []).append(source.metric)
    return found


def _amount(stake: Stake) -> str | None:
    if stake.amount is None or stake.currency is None:
        return None
    return shown.amount(stake.amount, stake.currency)


def _quantity(stake: Stake) -> str | None:
    if stake.quantity is None or not stake.quantity:
        return None
    size = shown.quantity(abs(stake.quantity))
    return f"{size} not at Stripe" if stake.quantity > 0 else f"{size} too many at Stripe"


@dataclass(frozen=True)
class Lag:
    """How far one mode is. steps: (what, what that means, how many, since when the oldest waits),
    along the way of an event."""

    mode: str
    is_test: bool
    is_used: bool
    sentence: str
    mappings: int
    steps: list[tuple[str, str, str, Moment | None]]
    halts: list[tuple[Halt, Moment | None]]
    late: Moment | None
    last_answer: Moment | None


def lag(of: Standing, every: Sequence[Stuck], now: datetime) -> Lag:
    """One mode."""
    more = "+" if of.is_lower_bound else ""
    oldest_unsent = words.moment(of.oldest_unsent_at, now)
    oldest_unconfirmed = words.moment(of.oldest_unconfirmed_at, now)
    flow = [
        ("To be sent", _UNSENT, of.unsent, more, oldest_unsent),
        ("On the way", _ON_THE_WAY, of.on_the_way, "", None),
        ("To be confirmed", _UNCONFIRMED, of.unconfirmed, more, oldest_unconfirmed),
        ("Confirmed", _CONFIRMED, of.confirmed, "", None),
    ]
    troubles = [
        ("Held", _HELD, of.held),
        ("Blocked", _BLOCKED, of.blocked),
        ("Doubtful", _DOUBTFUL, of.doubtful),
        ("Drift", _DRIFT, of.drifting),
        ("Unsendable", _UNSENDABLE, of.unsendable),
    ]
    steps = [(what, text, f"{n:,}{plus}", oldest) for what, text, n, plus, oldest in flow]
    steps += [(what, text, f"{n:,}", None) for what, text, n in troubles if n]
    return Lag(
        mode=words.MODES[of.mode],
        is_test=of.mode == "test",
        is_used=of.is_used,
        sentence=sentences.of_mode(of, every),
        mappings=of.mappings,
        steps=steps,
        halts=[(halt, words.next_try(halt.until, now)) for halt in of.halts],
        late=late(of, now),
        last_answer=words.moment(of.last_answer_at, now),
    )


_UNSENT = "hourly segments of which Stripe may not have heard all"
_ON_THE_WAY = "pushes that Stripe has not answered"
_UNCONFIRMED = "pushes that Stripe accepted; its own totals are read once a day"
_CONFIRMED = "pushes that Stripe's own total holds, ever"
_HELD = "customers' metrics that have nowhere to go"
_BLOCKED = "streams that Stripe refuses"
_DOUBTFUL = "pushes of which only Stripe's own total can tell"
_DRIFT = "pushes whose hour adds up to something else at Stripe"
_UNSENDABLE = "segments that no invoice would bill"
