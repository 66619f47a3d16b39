"""A chart, and the same figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.billing.days import LineDays
from metering.billing.projection import Line
from metering.catalog.period import Span
from pricing import money
from pricing.money import Currency
from pricing.numbers import EXACT, ZERO
from webapp.widget import daily, figures, geometry, rows, words
from webapp.widget.chart import Chart, chart
from webapp.widget.daily import WEEK, Bucket, Daily
from webapp.widget.figures import Figures
from webapp.widget.look import Look


@dataclass(frozen=True)
class TableRow:
    """so_far: None where the table does not add up to anything."""

    day: str
    value: str
    so_far: str | None


@dataclass(frozen=True)
class Graph:
    """key: of its ids.  besides: what the bars leave out, which the table has."""

    key: str
    chart: Chart
    besides: str
    table_title: str
    columns: Sequence[str]
    table: Sequence[TableRow]

    @property
    def is_wide(self) -> bool:
        return geometry.is_wide([(row.day, row.value, row.so_far or "") for row in self.table])


def of_cost(
    span: Span, lines: Sequence[LineDays], of: Currency, look: Look, *, alone: bool
) -> Graph | None:
    """The cost by day in one currency. alone: there is no other."""
    found, say = daily.of_cost(span, lines, look.now), look.say
    if found is None:
        return None

    def tell(value: Decimal) -> str:
        return say.amount(value, of)

    title = _title((words.DAILY, words.WEEKLY, words.BY_MANY), found, say)
    drawn = chart(found, title, of.code, tell, look)
    if drawn is None:
        return None
    table_title = _table_title(found)
    if not alone:
        table_title = words.TABLE_IN.format(title=table_title, currency=of.code.upper())
    return Graph(
        key=of.code,
        chart=drawn,
        besides=_besides(found, of, say),
        table_title=table_title,
        columns=(words.COLUMN_DAY, words.COLUMN_COST, words.COLUMN_SO_FAR),
        table=() if look.is_compact else _cost_table(found, of, say),
    )


def of_usage(each: LineDays, look: Look) -> Graph | None:
    """What was used by day of one metric without a price."""
    found, say = daily.of_usage(each, look.now), look.say
    if found is None:
        return None

    def tell(value: Decimal) -> str:
        # As much as a label has room for; the table has every digit.
        return say.quantity(money.quantized(value, 0 if abs(value) >= 100 else 2))

    forms = (words.USE_DAILY, words.USE_WEEKLY, words.USE_BY_MANY)
    key = rows.key_of(each.line.usage.metric)
    drawn = chart(found, _title(forms, found, say, _name(each.line)), key, tell, look)
    if drawn is None:
        return None
    table = [
        TableRow(_day(bucket, found, say), say.quantity(bucket.value), None)
        for bucket in found.buckets
        if bucket.value is not None
    ]
    return Graph(
        key=key,
        chart=drawn,
        besides="",
        table_title=_table_title(found),
        columns=(words.COLUMN_DAY, words.COLUMN_USED),
        table=() if look.is_compact else table,
    )


def _title(forms: tuple[str, str, str], found: Daily, say: Figures, name: str = "") -> str:
    form = {1: forms[0], WEEK: forms[1]}.get(found.step_days, forms[2])
    return form.format(count=say.quantity(found.step_days), name=name)


def _day(bucket: Bucket, found: Daily, say: Figures) -> str:
    if found.step_days == 1:
        return say.day(bucket.start_at)
    return say.days(bucket.start_at, bucket.end_at)


def _table_title(found: Daily) -> str:
    return words.AS_TABLE if found.step_days == 1 else words.AS_TABLE_OF_STEPS


def _besides(found: Daily, of: Currency, say: Figures) -> str:
    """What is in the number and in no bar, and why a bar may stand below the line."""
    said = []
    if found.anyway:
        said.append(words.DUE_ANYWAY.format(amount=say.amount(found.anyway, of)))
    for line in found.undated:
        said.append(words.NOT_BY_DAY.format(name=_name(line), amount=_amount(line, say)))
    for line in found.elsewhere:
        period = say.period(line.usage.span.start_at, line.usage.span.end_at)
        said.append(
            words.OTHER_PERIOD.format(name=_name(line), amount=_amount(line, say), period=period)
        )
    told = [words.BESIDES.format(list="; ".join(said))] if said else []
    if any(bucket.value is not None and bucket.value < 0 for bucket in found.buckets):
        told.append(words.FELL)
    return " ".join(told)


def _amount(line: Line, say: Figures) -> str:
    assert line.amounts is not None
    return say.amount(line.amounts.current, line.amounts.currency)


def _name(line: Line) -> str:
    return figures.name(rows.name_of(line))


def _cost_table(found: Daily, of: Currency, say: Figures) -> list[TableRow]:
    """Every amount of the number, with what it has come to by then."""
    amounts = [(words.ROW_ANYWAY, Decimal(found.anyway))] if found.anyway else []
    amounts += [
        (_day(bucket, found, say), bucket.value)
        for bucket in found.buckets
        if bucket.value is not None
    ]
    for line in (*found.undated, *found.elsewhere):
        assert line.amounts is not None
        amounts.append((_name(line), Decimal(line.amounts.current)))
    table, so_far = [], ZERO
    for day, value in amounts:
        so_far = EXACT.add(so_far, value)
        table.append(TableRow(day, say.amount(value, of), say.amount(so_far, of)))
    return table
