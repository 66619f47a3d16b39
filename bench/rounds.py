"""Rounds: the floor before and after each measurement, for the machine drifts by a factor of 2-3.

A ratio is formed within its round, from the floors on either side; medians are taken of the
ratios and of the figures apart, so that the two need not divide into one another.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.floor import Floor
from bench.setting import Setting
from bench.stack import Cpu
from bench.watch import Watch

# The share of the machine that others may take during a round.
OTHERS_ALLOWED = 0.10


@dataclass
class Line:
    """One measured figure. ratio: to its floor, where it has one.

    spread: least and greatest ratio (figure, where there is none) of the rounds.
    details: whatever else was seen, by name with its unit.
    """

    name: str
    title: str
    figure: float
    unit: str
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    details: dict[str, float] = field(default_factory=dict)


@dataclass
class Round:
    """One measurement between two floors."""

    figure: float
    floor: float
    details: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.figure / self.floor


Sample = tuple[float, dict[str, float]]


def against(
    setting: Setting,
    floor: Callable[[], float],
    prepare: Callable[[], Callable[[], Sample]],
    count: int,
) -> list[Round]:
    """Measure `count` times. prepare: does what is not timed and returns what is.

    A round that others disturbed is measured again, half as often again at most; then the least
    disturbed ones are kept.
    """
    done: list[Round] = []
    while len(done) < count + (count + 1) // 2:
        measure = prepare()
        watch = Watch(setting.stack)
        before = floor()
        figure, details = measure()
        after = floor()
        details["others_share"] = watch.others_share()
        done.append(Round(figure, (before + after) / 2, details))
        if sum(each.details["others_share"] < OTHERS_ALLOWED for each in done) >= count:
            break
    return sorted(done, key=lambda each: each.details["others_share"])[:count]


def line(name: str, title: str, unit: str, rounds: list[Round]) -> Line:
    ratios = [each.ratio for each in rounds]
    return Line(
        name,
        title,
        statistics.median(each.figure for each in rounds),
        unit,
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        details=medians(rounds) | {"floor": statistics.median(each.floor for each in rounds)},
    )


def medians(rounds: list[Round]) -> dict[str, float]:
    """The medians of the rounds' details."""
    names = rounds[0].details
    return {name: statistics.median(each.details[name] for each in rounds) for name in names}


def microseconds(spent: Cpu, client_seconds: float, events: int) -> dict[str, float]:
    """Processor time per event, by who spent it, in microseconds."""
    each = 1e6 / max(1, events)
    return {
        "web_us_per_event": spent.web * each,
        "postgres_us_per_event": spent.postgres * each,
        "worker_us_per_event": spent.worker * each,
        "client_us_per_event": client_seconds * each,
    }


def floors(floor: Floor) -> list[Line]:
    """The floors themselves, as they were during the run."""
    return [
        Line(name, title, statistics.median(values), "per s", spread=(min(values), max(values)))
        for name, title, values in (
            ("floor_copy", "floor: COPY, 1000 rows a commit", floor.copies),
            ("floor_commit", "floor: single-row commits", floor.commits),
        )
        if values
    ]
