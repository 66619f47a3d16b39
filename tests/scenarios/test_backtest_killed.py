"""A bulk worker is killed in the middle of a back-test: the answer is the one of a quiet run."""

from decimal import Decimal
from typing import Any

from sqlalchemy import text

from jobs import sweep
from tests.scenarios.stack import Stack, eventually

CUSTOMERS, MONTHS = 30_000, ("2026-05", "2026-06", "2026-07")
TODAY = {
    "model": "graduated", "currency": "usd",
    "tiers": [{"upTo": 1000, "unitPrice": "0.013"}, {"upTo": None, "unitPrice": "0.0071"}],
}  # fmt: skip
TRIED = {
    "model": "volume", "currency": "usd",
    "tiers": [{"upTo": 2000, "unitPrice": "0.012"}, {"upTo": None, "unitPrice": "0.006"}],
}  # fmt: skip

# Months of the calendar, filled in as folds would have left them.
_FILL = """
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, unique_count,
    watermark, reaggregations, folded_at, event_count, sum_value, max_value, last_value,
    last_occurred_at, last_key)
SELECT :t, 'cus_' || lpad(c::text, 6, '0'), 'api_calls', at, at + interval '1 month', 0,
    at, 0, at, 1, (c * 7919 + m * 104729) % 4000 + 0.5, 1, 1, at, 'k'
FROM generate_series(1, :customers) c, generate_series(5, 7) m,
    LATERAL (SELECT make_timestamptz(2026, m, 1, 0, 0, 0, 'UTC') AS at) months
"""

_LONG_AGO = "UPDATE backtests SET updated_at = updated_at - :while WHERE tenant_id = :t"


def cents(dollars: Decimal) -> int:
    """Half up, the plain way."""
    return int(dollars * 100 + Decimal("0.5"))


def computed() -> tuple[int, int, int, int]:
    """(before, after, winners, losers) of all customers, in no code of ours."""
    before = after = winners = losers = 0
    for c in range(1, CUSTOMERS + 1):
        old = new = 0
        for m in (5, 6, 7):
            quantity = Decimal((c * 7919 + m * 104729) % 4000) + Decimal("0.5")
            old += cents(min(quantity, Decimal(1000)) * Decimal("0.013"))
            if quantity > 1000:
                old += cents((quantity - 1000) * Decimal("0.0071"))
            new += cents(quantity * Decimal("0.012" if quantity <= 2000 else "0.006"))
        before, after = before + old, after + new
        winners, losers = winners + (new < old), losers + (new > old)
    return before, after, winners, losers


def test_a_killed_worker_neither_loses_nor_doubles_a_customer(stack: Stack, acme: str) -> None:
    status, _ = stack.request("PUT", "/v1/metrics/api_calls", {"tenantId": acme})
    assert status == 200
    with stack.engine.begin() as connection:
        connection.execute(text(_FILL), {"t": acme, "customers": CUSTOMERS})
    # No clock yet: what the dead worker held is found by nobody before it is looked at.
    stack.start_worker("bulk")
    asked = {
        "tenantId": acme, "months": list(MONTHS),
        "metrics": [{"metric": "api_calls", "baseline": TODAY, "candidate": TRIED}],
    }  # fmt: skip
    status, made = stack.request("POST", "/v1/simulations/backtests", asked)
    assert status == 201, made
    address = f"/v1/simulations/backtests/{made['id']}?tenantId={acme}"

    def look() -> dict[str, Any]:
        return dict(stack.request("GET", address)[1])

    done = eventually(lambda: look()["progress"]["customersDone"], "a first chunk is done")
    stack.kill("worker")
    left = look()
    assert left["state"] == "running"
    assert done <= left["progress"]["customersDone"] < CUSTOMERS
    # The clock takes it up when nobody has touched it for a while: that while is over.
    with stack.engine.begin() as connection:
        connection.execute(text(_LONG_AGO), {"t": acme, "while": 2 * sweep.PATIENCE})
    stack.start_worker("bulk")
    stack.start_clock()
    ended = eventually(lambda: (look()["state"] == "done" and look()) or None, "it ends", 150)
    result = ended["result"]
    before, after, winners, losers = computed()
    assert (result["beforeMinor"], result["afterMinor"]) == (before, after)
    assert (result["winners"]["customers"], result["losers"]["customers"]) == (winners, losers)
    assert (result["customers"], result["periods"]) == (CUSTOMERS, CUSTOMERS * len(MONTHS))
    rows = "SELECT count(*) FROM backtest_results WHERE tenant_id = :t"
    assert stack.scalar(rows, t=acme) == CUSTOMERS
