"""What scenarios came to, as a table, JSON or Markdown; `sim_page` has the HTML."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

from pricing import money
from pricing.errors import PricingError
from pricing.numbers import plain
from pricing.scenario import Difference, Outcome


@dataclass(frozen=True)
class Ran:
    """One scenario of one file, with its outcome."""

    file: str
    outcome: Outcome

    @property
    def total(self) -> str:
        result = self.outcome.result
        return "" if result is None else f"{result['total']} {result['currency'].upper()}"

    @property
    def remark(self) -> str:
        """Why there is no result, or what differs."""
        if self.outcome.error is not None:
            return str(self.outcome.error)
        return "; ".join(
            f"{each.what} is {self.shown(each.actual)}, expected {self.shown(each.expected)}"
            f" ({self.off_by(each)})"
            for each in self.outcome.differences
            if not each.is_within
        )

    def shown(self, major: Decimal) -> str:
        """An amount with its currency's decimals: `249.90 USD`."""
        assert self.outcome.result is not None
        of = money.currency(self.outcome.result["currency"])
        return f"{money.show(money.minor(major, of), of)} {of.code.upper()}"

    def off_by(self, each: Difference) -> str:
        """`+0.01 USD`; `-` where nothing is off."""
        return ("+" if each.by > 0 else "") + self.shown(each.by) if each.by else "-"


def pointer(error: PricingError) -> str:
    """The place as a JSON pointer; empty for the file as a whole."""
    return f"/{error.field}" if error.field else ""


def visible(text: str) -> str:
    """The text with whatever would steer a terminal, or has no encoding, spelt out."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


HEADER = ("Scenario", "Total", "State", "Remark", "File")


def cells(ran: Ran) -> tuple[str, ...]:
    """One row under HEADER."""
    row = (ran.outcome.scenario.name, ran.total, ran.outcome.state, ran.remark, ran.file)
    return tuple(visible(" ".join(text.split())) for text in row)


def summary(all_ran: Sequence[Ran]) -> str:
    """`6 scenarios: 5 agree, 1 differs.`"""
    words = {
        "agrees": ("agrees", "agree"),
        "differs": ("differs", "differ"),
        "error": ("cannot be priced", "cannot be priced"),
        "no expectation": ("expects nothing", "expect nothing"),
    }
    parts = [
        f"{count} {one if count == 1 else several}"
        for state, (one, several) in words.items()
        if (count := sum(ran.outcome.state == state for ran in all_ran))
    ]
    noun = "scenario" if len(all_ran) == 1 else "scenarios"
    return f"{len(all_ran)} {noun}: {', '.join(parts) or 'nothing to do'}."


def table(all_ran: Sequence[Ran]) -> str:
    """Aligned columns for a terminal."""
    rows = [HEADER, *(cells(ran) for ran in all_ran)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if i == 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", summary(all_ran)])


def as_json(all_ran: Sequence[Ran]) -> str:
    """Everything, for programs."""
    return json.dumps([_described(ran) for ran in all_ran], indent=2, ensure_ascii=False)


def _described(ran: Ran) -> dict[str, Any]:
    outcome = ran.outcome
    described: dict[str, Any] = {
        "file": visible(ran.file),
        "name": outcome.scenario.name,
        "state": outcome.state,
        "result": outcome.result,
        "differences": [
            {
                "what": each.what,
                "expected": plain(each.expected),
                "actual": plain(each.actual),
                "by": plain(each.by),
                "within": each.is_within,
            }
            for each in outcome.differences
        ],
    }
    if outcome.error is not None:
        described["error"] = {
            "pointer": visible(pointer(outcome.error)),
            "message": visible(outcome.error.reason),
        }
    return described


# Whatever Markdown, or a site that shows it, could take for more than a letter.
_MARKS = re.compile(r"([\\`*_\[\]|~#@!])")


def markdown(all_ran: Sequence[Ran]) -> str:
    """A table for a pull request's comment."""

    def cell(text: str) -> str:
        return _MARKS.sub(r"\\\1", escape(text, quote=False))

    rows = ["| " + " | ".join(HEADER) + " |", "|---|--:|---|---|---|"]
    rows += ["| " + " | ".join(cell(text) for text in cells(ran)) + " |" for ran in all_ran]
    return "\n".join(["# Pricing scenarios", "", summary(all_ran), "", *rows])
