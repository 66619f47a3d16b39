"""The period by day as bars: what each day added, today marked, the rest lighter as expected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from pricing.numbers import ZERO
from webapp import shown
from webapp.widget import words
from webapp.widget.daily import WEEK, Bucket, Daily
from webapp.widget.geometry import NARROW, Label, Rect, number
from webapp.widget.look import Look

# Pixels from the top: a strip for what is said of one day, a gap for the tallest bar's label, the
# bars, and the first and last day beneath.
STRIP, BENEATH = 16.0, 18.0
GAP, BARS = 16.0, 72.0
COMPACT_GAP, COMPACT_BARS = 6.0, 44.0
# Of a day's room this much is its bar.
_BAR = 0.74


@dataclass(frozen=True)
class Column:
    """A day. says: what a reader hears of it, and a pointer or the keyboard shows."""

    id: str
    hit: Rect
    bar: Rect | None
    expected: Rect | None
    says: str
    tip: Label
    is_today: bool


@dataclass(frozen=True)
class Placed:
    """A label at a height."""

    label: Label
    y: str


@dataclass(frozen=True)
class Today:
    """The line down to today's bar. x: percent; from y1 to y2."""

    x: str
    y1: str
    y2: str
    label: Label


@dataclass(frozen=True)
class Chart:
    """name: the title, where there is room for it.
    peak, dip: the amounts of the day that cost most and of one that cost less than nothing.
    pace: how much a day that remains is expected to add, in words, above its bars.
    """

    title: str
    height: str
    floor: str
    strip: str
    beneath: str
    columns: Sequence[Column]
    band: Rect | None
    today: Today | None
    name: Label | None
    peak: Placed | None
    dip: Placed | None
    pace: Placed | None
    ends: tuple[Label, Label]


def chart(
    daily: Daily, title: str, key: str, tell: Callable[[Decimal], str], look: Look
) -> Chart | None:
    """None of a single day: that is what the number above says already.

    key: of its ids.  tell: a value in words.
    """
    if len(daily.buckets) < 2:
        return None
    drawing = _Drawing(daily, key, tell, look)
    height = drawing.height
    return Chart(
        title=title,
        height=number(height),
        floor=number(drawing.floor),
        strip=number(STRIP - 4),
        beneath=number(height - 4),
        columns=[drawing.column(i) for i in range(len(daily.buckets))],
        band=drawing.band(),
        today=drawing.today_line(),
        name=drawing.name(title),
        dip=drawing.dip(),
        peak=None if look.is_compact else drawing.peak(),
        pace=None if look.is_compact else drawing.pace(),
        ends=drawing.ends(),
    )


