"""A page of a replay in the contract's form, and in a sentence."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from metering.proof.replay import Change, Closed, Page
from pricing.money import show
from webapp import wire
from webapp.usage.presenters import span

CLOSED = (
    "The period is closed: its counter never changes. Make an adjustment if the difference is to"
    " be billed or credited."
)


def changes(page: Page, names: Sequence[str]) -> dict[str, Any]:
    """By metric, also of those in which nothing was found."""
    delta: dict[str, Decimal] = defaultdict(Decimal)
    affected: dict[str, set[str]] = defaultdict(set)
    for change in page.changes:
        delta[change.metric] += change.counted
        affected[change.metric].add(change.customer_ref)
    return {
        name: {
            "eventsFound": page.found.get(name, 0),
            "lateEvents": page.late.get(name, 0),
            "counterDelta": wire.decimal(delta[name]),
            "affectedCustomers": len(affected[name]),
        }
        for name in names
    }


def customer(change: Change) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "customerRef": change.customer_ref,
        "metric": change.metric,
        "period": span(change.span),
        "aggregation": change.aggregation,
        "before": wire.decimal(change.before),
        "after": wire.decimal(change.after),
        "delta": wire.decimal(change.delta),
        "currency": change.currency.code if change.currency else None,
        "amountBefore": _amount(change, change.amount_before),
        "amountBeforeMinor": change.amount_before,
        "amountAfter": _amount(change, change.amount_after),
        "amountAfterMinor": change.amount_after,
    }
    return shown | ({"warning": change.why_not} if change.why_not else {})


def _amount(change: Change, minor: int | None) -> str | None:
    return None if minor is None or change.currency is None else show(minor, change.currency)


def stripe(page: Page) -> list[dict[str, Any]]:
    return [
        {
            "mode": each.mode,
            "customerRef": each.customer_ref,
            "metric": each.metric,
            "quantity": wire.decimal(each.quantity),
        }
        | ({"warning": each.why_not} if each.why_not else {})
        for each in page.stripe
    ]


def closed(each: Closed) -> dict[str, Any]:
    return {
        "customerRef": each.customer_ref,
        "metric": each.metric,
        "period": span(each.span),
        "segments": each.segments,
        "events": each.difference.events,
        "quantity": wire.decimal(each.difference.quantity),
        "reason": CLOSED,
    }


def summary(pages: Sequence[Page], *, applies: bool, is_whole: bool) -> str:
    """What these pages come to, in one or two sentences."""
    found = sum(sum(page.found.values()) for page in pages)
    changed = [change for page in pages for change in page.changes]
    customers = {change.customer_ref for change in changed}
    rows = sum(page.segments + page.counters + page.members for page in pages)
    parts = [f"{_count(found, 'event')} of the ledger compared with what is counted"]
    if not rows:
        parts.append("every counter of an open period is right")
    elif not changed:
        verb = "was" if applies else "would be"
        parts.append(f"{_count(rows, 'row')} {verb} mended, and no total changes")
    else:
        verb = "changed" if applies else "would change"
        parts.append(f"{_count(len(customers), 'customer')} {verb}{_money(changed)}")
    if (kept := sum(len(page.closed) for page in pages)) > 0:
        parts.append(f"{_count(kept, 'closed period')} differs and stays as it is".replace(
            "periods differs and stays as it is", "periods differ and stay as they are"
        ))  # fmt: skip
    if not is_whole:
        parts.append("there is more: go on with the cursor")
    return "; ".join(parts) + "."


def _money(changed: Iterable[Change]) -> str:
    sums: dict[str, tuple[int, Any]] = {}
    for change in changed:
        if change.currency and change.amount_before is not None and change.amount_after is not None:
            code = change.currency.code
            moved = sums.get(code, (0, None))[0] + change.amount_after - change.amount_before
            sums[code] = moved, change.currency
    told = [f"{show(minor, of)} {code.upper()}" for code, (minor, of) in sorted(sums.items())]
    return f", by {' and '.join(told)}" if told else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
