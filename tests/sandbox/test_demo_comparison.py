"""What the demo's page shows of invoices."""

from typing import Any

from sandbox.demo.comparison import Comparison
from sandbox.demo.http import Api, Json

MARCH, APRIL, MAY = 1_772_323_200, 1_775_001_600, 1_777_593_600
NOWHERE = Api("http://127.0.0.1:1")


class Told(Comparison):
    """Says of each period what it was given, by the period's start."""

    def __init__(self, totals: dict[str, str | None]) -> None:
        super().__init__(NOWHERE, NOWHERE)
        self._totals = totals

    def projection(self, ref: str, **period: str) -> Json:
        return {"total": self._totals[period["periodStart"]], "unfolded": 0}


def invoice(name: str, start: int, end: int, **changes: Any) -> Json:
    made = {"id": name, "status": "paid", "total": 0, "period_start": start, "period_end": end}
    return made | changes


def test_an_empty_invoice_is_shown_where_we_counted_something() -> None:
    told = Told({"2026-03-01T00:00:00+00:00": None, "2026-04-01T00:00:00+00:00": "12.50"})
    shown = list(
        told._bills([invoice("b", APRIL, MAY), invoice("a", MARCH, APRIL)], "aurora"),
    )
    assert [(each["id"], each["total"], each["ours"]) for each in shown] == [("b", "0.00", "12.50")]


def test_an_empty_draft_is_shown() -> None:
    told = Told({"2026-03-01T00:00:00+00:00": None})
    [shown] = told._bills([invoice("a", MARCH, APRIL, status="draft")], "aurora")
    assert shown["ours"] is None