@dataclass(frozen=True)
class _Drawing:
    """From values to pixels: the floor is 0, and what is less than nothing hangs below it."""

    daily: Daily
    key: str
    tell: Callable[[Decimal], str]
    look: Look

    @cached_property
    def buckets(self) -> Sequence[Bucket]:
        return self.daily.buckets

    @cached_property
    def wide(self) -> float:
        """The room of a day, percent."""
        return 100 / len(self.buckets)

    @cached_property
    def today(self) -> int | None:
        now = self.look.now
        return next((i for i, b in enumerate(self.buckets) if b.start_at <= now < b.end_at), None)

    @cached_property
    def ahead(self) -> int | None:
        """The first bucket of which nothing has begun."""
        return next((i for i, bucket in enumerate(self.buckets) if bucket.value is None), None)

    @cached_property
    def longest(self) -> Decimal:
        """How many days the longest bucket has that lies ahead."""
        return max(bucket.remains for bucket in self.buckets[self.ahead :])

    @cached_property
    def top(self) -> float:
        return STRIP + (COMPACT_GAP if self.look.is_compact else GAP)

    @cached_property
    def tall(self) -> float:
        return COMPACT_BARS if self.look.is_compact else BARS

    @cached_property
    def height(self) -> float:
        return self.top + self.tall + BENEATH

    @cached_property
    def range(self) -> tuple[Decimal, Decimal]:
        """The least and the most that is drawn, 0 among them."""
        values, pace = [ZERO], self.daily.pace
        for bucket in self.buckets:
            own = bucket.value or ZERO
            values.append(own)
            if pace is not None:
                values.append(own + pace.expected * bucket.remains)
        if pace is not None and self.ahead is not None:
            values += [pace.low * self.longest, pace.high * self.longest]
        return min(values), max(values)

    @cached_property
    def floor(self) -> float:
        least, most = self.range
        share = float(most / (most - least)) if most > least else 1.0
        return self.top + self.tall * share

    def y(self, value: Decimal) -> float:
        least, most = self.range
        return self.floor - (self.tall * float(value / (most - least)) if most > least else 0.0)

    def rect(self, x: float, width: float, one: Decimal, other: Decimal) -> Rect:
        top, bottom = self.y(max(one, other)), self.y(min(one, other))
        return self.look.across.rect(x, width, top, bottom - top)

    def column(self, i: int) -> Column:
        bucket, pace = self.buckets[i], self.daily.pace
        x, width = self.wide * (i + (1 - _BAR) / 2), self.wide * _BAR
        own = bucket.value or ZERO
        more = pace.expected * bucket.remains if pace is not None else ZERO
        base = max(own, ZERO)
        says = self._says(bucket, more)
        return Column(
            id=f"day-{self.key}-{bucket.start_at:%Y-%m-%d}",
            hit=self.look.across.rect(
                self.wide * i, self.wide, STRIP, self.height - BENEATH - STRIP
            ),
            bar=self.rect(x, width, ZERO, own) if own else None,
            expected=self.rect(x, width, base, base + more) if more > 0 else None,
            says=says,
            tip=self.look.across.label(self.wide * (i + 0.5), says),
            is_today=i == self.today,
        )

    def _says(self, bucket: Bucket, more: Decimal) -> str:
        day = self._named(bucket)
        if bucket.value is not None:
            return words.ON_DAY.format(day=day, value=self.tell(bucket.value))
        if self.daily.pace is not None:
            return words.EXPECTED.format(day=day, value=self.tell(more))
        return words.AHEAD.format(day=day)

    def _named(self, bucket: Bucket) -> str:
        if self.daily.step_days == 1:
            return self.look.say.day(bucket.start_at)
        return self.look.say.days(bucket.start_at, bucket.end_at)

    def band(self) -> Rect | None:
        """Over the days that lie wholly ahead: between a quieter and a busier rest."""
        pace = self.daily.pace
        if self.ahead is None or pace is None or pace.low == pace.high:
            return None
        x = self.wide * self.ahead
        return self.rect(x, 100 - x, pace.low * self.longest, pace.high * self.longest)

    def today_line(self) -> Today | None:
        if self.today is None:
            return None
        middle, value = self.wide * (self.today + 0.5), self.buckets[self.today].value or ZERO
        text = {1: words.TODAY, WEEK: words.THIS_WEEK}.get(self.daily.step_days, words.THIS_STEP)
        return Today(
            x=self.look.across.percent(middle),
            y1=number(STRIP),
            y2=number(self.y(max(value, ZERO))),
            label=self.look.across.label(middle, text.format(value=self.tell(value))),
        )

    def name(self, title: str) -> Label | None:
        """At the start of the strip, or at its end where today is at the start."""
        line = self.today_line()
        for x in (0, 100):
            label = self.look.across.label(x, title)
            if line is None or not label.touches(line.label):
                return label
        return None

    def dip(self) -> Placed | None:
        """The day that took most off, beneath its bar; a volume price does that."""
        values = [bucket.value or ZERO for bucket in self.buckets]
        least = min(range(len(values)), key=values.__getitem__)
        if values[least] >= 0:
            return None
        label = self.look.across.label(self.wide * (least + 0.5), self.tell(values[least]))
        if any(label.touches(end) for end in self.ends()):
            return None
        return Placed(label, number(self.height - 4))

    def ends(self) -> tuple[Label, Label]:
        """The first day and the last."""
        say, across = self.look.say, self.look.across
        first, end = self.buckets[0].start_at, self.buckets[-1].end_at
        is_long = shown.is_long(first, end)
        return (
            across.label(0, say.day(first, year=is_long)),
            across.label(100, say.day(shown.last_day(end), year=is_long)),
        )

    def peak(self) -> Placed | None:
        """The costliest day by its amount, which gives the others their scale."""
        values = [bucket.value or ZERO for bucket in self.buckets]
        top = max(range(len(values)), key=values.__getitem__)
        if values[top] <= 0 or top == self.today:
            return None
        label = self.look.across.label(self.wide * (top + 0.5), self.tell(values[top]))
        if self.today is not None:
            line = self.look.across.label(self.wide * (self.today + 0.5), "")
            if label.touches(line, 4):
                return None
        return Placed(label, number(self.y(values[top]) - 4))

    def pace(self) -> Placed | None:
        """In the middle of what lies ahead, where there is room for it."""
        pace = self.daily.pace
        if self.ahead is None or pace is None or pace.expected <= 0:
            return None
        text = {1: words.A_DAY, WEEK: words.EACH_WEEK}.get(self.daily.step_days, words.EACH_STEP)
        begins = self.wide * self.ahead
        value = self.tell(pace.expected * self.daily.step_days)
        label = self.look.across.label((begins + 100) / 2, text.format(value=value))
        if label.ends - label.begins > (100 - begins) / 100 * NARROW - 8:
            return None
        return Placed(label, number(self.y(max(pace.high, pace.expected) * self.longest) - 5))
