"""Where things stand in a drawing that is as wide as its frame: percents across, pixels down.

A frame is not measured by the server, and a strict content security policy allows no style
attributes: what must stay within the drawing is placed so that it does at any width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from webapp.widget.figures import pixels

# What a drawing has across in a frame of 320 px: what fits there fits in any.
NARROW = 286.0
# What a cell has beside its text, and what the first column of a table needs.
_CELL, _FIRST = 10.0, 56.0


@dataclass(frozen=True)
class Label:
    """A text at `x`, drawn `dx` pixels beside it and anchored at its start, middle or end.

    begins, ends: pixels across in the narrowest frame.
    """

    x: str
    dx: str
    anchor: str
    text: str
    begins: float
    ends: float

    def touches(self, other: "Label", gap: float = 8.0) -> bool:
        """Whether both would run into each other in a narrow frame."""
        return self.begins < other.ends + gap and other.begins < self.ends + gap


@dataclass(frozen=True)
class Rect:
    """x and width in percent, y and height in pixels."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Across:
    """Positions from 0 to 100; from right to left they count from the other side."""

    is_rtl: bool = False

    def at(self, x: float) -> float:
        return 100 - x if self.is_rtl else x

    def percent(self, x: float) -> str:
        return percent(self.at(x))

    def rect(self, x: float, width: float, y: float, height: float) -> Rect:
        left = 100 - x - width if self.is_rtl else x
        return Rect(percent(left), number(y), percent(width), number(height))

    def label(self, x: float, text: str) -> Label:
        """In the middle above or beneath its place, but within the drawing."""
        at, width = min(max(self.at(x), 0.0), 100.0), pixels(text)
        before, beyond = at / 100 * NARROW, (100 - at) / 100 * NARROW
        if before < width / 2:
            return Label(percent(at), number(-before), "start", text, 0, width)
        if beyond < width / 2:
            return Label(percent(at), number(beyond), "end", text, NARROW - width, NARROW)
        begins = before - width / 2
        return Label(percent(at), "0", "middle", text, begins, begins + width)


def is_wide(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table's numbers leave too little of a narrow frame to the first column."""
    columns = zip(*rows, strict=True)
    widths = [max(map(pixels, column)) + _CELL for column in list(columns)[1:]]
    return sum(widths) > NARROW - _FIRST


def percent(x: float) -> str:
    return f"{number(x)}%"


def number(x: float) -> str:
    """To a hundredth: no screen shows more."""
    return f"{round(x, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
