"""The table that a run ends with."""

from collections.abc import Iterable, Mapping

from bench import gates
from bench.gates import GATES
from bench.rounds import Line

_HEADS = ("measurement", "figure", "", "ratio", "rounds", "gate", "aim", "verdict")


def show(lines: Iterable[Line], earlier: Mapping[str, float]) -> str:
    """Lines of text, the missed gates shouted."""
    rows = [_HEADS, *(_row(line, earlier) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return "\n".join("  ".join(map(_pad, row, widths, range(len(row)))).rstrip() for row in rows)


def _row(line: Line, earlier: Mapping[str, float]) -> tuple[str, ...]:
    gate = GATES.get(line.name)
    verdict = gates.verdict(line)
    before = earlier.get(line.name)
    if before is not None and gates.has_fallen(line, before):
        verdict += f" - WORSE than the {_number(before)} of the last run"
    sign = "≤ " if gate and gate.upper else ""
    return (
        line.title,
        _number(line.figure),
        line.unit,
        f"{line.ratio:.2f}" if line.ratio is not None else "",
        f"{_number(line.spread[0])}-{_number(line.spread[1])}" if line.spread else "",
        f"{sign}{gate.bound:g}" if gate else "",
        f"{gate.aim:g}" if gate and gate.aim else "",
        verdict,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _pad(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (1, 3) else text.ljust(width)
