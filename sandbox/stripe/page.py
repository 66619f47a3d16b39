"""The page at the root: what the stand-in holds, in Stripe's own terms.

Kinds that no part of the stand-in makes simply show as empty.
"""

import functools
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jinja2

from sandbox.stripe import control, drafting, items, pipeline, signup
from sandbox.stripe.core import Json, Partition
from sandbox.stripe.http import Answer

EVENTS, OTHERS = 50, 50
_FOLDER = Path(__file__).parent / "templates"
_KINDS = {"page.css": "text/css", "page.js": "text/javascript"}
# Source: docs.stripe.com/currencies; of the others a unit is a hundred minor ones.
_WHOLE = {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv"}
_WHOLE |= {"xaf", "xof", "xpf"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def answer(world: Any) -> Answer:
    with world.lock:
        shown = {
            "now": world.now(),
            "offset": world.offset_seconds,
            "waiting": world.meters.waiting,
            "faults": list(world.faults),
            "accounts": [_account(each) for each in world.partitions() if _holds(each)],
        }
        body = _template().render(shown)  # under the lock: the objects are not copied
    return _answer("text/html", body.encode())


def asset(name: str) -> Answer | None:
    """The page's style or script."""
    if name not in _KINDS:
        return None
    return _answer(_KINDS[name], (_FOLDER / name).read_bytes())


def _answer(kind: str, body: bytes) -> Answer:
    headers = {"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": "no-store"}
    headers |= {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return Answer(200, headers, body)


def _holds(partition: Partition) -> bool:
    return any(partition.objects.values())


def _account(partition: Partition) -> Json:
    events, customers = partition.of(pipeline.KIND), partition.of("customer")
    return {
        "account": partition.account,
        "livemode": partition.livemode,
        "names": {id: customer.get("name") for id, customer in customers.items()},
        "meters": _meters(partition),
        "events": _last(events, EVENTS),
        "event_count": len(events),
        "subscriptions": [
            {"of": each, "items": _items(partition, each)}
            for each in _last(partition.of(signup.KIND), OTHERS)
        ],
        "invoices": [
            {"of": each, "lines": each["_lines"]}
            for each in _last(partition.of(drafting.KIND), OTHERS)
        ],
        "customers": _last(customers, OTHERS),
    }


def _items(partition: Partition, subscription: Json) -> list[Json]:
    """Its items, each with its price and the name of what is sold."""
    products = partition.of("product")
    shown = [items.shown(partition, each) for each in items.of(partition, subscription)]
    return [
        each | {"name": each["price"]["nickname"] or products[each["price"]["product"]]["name"]}
        for each in shown
    ]


def _meters(partition: Partition) -> list[Json]:
    customers, totals = partition.of("customer"), control.totals(partition)
    for row in totals:
        row["customer_name"] = customers.get(row["customer"], {}).get("name")
    return [
        {
            "display_name": meter["display_name"],
            "event_name": meter["event_name"],
            "formula": meter["default_aggregation"]["formula"],
            "status": meter["status"],
            "rows": [row for row in totals if row["meter"] == meter["id"]],
        }
        for meter in partition.of("billing.meter").values()
    ]


def _last(objects: dict[str, Json], count: int) -> list[Json]:
    return [each for _, each in zip(range(count), reversed(objects.values()), strict=False)]


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {
        "clock": _clock,
        "instant": _instant,
        "span": _span,
        "money": _money,
        "digits": _digits,
    }
    environment.filters.update(filters)
    return environment.get_template("page.html")


def _clock(instant: Any) -> str:
    """To the second, in UTC; nothing for what is no instant."""
    if not isinstance(instant, int):
        return ""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _instant(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat()


def _span(seconds: int) -> str:
    hours, days = seconds // 3600 % 24, seconds // 86400
    told = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(hours)
    return " ".join(told) or f"{seconds // 60} min"


def _digits(number: Any) -> str:
    """In groups of three; nothing for what is no number."""
    return "" if number in (None, "") else f"{Decimal(number):,f}"


def _money(minor: Any, currency: Any) -> str:
    if not isinstance(minor, int) or not isinstance(currency, str):
        return ""
    amount = Decimal(minor) if currency in _WHOLE else Decimal(minor) / 100
    return f"{amount:,.{0 if currency in _WHOLE else 2}f} {currency.upper()}"
