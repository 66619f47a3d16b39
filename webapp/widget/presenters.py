"""What a widget shows: what the period will cost, how it came about, and what is still to count."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import ModuleType
from typing import ClassVar

from metering.billing.amounts import Amounts, by_currency
from metering.billing.days import LineDays
from metering.billing.projection import Line, Projection, is_early
from metering.catalog.period import Span
from pricing import money
from webapp.widget import figures, graph, rows, sentences, words
from webapp.widget.figures import Figures
from webapp.widget.graph import Graph
from webapp.widget.look import Look
from webapp.widget.options import Options
from webapp.widget.rows import Row

# More metrics than this are a list to look something up in, behind one line.
MOST_ROWS = 8
# Wider than this (at 13 px), a number is set smaller.
LONG = 110.0
# Of metrics so many are named in a sentence.
MOST_NAMED = 3
# From this on an estimate is said in whole units of the currency, if its band is as wide as this.
_WHOLE_FROM, _WHOLE_BAND = Decimal(100), Decimal(5)


@dataclass(frozen=True)
class Sum:
    """What the period costs in one currency.

    estimate: without "about"; None where there is none, and then `remark` may say why.
    low, high: None where they are not worth telling.
    """

    so_far: str
    estimate: str | None
    by: str
    low: str | None
    high: str | None
    remark: str | None
    graph: Graph | None

    @property
    def is_long(self) -> bool:
        """Whether the number would not fit in a narrow frame at its usual size."""
        return figures.pixels(self.so_far) > LONG


@dataclass(frozen=True)
class Page:
    """Everything in `widget/_usage.html`.

    usage: the one chart where no cost is to be drawn.
    remarks: what the amount covers; notes: what is not counted yet, or never will be.
    """

    words: ClassVar[ModuleType] = words
    is_compact: bool
    period: str
    period_exactly: str
    left: str
    sums: Sequence[Sum]
    usage: Graph | None
    remarks: Sequence[str]
    meaning: Sequence[str]
    rows: Sequence[Row]
    rest: Sequence[Row]
    rest_title: str
    empty: Sequence[str]
    notes: Sequence[str]

    @property
    def tables(self) -> list[Graph]:
        """The charts again, as tables."""
        found = [*(each.graph for each in self.sums), self.usage]
        return [each for each in found if each is not None and each.table]


def page(
    projected: Projection,
    days: Sequence[LineDays],
    options: Options,
    *,
    now: datetime,
    only: Sequence[str] | None = None,
) -> Page:
    """only: the metrics that the widget's token is limited to."""
    look = Look(options, now)
    span, currencies = projected.span, by_currency(line.amounts for line in projected.lines)
    by_metric = {each.line.usage.metric: each for each in days}
    lines = [
        by_metric.get(line.usage.metric, LineDays(line, ()))
        for line in sorted(projected.lines, key=_by_cost)
    ]
    all_rows = [
        rows.row(each, span, look, full=i < MOST_ROWS)
        for i, each in enumerate(lines)
        if not look.is_compact
    ]
    sums = [_sum(each, lines, span, look, alone=len(currencies) == 1) for each in currencies]
    return Page(
        is_compact=look.is_compact,
        period=look.say.period(span.start_at, span.end_at),
        period_exactly=f"{look.say.instant(span.start_at)} – {look.say.instant(span.end_at)}",
        left=_left(span, look),
        sums=sums,
        usage=_usage(sums, lines, look),
        remarks=_remarks(projected.lines, only, look.say),
        meaning=[] if look.is_compact else _meaning(projected.lines, now),
        rows=all_rows[:MOST_ROWS],
        rest=all_rows[MOST_ROWS:],
        rest_title=_rest_title(lines[MOST_ROWS:], look.say),
        empty=_empty(projected, look.say),
        notes=_notes(projected, look.say),
    )


def _by_cost(line: Line) -> tuple[bool, int, str]:
    """What costs most stands first; what has no price, last."""
    amount = line.amounts.current if line.amounts else 0
    return line.amounts is None, -amount, rows.name_of(line)


def _left(span: Span, look: Look) -> str:
    """`8 days left`, `31 hours left`, `ended`."""
    if look.now >= span.end_at:
        return words.ENDED
    length = span.end_at - max(look.now, span.start_at)
    return words.LEFT.format(count=_duration(length, look.say))


def _duration(length: timedelta, say: Figures) -> str:
    """To the nearest day, hour or minute, in the unit that tells most."""
    for unit, least, forms in (
        (timedelta(days=1), timedelta(days=2), words.DAYS),
        (timedelta(hours=1), timedelta(hours=2), words.HOURS),
        (timedelta(minutes=1), timedelta(0), words.MINUTES),
    ):
        if length >= least:
            return sentences.counted(max(1, round(length / unit)), forms, say)
    raise AssertionError("a length is not negative")


