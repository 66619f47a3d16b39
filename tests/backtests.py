"""Usage to test back-tests on, and the answer computed the plain way."""

import random
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.billing import backtest, question
from metering.billing.models import Backtest
from metering.billing.question import Wanted
from metering.catalog import metrics
from metering.database import unit_of_work
from pricing.price import from_config

BASELINE: dict[str, Any] = {"model": "per_unit", "currency": "usd", "unitPrice": "0.01"}
CANDIDATE: dict[str, Any] = {
    "model": "graduated",
    "currency": "usd",
    "tiers": [
        {"upTo": 1_000, "unitPrice": "0.012"},
        {"upTo": 10_000, "unitPrice": "0.008"},
        {"upTo": None, "unitPrice": "0.005", "flatPrice": "2"},
    ],
}
MONTHS = ("2026-05", "2026-06", "2026-07")

_COUNTERS = """
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, event_count,
    sum_value, max_value, last_value, last_occurred_at, last_key, unique_count, watermark,
    folded_at)
SELECT :t, c, :metric, at, at + interval '1 month', 2, q, q / 2, q / 2, at, 'k', 1, at, now()
FROM (SELECT c, ((m || '-01T00:00:00Z')::timestamptz) AS at, q
      FROM unnest(CAST(:refs AS text[]), CAST(:months AS text[]), CAST(:quantities AS numeric[]))
          AS usage(c, m, q)) AS made
"""

Usage = dict[tuple[str, str], Decimal]


def use(
    session: Session, tenant: str, usage: Usage, *, metric: str = "api_calls", **changes: Any
) -> None:
    """Counters as folded: usage by customer and month such as `2026-05`."""
    rows = list(usage.items())
    with unit_of_work(session):
        now = session.execute(text("SELECT now()")).scalar_one()
        metrics.edit(session, tenant, metric, changes, now=now)
        session.execute(
            text(_COUNTERS),
            {
                "t": tenant,
                "metric": metric,
                "refs": [ref for (ref, _), _ in rows],
                "months": [month for (_, month), _ in rows],
                "quantities": [quantity for _, quantity in rows],
            },
        )


def some_usage(customers: int, months: Sequence[str] = MONTHS, seed: int = 1) -> Usage:
    """Customers of all sizes; a few months of each are empty."""
    chance = random.Random(seed)
    return {
        (f"cus_{i:06d}", month): Decimal(chance.randrange(10 ** chance.randrange(3, 9))) / 1000
        for i in range(customers)
        for month in months
        if chance.random() < 0.9
    }


def ask(session: Session, tenant: str, now: Any, **changes: Any) -> Backtest:
    """A back-test written down and committed."""
    wanted = changes.pop("wanted", [Wanted("api_calls", BASELINE, CANDIDATE)])
    months = changes.pop("months", MONTHS)
    with unit_of_work(session):
        asked = question.freeze(session, tenant, wanted, months)
        return backtest.create(
            session, tenant, asked, name="What if?", created_by="test", now=now, **changes
        )


def answered(usage: Usage, months: Sequence[str] = MONTHS) -> dict[str, tuple[int, int, int]]:
    """(before, after, months) by customer, from the lines of one invoice after another."""
    before, after = from_config(BASELINE), from_config(CANDIDATE)
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for (ref, month), quantity in usage.items():
        if month in months:
            found[ref][0] += sum(part.amount for part in before.parts(quantity))
            found[ref][1] += sum(part.amount for part in after.parts(quantity))
            found[ref][2] += 1
    return {ref: (b, a, n) for ref, (b, a, n) in found.items()}


def results(session: Session, tenant: str, backtest_id: str) -> dict[str, tuple[int, int, int]]:
    """What is stored, in the same form."""
    rows = session.execute(
        text(
            "SELECT customer_ref, before, after, periods, change FROM backtest_results"
            " WHERE tenant_id = :t AND backtest_id = :id"
        ),
        {"t": tenant, "id": backtest_id},
    ).all()
    session.rollback()
    assert all(row.change == row.after - row.before for row in rows)
    return {row.customer_ref: (int(row.before), int(row.after), row.periods) for row in rows}
