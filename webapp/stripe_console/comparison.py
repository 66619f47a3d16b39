"""What the page that compares live, shadow and our own counters shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, time, timedelta
from decimal import Decimal

from metering.catalog.models import Customer
from metering.catalog.period import Span
from metering.stripe.shadow import ADDED_UP_TO, Compared, Overall, Side, Sum, Verdict
from webapp import shown
from webapp.stripe_console.words import counted
from webapp.stripe_state import sentences

NOTHING = "–"
# As columns are named, by how a row names its sides.
MODES = (("live", "Live"), ("shadow", "Shadow (test mode)"))


@dataclass(frozen=True)
class SideSum:
    """One mode of a metric; texts. unbilled: empty where there is none."""

    pushed: str
    confirmed: str
    difference: str
    is_off: bool = False
    unbilled: str = ""


@dataclass(frozen=True)
class SumRow:
    """One metric."""

    metric: str
    agreeing: str
    local: str
    live: SideSum
    shadow: SideSum


@dataclass(frozen=True)
class CompareRow:
    """A customer's metric in one billing period."""

    ref: str
    name: str | None
    metric: str
    period: str
    local: str
    live: SideSum
    shadow: SideSum
    in_words: str


def sentence(of: Overall) -> str:
    """How many rows agree, and what the largest difference is."""
    if not of.rows:
        return "Nothing that goes to Stripe was counted in these billing periods."
    agreeing = of.verdicts.get("agrees", 0)
    who = "Live, shadow and our counters" if is_live(of) else "Shadow and our counters"
    if agreeing == of.rows:
        how_many = "in the only row" if of.rows == 1 else f"in all {of.rows:,} rows"
        return f"{who} agree {how_many}."
    said = [f"{who} agree in {agreeing:,} of {counted(of.rows, 'row')}."]
    if of.apart:
        said.append(f"The largest difference: {furthest(of.apart[0])}.")
    return " ".join(said)


def rest(of: Overall) -> str:
    """What the rows that do not agree are, in words; empty where all agree."""
    said = [
        text.format(rows=counted(of.verdicts[verdict], "row"))
        for verdict, text in _VERDICTS.items()
        if of.verdicts.get(verdict)
    ]
    return "; ".join(said)


_VERDICTS: dict[Verdict, str] = {
    "differs": "in {rows} somebody must look at the difference",
    "waits": "in {rows} usage waits to be sent",
    "unknown": "{rows} cannot be compared",
}


def furthest(row: Compared) -> str:
    """`shadow lacks 5 api_calls of cus_2`."""
    name, side = max(
        (("live", row.live), ("shadow", row.shadow)),
        key=lambda each: max(abs(each[1].difference or Decimal(0)), abs(each[1].unbilled)),
    )
    difference, what = side.difference or Decimal(0), f"{row.source.metric} of"
    if abs(side.unbilled) > abs(difference):
        lost = shown.quantity(side.unbilled)
        return f"no invoice bills {lost} {what} {row.source.customer_ref}"
    usage = f"{shown.quantity(abs(difference))} {what} {row.source.customer_ref}"
    return f"{name} lacks {usage}" if difference < 0 else f"{name} has {usage} too many"


def partial(of: Overall) -> str | None:
    """What is said where not all rows are added up."""
    if of.is_complete:
        return None
    return (
        f"There are more than {ADDED_UP_TO:,} rows: the sentence and the sums are of the first"
        f" {ADDED_UP_TO:,} by customer. The CSV has all of them."
    )


def is_live(of: Overall) -> bool:
    """False where nothing of it goes to Stripe live."""
    return any(each.live_rows for each in of.sums)


def sums(of: Overall) -> list[SumRow]:
    """By metric."""
    return [
        SumRow(
            each.metric,
            f"{each.agreeing:,} of {each.rows:,}",
            shown.quantity(each.local),
            _live_sum(each),
            _shadow_sum(each),
        )
        for each in of.sums
    ]


def _live_sum(of: Sum) -> SideSum:
    return _sum(of.live_rows, of.live_pushed, of.live_confirmed, of.live_difference)


def _shadow_sum(of: Sum) -> SideSum:
    return _sum(of.shadow_rows, of.shadow_pushed, of.shadow_confirmed, of.shadow_difference)


def _sum(rows: int, pushed: Decimal, confirmed: Decimal, difference: Decimal) -> SideSum:
    if not rows:
        return SideSum(NOTHING, NOTHING, NOTHING, is_off=True)
    return SideSum(shown.quantity(pushed), shown.quantity(confirmed), _difference(difference))


def row(of: Compared, names: Mapping[str, Customer]) -> CompareRow:
    """One row."""
    known = names.get(of.source.customer_ref)
    return CompareRow(
        ref=of.source.customer_ref,
        name=known.name if known else None,
        metric=of.source.metric,
        period=period(of.span),
        local=shown.quantity(of.local),
        live=_side(of.live),
        shadow=_side(of.shadow),
        in_words=sentences.compared(of),
    )


def refs(rows: Sequence[Compared]) -> list[str]:
    return sorted({each.source.customer_ref for each in rows})


def _side(of: Side) -> SideSum:
    if of.state == "off":
        return SideSum(NOTHING, NOTHING, NOTHING, is_off=True)
    difference = NOTHING if of.difference is None else _difference(of.difference)
    lost = shown.quantity(of.unbilled) if of.unbilled else ""
    return SideSum(
        shown.quantity(of.pushed), shown.quantity(of.confirmed), difference, unbilled=lost
    )


def _difference(value: Decimal) -> str:
    return f"{'+' if value > 0 else ''}{shown.quantity(value)}"


def period(span: Span) -> str:
    """`1 to 30 Nov 2026`, `15 Oct to 14 Nov 2026`; with the times where they are not midnight."""
    start, end = span.start_at.astimezone(UTC), span.end_at.astimezone(UTC)
    if start.time() == end.time() == time():
        last = end - timedelta(days=1)
        is_one_month = (start.year, start.month) == (last.year, last.month)
        return f"{start:%-d}{'' if is_one_month else f' {start:%b}'} to {last:%-d %b %Y}"
    return f"{start:%-d %b %H:%M} to {end:%-d %b %Y %H:%M}"
