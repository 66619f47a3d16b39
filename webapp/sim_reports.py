"""What scenarios came to, as a table, JSON, Markdown or a page of HTML."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pricing.numbers import plain
from pricing.scenario import Outcome


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
            f"{each.what} is {plain(each.actual)}, expected {plain(each.expected)}"
            f" ({'+' if each.by > 0 else ''}{plain(each.by)})"
            for each in self.outcome.differences
            if not each.is_within
        )


HEADER = ("Scenario", "Total", "State", "Remark", "File")


def _cells(ran: Ran) -> tuple[str, ...]:
    return (ran.outcome.scenario.name, ran.total, ran.outcome.state, ran.remark, ran.file)


def summary(all_ran: Sequence[Ran]) -> str:
    """`6 scenarios: 5 agree, 1 differs.`"""
    counts = {
        "agrees": "agree",
        "differs": "differ",
        "error": "cannot be priced",
        "no expectation": "expect nothing",
    }
    parts = [
        f"{count} {words}"
        for state, words in counts.items()
        if (count := sum(ran.outcome.state == state for ran in all_ran))
    ]
    noun = "scenario" if len(all_ran) == 1 else "scenarios"
    return f"{len(all_ran)} {noun}: {', '.join(parts) or 'nothing to do'}."


def table(all_ran: Sequence[Ran]) -> str:
    """Aligned columns for a terminal."""
    rows = [HEADER, *(_cells(ran) for ran in all_ran)]
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
        "file": ran.file,
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
        described["error"] = {"pointer": f"/{outcome.error.field}", "message": outcome.error.reason}
    return described


def markdown(all_ran: Sequence[Ran]) -> str:
    """A table for a pull request's comment."""

    def cell(text: str) -> str:
        return escape(" ".join(text.split()), quote=False).replace("|", "\\|")

    rows = ["| " + " | ".join(HEADER) + " |", "|---|--:|---|---|---|"]
    rows += ["| " + " | ".join(cell(text) for text in _cells(ran)) + " |" for ran in all_ran]
    return "\n".join(["# Pricing scenarios", "", summary(all_ran), "", *rows])


_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: .4rem .8rem; }
tr { border-bottom: 1px solid #8886; }
.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
.differs, .error { font-weight: 700; }
"""


def html(all_ran: Sequence[Ran]) -> str:
    """One file that needs nothing else and runs nothing."""
    heads = "".join(
        f'<th scope="col"{_number(i)}>{escape(name)}</th>' for i, name in enumerate(HEADER)
    )
    rows = "\n".join(
        f'<tr class="{escape(ran.outcome.state.replace(" ", "-"))}">'
        + "".join(f"<td{_number(i)}>{escape(text)}</td>" for i, text in enumerate(_cells(ran)))
        + "</tr>"
        for ran in all_ran
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pricing scenarios</title><style>{_STYLE}</style></head>
<body><main><h1>Pricing scenarios</h1><p>{escape(summary(all_ran))}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Scenarios"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div></main></body></html>"""


def _number(position: int) -> str:
    return ' class="number"' if position == 1 else ""


FORMATS: dict[str, Callable[[Sequence[Ran]], str]] = {
    "table": table,
    "json": as_json,
    "markdown": markdown,
    "html": html,
}
