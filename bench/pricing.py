"""Prices: an invoice, the back-test's engine, a back-test from end to end, and the curve's page.

Where nothing but Python is measured, its floor is a plain loop of Decimal products in the same
round: the machine's speed drifts, and that loop drifts with it.
"""

import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from bench.rounds import Line
from bench.setting import TENANT, Setting
from metering.database import unit_of_work
from pricing import InvoiceSimulator
from pricing.backtest import Row, pair, reprice
from pricing.invoice import Terms, UsageItem, make
from pricing.price import from_config

CONFIG = {
    "model": "graduated",
    "currency": "usd",
    "tiers": [
        {"upTo": 10000, "unitPrice": "0.01"},
        {"upTo": 50000, "unitPrice": "0.008"},
        {"upTo": None, "unitPrice": "0.005"},
    ],
}
CANDIDATE = {"model": "volume", "currency": "usd", "tiers": [
    {"upTo": 20000, "unitPrice": "0.009"}, {"upTo": None, "unitPrice": "0.006"}]}  # fmt: skip
QUANTITY = Decimal("70000")
CUSTOMERS, MONTHS = 10_000, 6
PAGE = (
    "/simulator?tenantId=bench&currency=usd&quantity=60000"
    "&a-model=graduated&a-0-to=10000&a-0-unit=0.01&a-1-to=50000&a-1-unit=0.008&a-2-unit=0.005"
    "&b-model=volume&b-0-to=20000&b-0-unit=0.009&b-1-unit=0.006&c-model=flat&c-fee=413"
)


def _per_second(work: Callable[[], int]) -> float:
    started = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - started)


def _products(count: int) -> int:
    """The floor: as many Decimal products."""
    price, quantities = Decimal("0.008"), [Decimal(i) for i in range(count)]
    for quantity in quantities:
        quantity * price
    return count


def _measured(
    setting: Setting, name: str, title: str, unit: str, work: Callable[[], int], floor: int
) -> Line:
    figures, ratios = [], []
    for _ in range(setting.rounds):
        before = _per_second(lambda: _products(floor))
        figures.append(_per_second(work))
        after = _per_second(lambda: _products(floor))
        ratios.append(figures[-1] / ((before + after) / 2))
    details = {"ratio_to_decimal_products": statistics.median(ratios)}
    return Line(
        name, title, statistics.median(figures), unit,
        spread=(min(figures), max(figures)), details=details,
    )  # fmt: skip


def invoices(setting: Setting) -> Line:
    """One invoice of three tier lines, in microseconds; as the contract's JSON in the details."""
    price, terms, count = from_config(CONFIG), Terms(), 2_000 if setting.quick else 10_000
    items = [UsageItem("api_calls", QUANTITY, price)]

    def work() -> int:
        for _ in range(count):
            make(price.currency, items, terms)
        return count

    line = _measured(setting, "invoice", "one three-line tiered invoice", "µs", work, 100_000)
    scenario = {"usageItems": [{"metric": "m", "quantity": QUANTITY, "priceConfig": CONFIG}]}
    simulate = InvoiceSimulator().simulate
    started = time.perf_counter()
    for _ in range(1_000):
        simulate(scenario)
    line.details["read_priced_and_shown_us"] = (time.perf_counter() - started) * 1e3
    line.figure = 1e6 / line.figure
    line.spread = None
    return line


def engine(setting: Setting) -> Line:
    """Customer-months a second on one core, a graduated price against another one."""
    count = 20_000 if setting.quick else 200_000
    today, other = from_config(CONFIG), from_config(CONFIG | {"tiers": CONFIG["tiers"][1:]})  # type: ignore[index]
    rows: list[Row[str]] = [
        (f"cus_{i // MONTHS}", "api_calls", "2026-10", Decimal(i % 97 * 1_013))
        for i in range(count)
    ]
    pairs = {("api_calls", "2026-10"): pair(today, other)}

    def work() -> int:
        return sum(outcome.periods for outcome in reprice(rows, pairs))

    return _measured(
        setting,
        "backtest_engine",
        "back-test engine, graduated",
        "customer-months/s",
        work,
        100_000,
    )


_FILL = """
INSERT INTO counters (tenant_id, customer_ref, metric, period_start, period_end, unique_count,
    watermark, reaggregations, folded_at, event_count, sum_value, max_value, last_value,
    last_occurred_at, last_key)
SELECT :tenant, 'cus_' || lpad(c::text, 6, '0'), 'api_calls', at, at + interval '1 month', 0,
    at, 0, at, 10, (c * 7919 + m * 104729) % 90000, 1, 1, at, 'k'
FROM generate_series(1, :customers) c, generate_series(1, :months) m,
    LATERAL (SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') - m * interval '1 month')
        AT TIME ZONE 'UTC' AS at) months
"""


def backtest(setting: Setting) -> Line:
    """10,000 customers × 6 months over HTTP and a worker, from the question to the answer."""
    customers = 1_000 if setting.quick else CUSTOMERS
    setting.empty()
    with Session(setting.stack.engine) as session, unit_of_work(session):
        session.execute(
            text(
                "INSERT INTO metrics (tenant_id, metric, created_at)"
                " VALUES (:tenant, 'api_calls', now()) ON CONFLICT DO NOTHING"
            ),
            {"tenant": TENANT},
        )
        session.execute(text(_FILL), {"tenant": TENANT, "customers": customers, "months": MONTHS})
    seconds = []
    with setting.stack.bulk():
        for _ in range(min(setting.rounds, 3)):
            started = time.perf_counter()
            answer = _asked(setting)
            seconds.append(time.perf_counter() - started)
            assert answer["result"]["customers"] == customers
            assert answer["result"]["periods"] == customers * MONTHS
    title = f"back-test of {customers:,} customers × {MONTHS} months"
    return Line(
        "backtest", title, statistics.median(seconds), "s", spread=(min(seconds), max(seconds))
    )


def _asked(setting: Setting) -> Any:
    months = _months(setting)
    body = {
        "tenantId": TENANT,
        "months": months,
        "metrics": [{"metric": "api_calls", "baseline": CONFIG, "candidate": CANDIDATE}],
    }
    path = "/v1/simulations/backtests"
    made = _http(setting, path, body)
    while True:
        found = _http(setting, f"{path}/{made['id']}?tenantId={TENANT}")
        if found["state"] not in ("queued", "running"):
            assert found["state"] == "done", found
            return found
        time.sleep(0.02)


def _months(setting: Setting) -> list[str]:
    """The last whole months, the oldest first, by the database's clock, which filled them."""
    rows = setting.sql.execute(
        "SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') - m * interval '1 month',"
        " 'YYYY-MM') FROM generate_series(%s, 1, -1) m",
        (MONTHS,),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _http(setting: Setting, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{setting.stack.port}{path}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def page(setting: Setting) -> Line:
    """The simulator's whole page with three prices, one request after another: p95."""
    url, taken = f"http://127.0.0.1:{setting.stack.port}{PAGE}", []
    for _ in range(20 if setting.quick else 100):
        started = time.perf_counter()
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
            answer.read()
        taken.append((time.perf_counter() - started) * 1e3)
    taken.sort()
    return Line(
        "curve_page", "the curve's page, p95", taken[int(len(taken) * 0.95)], "ms",
        details={"p50_ms": statistics.median(taken)},
    )  # fmt: skip
