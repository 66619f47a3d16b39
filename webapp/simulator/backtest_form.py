"""What the back-test page asks: months, and for each metric the price of today and the one tried.

`state` is the simulator's own address with up to four prices; `from` and `to` are months, and each
metric has a row `metric-0`, `baseline-0` (`mapped` or a price's letter), `candidate-0` (a letter,
or nothing to leave the metric out).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from metering.billing import question
from metering.billing.baseline import MAPPED
from metering.billing.question import Wanted
from metering.catalog.models import Metric
from metering.catalog.period import calendar_month
from pricing.price import to_config
from webapp.simulator import checking
from webapp.simulator.form import Form

MONTHS_OFFERED = 24
METRICS_OFFERED = 50
DEFAULT_MONTHS = 3


@dataclass(frozen=True)
class Row:
    """One metric's choices."""

    metric: str
    unit: str
    baseline: str
    candidate: str


@dataclass
class BacktestForm:
    """errors: by field, `months` and `rows` among them."""

    prices: Form
    months: list[str]
    since: str
    until: str
    rows: list[Row]
    name: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def options(self) -> list[tuple[str, str]]:
        """The prices by letter."""
        return [(price.letter, price.title) for price in self.prices.prices]

    @property
    def offered(self) -> list[tuple[str, str]]:
        """The months and how they read; of this one only a part is known."""
        texts = [f"{question.month_start(month):%b %Y}" for month in self.months]
        return list(zip(self.months, [f"{texts[0]}, so far", *texts[1:]], strict=True))

    @property
    def span(self) -> list[str]:
        """The months chosen, both ends included."""
        return [month for month in reversed(self.months) if self.since <= month <= self.until]


def read(
    given: Mapping[str, str], prices: Form, metrics: Sequence[Metric], now: datetime
) -> BacktestForm:
    """The fields as they were sent, or as they are offered first."""
    months = _offered(now)
    letters = [price.letter for price in prices.prices]
    first_baseline = letters[0] if len(letters) > 1 else MAPPED
    rows = []
    for i, metric in enumerate(metrics[:METRICS_OFFERED]):
        asked = f"candidate-{i}" in given
        candidate = given.get(f"candidate-{i}", "") if asked else (letters[-1] if i == 0 else "")
        baseline = given.get(f"baseline-{i}", first_baseline)
        rows.append(
            Row(
                metric.metric,
                metric.unit or "",
                baseline if baseline in (MAPPED, *letters) else first_baseline,
                candidate if candidate in letters else "",
            )
        )
    over = months[1 : DEFAULT_MONTHS + 1]
    since, until = given.get("from", over[-1]), given.get("to", over[0])
    return BacktestForm(
        prices=prices,
        months=months,
        since=since if since in months else over[-1],
        until=until if until in months else over[0],
        rows=rows,
        name=given.get("name", "")[:200].strip(),
    )


def _offered(now: datetime) -> list[str]:
    """The months that can be chosen, this one first."""
    month, found = calendar_month(now), []
    for _ in range(MONTHS_OFFERED):
        found.append(f"{month.start_at:%Y-%m}")
        month = question.month_before(month)
    return found


def wanted(form: BacktestForm) -> list[tuple[int, Wanted]]:
    """(row, what is asked of its metric); mistakes are written into `form.errors`."""
    checked, found = checking.check(form.prices), []
    if form.since > form.until:
        form.errors["months"] = "The last month lies before the first."
    for i, row in enumerate(form.rows):
        if not row.candidate:
            continue
        chosen = {"baseline": row.baseline, "candidate": row.candidate}
        for name, letter in chosen.items():
            if letter != MAPPED and letter not in checked.prices:
                form.errors[f"{name}-{i}"] = "This price has a mistake; mend it in the simulator."
        if not form.errors:
            configs: dict[str, Any] = {
                name: letter if letter == MAPPED else _config(form.prices, checked, letter)
                for name, letter in chosen.items()
            }
            found.append((i, Wanted(row.metric, configs["baseline"], configs["candidate"])))
    if not found and not form.errors:
        form.errors["rows"] = "Choose a price to try for at least one metric."
    return found


def _config(prices: Form, checked: checking.Checked, letter: str) -> dict[str, Any]:
    typed = prices.price(letter)
    assert typed is not None
    return to_config(checked.prices[letter]) | {"nickname": typed.title}


def name_of(form: BacktestForm) -> str:
    """What was typed, or the prices' names."""
    if form.name:
        return form.name
    titles = dict(form.options) | {MAPPED: "today's prices"}
    row = next(row for row in form.rows if row.candidate)
    return f"{titles[row.candidate]} instead of {titles[row.baseline]}"


def blame(form: BacktestForm, path: str, reason: str, asked: Sequence[tuple[int, Wanted]]) -> None:
    """Put a refusal beside its field. path: such as `metrics/0/candidate/currency`."""
    parts = path.strip("/").split("/")
    sentence = reason[:1].upper() + reason[1:].rstrip(".") + "."
    if parts[0] == "metrics" and len(parts) > 2 and int(parts[1]) < len(asked):
        form.errors[f"{parts[2]}-{asked[int(parts[1])][0]}"] = sentence
    else:
        form.errors["months" if parts[0] == "months" else "rows"] = sentence
