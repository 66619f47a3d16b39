"""Where a tenant stands with Stripe in the contract's form."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering.stripe.shadow import Compared, Side, Sum
from metering.stripe.stakes import together
from metering.stripe.standing import Halt, Standing
from metering.stripe.stuck import Stuck
from pricing import money
from webapp import wire
from webapp.stripe_state import naming, sentences


def status(
    standings: Sequence[Standing],
    every: Sequence[Stuck],
    uncounted: tuple[int, datetime | None],
    now: datetime,
) -> dict[str, Any]:
    """The answer of `GET /v1/stripe/status`."""
    return {
        "sentence": sentences.whole(standings, every),
        "asOf": wire.instant(now),
        "unfolded": uncounted[0],
        "oldestUnfoldedAt": _instant(uncounted[1]),
        "modes": [_mode(each, every) for each in standings],
    }


def _mode(of: Standing, every: Sequence[Stuck]) -> dict[str, Any]:
    return {
        "mode": of.mode,
        "sentence": sentences.of_mode(of, every),
        "mappings": of.mappings,
        "unsent": of.unsent,
        "oldestUnsentAt": _instant(of.oldest_unsent_at),
        "onTheWay": of.on_the_way,
        "unconfirmed": of.unconfirmed,
        "oldestUnconfirmedAt": _instant(of.oldest_unconfirmed_at),
        "confirmed": of.confirmed,
        "doubtful": of.doubtful,
        "drifting": of.drifting,
        "held": of.held,
        "heldCustomers": of.held_customers,
        "blocked": of.blocked,
        "unsendable": of.unsendable,
        "isLowerBound": of.is_lower_bound,
        "lastAnswerAt": _instant(of.last_answer_at),
        "halts": [_halt(each) for each in of.halts],
        "atStake": amounts([each for each in every if each.finding.mode == of.mode]),
    }


def _halt(halt: Halt) -> dict[str, Any]:
    return {
        "account": halt.account_id,
        "kind": halt.kind,
        "reason": halt.reason,
        "until": _instant(halt.until),
    }


def amounts(every: Sequence[Stuck]) -> list[dict[str, Any]]:
    """What is at stake, by currency."""
    return [
        {"currency": of.code, "amount": money.show(amount, of), "amountMinor": amount}
        for of, amount in together(each.stake for each in every)
    ]


def stuck(each: Stuck) -> dict[str, Any]:
    """One of `GET /v1/stripe/stuck`."""
    finding, stake = each.finding, each.stake
    of = stake.currency if stake.amount is not None else None
    return {
        "id": naming.write(finding),
        "kind": finding.kind,
        "cause": finding.cause,
        "mode": finding.mode,
        "reason": finding.reason,
        "wayOut": finding.way_out,
        "mayRetry": finding.may_retry,
        "since": _instant(finding.since),
        "nextTryAt": _instant(finding.next_try_at),
        "sources": [
            {"customerRef": source.customer_ref, "metric": source.metric}
            for source in finding.sources
        ],
        "account": finding.account_id,
        "meterEventName": finding.event_name,
        "stripeCustomer": finding.stripe_customer,
        "pushes": finding.pushes,
        "quantity": None if stake.quantity is None else wire.decimal(stake.quantity),
        "currency": None if of is None else of.code,
        "amount": None if of is None or stake.amount is None else money.show(stake.amount, of),
        "amountMinor": stake.amount,
        "amountUnknown": stake.why_not,
    }


def compared(row: Compared) -> dict[str, Any]:
    """A row of the shadow report."""
    return {
        "customerRef": row.source.customer_ref,
        "metric": row.source.metric,
        "periodStart": wire.instant(row.span.start_at),
        "periodEnd": wire.instant(row.span.end_at),
        "local": wire.decimal(row.local),
        "live": _side(row.live),
        "shadow": _side(row.shadow),
        "inWords": sentences.compared(row),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "state": side.state,
        "reason": side.reason,
        "owed": _decimal(side.owed),
        "pushed": wire.decimal(side.pushed),
        "confirmed": wire.decimal(side.confirmed),
        "difference": _decimal(side.difference),
        "unbilled": wire.decimal(side.unbilled),
    }


def added_up(of: Sum) -> dict[str, Any]:
    """One metric's sum of the shadow report."""
    return {
        "metric": of.metric,
        "rows": of.rows,
        "local": wire.decimal(of.local),
        "live": {
            "pushed": wire.decimal(of.live_pushed),
            "confirmed": wire.decimal(of.live_confirmed),
            "difference": wire.decimal(of.live_difference),
        },
        "shadow": {
            "pushed": wire.decimal(of.shadow_pushed),
            "confirmed": wire.decimal(of.shadow_confirmed),
            "difference": wire.decimal(of.shadow_difference),
        },
    }


_SIDE = ("state", "owed", "pushed", "confirmed", "difference", "unbilled")
CSV_HEADER = [
    "customerRef", "metric", "periodStart", "periodEnd", "local",
    *(f"live {name}" for name in _SIDE), *(f"shadow {name}" for name in _SIDE), "in words",
]  # fmt: skip


def csv_rows(rows: Iterable[Compared]) -> Iterator[list[object]]:
    """The shadow report's rows in the order of `CSV_HEADER`."""
    for row in rows:
        yield [
            row.source.customer_ref,
            row.source.metric,
            wire.instant(row.span.start_at),
            wire.instant(row.span.end_at),
            row.local,
            *_cells(row.live),
            *_cells(row.shadow),
            sentences.compared(row),
        ]


def _cells(side: Side) -> list[object]:
    return [side.state, side.owed, side.pushed, side.confirmed, side.difference, side.unbilled]


def _instant(value: datetime | None) -> str | None:
    return None if value is None else wire.instant(value)


def _decimal(value: Decimal | None) -> str | None:
    return None if value is None else wire.decimal(value)
