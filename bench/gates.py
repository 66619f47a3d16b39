"""What the product must reach, what it aims for, and the verdict."""

from dataclasses import dataclass

from bench.rounds import Line

GROWTH_ALLOWED = 0.05
FALL_TOLD = 0.20


@dataclass(frozen=True)
class Gate:
    """A bound on the ratio where the measurement has one, else on its figure.

    upper: the value must stay at or below the bound.  of_figure: on the figure in any case.
    """

    bound: float
    aim: float | None = None
    upper: bool = False
    of_figure: bool = False

    def verdict(self, value: float) -> str:
        if not self._within(value, self.bound):
            return "BELOW GATE" if not self.upper else "OVER GATE"
        if self.aim is not None and self._within(value, self.aim):
            return "aim met"
        return "met"

    def _within(self, value: float, bound: float) -> bool:
        return value <= bound if self.upper else value >= bound


GATES = {
    "ingest_batches_1": Gate(0.35, 0.45),
    "ingest_batches_4": Gate(0.60, 0.75),
    "duplicates": Gate(0.60, upper=True),
    "ingest_singles_1": Gate(0.35),
    "ingest_singles_10": Gate(0.35),
    "ingest_singles_100": Gate(0.35),
    "ingest_singles_10_p95": Gate(25.0, upper=True),
    "fold_1000": Gate(0.50, 1.00),
    "fold_200000": Gate(0.25, 0.50),
    "fold_unique": Gate(0.15, 0.30),
    "ingest_while_folding": Gate(0.40),
    "backlog_growth": Gate(GROWTH_ALLOWED, upper=True),
    "catch_up": Gate(2.0, upper=True),
    "late": Gate(1.0, upper=True),
    "backfill": Gate(0.40),
    "backfill_memory": Gate(200.0, upper=True),
    "projection": Gate(5.0, upper=True),
    "memory": Gate(150.0, upper=True),
    "invoice": Gate(50.0, upper=True),
    "backtest_engine": Gate(100_000.0),
    "backtest": Gate(10.0, upper=True),
    "curve_page": Gate(100.0, upper=True),
    "pushes": Gate(150.0, of_figure=True),
    "idle_tick": Gate(5.0, upper=True),
    "to_stripe": Gate(15.0, upper=True),
    "replay": Gate(15.0, upper=True),
    "replay_wrong": Gate(15.0, upper=True),
    "widget_poll": Gate(5.0, upper=True),
    "widgets_500": Gate(100.0, upper=True),
    "widget_paint": Gate(300.0, upper=True),
}


def value_of(line: Line) -> float:
    """What a gate judges."""
    gate = GATES.get(line.name)
    is_of_figure = line.ratio is None or (gate is not None and gate.of_figure)
    return line.figure if is_of_figure or line.ratio is None else line.ratio


def verdict(line: Line) -> str:
    gate = GATES.get(line.name)
    return gate.verdict(value_of(line)) if gate else ""


def is_missed(line: Line) -> bool:
    return "GATE" in verdict(line)


def has_fallen(line: Line, earlier: float) -> bool:
    """True if the value is more than a fifth worse than in an earlier run."""
    gate = GATES.get(line.name)
    if gate is None or earlier <= 0:
        return False
    change = value_of(line) / earlier
    return change > 1 + FALL_TOLD if gate.upper else change < 1 - FALL_TOLD