def _sum(sums: Amounts, lines: Sequence[LineDays], span: Span, look: Look, *, alone: bool) -> Sum:
    of, say, now = sums.currency, look.say, look.now
    own = [
        each for each in lines if each.line.amounts and each.line.amounts.currency.code == of.code
    ]
    has_others = any(each.line.usage.span != span for each in own)
    last = sentences.last_day(span, say)
    estimate = low = high = remark = None
    if now >= span.end_at and not has_others:
        remark = words.IS_OVER
    elif any(is_early(each.line, now) for each in own):
        remark = words.TOO_EARLY.format(age=_duration(now - span.start_at, say))
    elif all(_stays(each.line) for each in own):
        remark = figures.ended(words.NOTHING_MORE.format(day=last))
    else:
        estimate, low, high = _estimate(sums, say)
    return Sum(
        so_far=say.amount(sums.current, of),
        estimate=estimate,
        by=words.BY_THE_ENDS if has_others else words.BY.format(day=last),
        low=low,
        high=high,
        remark=remark,
        graph=graph.of_cost(span, own, of, look, alone=alone),
    )


def _stays(line: Line) -> bool:
    """Whether nothing more of it is expected: a cost that only rounds to the same is no promise."""
    return line.projected.low == line.projected.high == line.usage.value


def _estimate(sums: Amounts, say: Figures) -> tuple[str, str | None, str | None]:
    """The guess and its band, no finer than it is good for."""
    of = sums.currency
    wide = money.major(sums.high - sums.low, of)
    is_whole = money.major(sums.projected, of) >= _WHOLE_FROM and wide >= _WHOLE_BAND
    places = 0 if is_whole else of.digits
    low, high = (money.quantized(money.major(each, of), places) for each in (sums.low, sums.high))
    said = (say.about if is_whole else say.amount)(sums.projected, of)
    if low == high:
        return said, None, None
    return said, say.decimals(low, places), say.decimals(high, places)


def _usage(sums: Sequence[Sum], lines: Sequence[LineDays], look: Look) -> Graph | None:
    """Where there is no cost to draw, the days of the one metric that there is."""
    if len(lines) != 1 or any(each.graph is not None for each in sums):
        return None
    return graph.of_usage(lines[0], look)


def _remarks(lines: Sequence[Line], only: Sequence[str] | None, say: Figures) -> list[str]:
    said = []
    unpriced = [rows.name_of(line) for line in lines if line.amounts is None]
    if lines and len(unpriced) == len(lines):
        said.append(words.NO_PRICES)
    elif unpriced:
        said.append(words.UNPRICED.format(names=_listed(sorted(unpriced), say)))
    if only is not None:
        names = [rows.name_of(line) for line in lines] or list(only)
        said.append(words.COVERS.format(names=_listed(sorted(names), say)))
    return said


def _listed(names: Sequence[str], say: Figures) -> str:
    """`A, B and C`; `A, B, C and 4 more`."""
    shown_names = [figures.name(each) for each in names[:MOST_NAMED]]
    if len(names) > MOST_NAMED:
        shown_names.append(words.OTHERS.format(count=say.quantity(len(names) - MOST_NAMED)))
    if len(shown_names) == 1:
        return shown_names[0]
    return words.AND.format(first=", ".join(shown_names[:-1]), last=shown_names[-1])


def _meaning(lines: Sequence[Line], now: datetime) -> list[str]:
    priced = [line for line in lines if line.amounts is not None]
    if not priced:
        return []
    said = [words.MEANS_SO_FAR]
    bases = {line.basis for line in priced}
    if bases != {"none"} and not any(is_early(line, now) for line in priced):
        said += [words.MEANS_WEEKS] if "weekly_profile" in bases else []
        said += [words.MEANS_PACE] if "even_pace" in bases else []
        said += [words.MEANS_UNUSED, words.MEANS_BAND]
    return [*said, words.ZONE]


def _rest_title(lines: Sequence[LineDays], say: Figures) -> str:
    """`192 more metrics, $12.00`."""
    if not lines:
        return ""
    title = sentences.counted(len(lines), words.REST, say)
    sums = by_currency(each.line.amounts for each in lines)
    amounts = [say.amount(each.current, each.currency) for each in sums]
    return words.REST_COST.format(metrics=title, amount=" + ".join(amounts)) if amounts else title


def _empty(projected: Projection, say: Figures) -> list[str]:
    if projected.lines:
        return []
    said = [words.EMPTY]
    latest = projected.latest_period
    if latest is not None and latest != projected.span:
        said.append(words.LATEST.format(period=say.period(latest.start_at, latest.end_at)))
    return [*said, words.EMPTY_THEN]


def _notes(projected: Projection, say: Figures) -> list[str]:
    said, backlog = [], projected.usage.backlog
    # Of a backlog that is too long to be searched nothing is known: the age of the numbers tells.
    if backlog.is_lower_bound and backlog.events:
        said.append(words.COUNTING_AT_LEAST.format(count=say.quantity(backlog.events)))
    elif backlog.events:
        said.append(sentences.counted(backlog.events, words.COUNTING, say))
    aside = sum(line.usage.set_aside for line in projected.lines)
    if aside:
        said.append(sentences.counted(aside, words.ASIDE, say))
    return said
