"""What scenarios came to, as one page of HTML that needs nothing else and runs nothing."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from webapp.sim_reports import HEADER, Ran, cells, summary, visible

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
a { color: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; min-width: 50%; margin: 1rem 0; }
caption { text-align: start; font-weight: 600; padding: .4rem 0; }
th, td { text-align: start; vertical-align: top; padding: .3rem .8rem; }
tr { border-bottom: 1px solid #8886; }
.number { text-align: end; font-variant-numeric: tabular-nums; white-space: nowrap; }
.loud { font-weight: 700; }
section { border-top: 2px solid #8886; margin-top: 2rem; }
"""
_TOTALS = {"subtotal": "", "discounts": "-", "credits": "-", "tax": "", "total": ""}

Row = Sequence[str]


def html(all_ran: Sequence[Ran]) -> str:
    """An overview, then each scenario's figures and its invoice line by line."""
    overview = _table("Overview", HEADER, map(_row, range(len(all_ran)), all_ran), numbers={1})
    sections = "\n".join(map(_section, range(len(all_ran)), all_ran))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pricing scenarios</title><style>{_STYLE}</style></head>
<body><main><h1>Pricing scenarios</h1><p>{escape(summary(all_ran))}</p>
{overview}
{sections}
</main></body></html>"""


def _row(position: int, ran: Ran) -> Row:
    name, total, state, remark, file = map(escape, cells(ran))
    if ran.outcome.state in ("differs", "error"):
        state = f'<span class="loud">{state}</span>'
    return (f'<a href="#scenario-{position + 1}">{name}</a>', total, state, remark, file)


def _section(position: int, ran: Ran) -> str:
    outcome, which = ran.outcome, f"scenario {position + 1}"
    about = outcome.scenario.description
    parts = [
        f'<section id="scenario-{position + 1}"><h2>{_text(outcome.scenario.name)}</h2>',
        f"<p>{_text(about)}</p>" if about else "",
        f'<p>{_text(ran.file)}: <span class="loud">{escape(outcome.state)}</span></p>',
        f"<p>{_text(ran.remark)}</p>" if outcome.error is not None else "",
    ]
    if outcome.differences:
        rows = [
            (each.what, ran.shown(each.expected), ran.shown(each.actual), ran.off_by(each),
             "yes" if each.is_within else "no")
            for each in outcome.differences
        ]  # fmt: skip
        heads = ("Figure", "Expected", "Found", "Off by", "Within the tolerance")
        parts.append(_table(f"Compared, {which}", heads, _texts(rows), numbers={1, 2, 3}))
    if outcome.result is not None:
        parts.append(_invoice(outcome.result, f"Invoice, {which}"))
    return "\n".join([*filter(None, parts), "</section>"])


def _invoice(result: Mapping[str, Any], caption: str) -> str:
    unit = result["currency"].upper()
    rows: list[Row] = []
    for item in result["lineItems"]:
        name = "Minimum commitment" if item["metric"] is None else item["metric"]
        for line in item["lines"]:
            tier = "" if line["tier"] is None else f", tier {line['tier'] + 1}"
            rows.append(
                (
                    f"{name}: {line['kind'].replace('_', ' ')}{tier}",
                    line["quantity"],
                    f"{line['unitPrice']} {unit}",
                    f"{line['total']} {unit}",
                )
            )
    for name, sign in _TOTALS.items():
        if result[f"{name}Minor"] or name in ("subtotal", "total"):
            rows.append((name.capitalize(), "", "", f"{sign}{result[name]} {unit}"))
    heads = ("Line", "Quantity", "Unit price", "Amount")
    return _table(caption, heads, _texts(rows), numbers={1, 2, 3})


def _table(caption: str, heads: Row, rows: Iterable[Row], *, numbers: set[int]) -> str:
    """rows: cells of HTML; the first of each row names it."""

    def cell(column: int, inner: str, scope: str = "") -> str:
        mark = ' class="number"' if column in numbers else ""
        return f'<th scope="{scope}"{mark}>{inner}</th>' if scope else f"<td{mark}>{inner}</td>"

    head = "".join(cell(i, escape(name), "col") for i, name in enumerate(heads))
    body = "\n".join(
        f"<tr>{''.join(cell(i, inner, '' if i else 'row') for i, inner in enumerate(row))}</tr>"
        for row in rows
    )
    return f"""<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>
<caption>{caption}</caption><thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table></div>"""


def _texts(rows: Iterable[Row]) -> Iterable[Row]:
    return ([_text(cell) for cell in row] for row in rows)


def _text(text: str) -> str:
    return escape(visible(" ".join(text.split())))
