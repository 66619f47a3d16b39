"""What falls due as time passes: periods and trials that end, pauses, drafts that become final.

One thing at a time, the earliest first, each at the instant at which it fell due: an advance of
three months makes three invoices of each monthly subscription. Customers on a test clock live by
that alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sandbox.stripe import billables, drafting, items, settling, subscriptions
from sandbox.stripe.core import Call, Json, Partition, on_time
from sandbox.stripe.drafting import Occasion


class Due(NamedTuple):
    at: int
    order: int  # of things due at one instant: drafts before periods
    id: str
    work: Callable[[Call, Json], None]
    kind: str


@on_time
def on_the_clock(world: Any, partition: Partition, until: int) -> None:
    """Do what is due by `until` for all customers who are on no test clock."""
    run(world, partition, None, until)


def run(
    world: Any,
    partition: Partition,
    clock: str | None,
    until: int,
    reached: Callable[[int], None] = lambda at: None,
) -> None:
    """Do what is due by `until` for the customers of a test clock, or of none.

    reached: called with each instant before its work.
    """
    while True:
        due = sorted(each for each in _due(partition, clock) if each.at <= until)
        if not due:
            return
        for each in due:
            if each.at != due[0].at:
                break
            reached(each.at)
            with world.at(each.at):
                call = Call(world, partition, {}, {}, {}, None, each.at)
                each.work(call, partition.of(each.kind)[each.id])


def _due(partition: Partition, clock: str | None) -> Iterator[Due]:
    for invoice in partition.of(drafting.KIND).values():
        at = invoice["automatically_finalizes_at"]
        if invoice["status"] == "draft" and at is not None and invoice["test_clock"] == clock:
            yield Due(at, 0, invoice["id"], _finalize, drafting.KIND)
    for each in partition.of(subscriptions.KIND).values():
        if each["status"] != "canceled" and each["test_clock"] == clock:
            yield from _of_subscription(partition, each)


def _of_subscription(partition: Partition, subscription: Json) -> Iterator[Due]:
    id, kind = subscription["id"], subscriptions.KIND
    pause = subscription["pause_collection"]
    if pause and pause["resumes_at"] is not None:
        yield Due(pause["resumes_at"], 1, id, _resume, kind)
    ends = [each["current_period_end"] for each in items.of(partition, subscription)]
    if subscription["cancel_at"] is not None:
        ends.append(subscription["cancel_at"])
    yield Due(min(ends), 2, id, _roll, kind)


def _finalize(call: Call, invoice: Json) -> None:
    if invoice["status"] == "draft":
        settling.finalize(call, invoice)


def _resume(call: Call, subscription: Json) -> None:
    def resume(now: int) -> None:
        subscription["pause_collection"] = None

    subscriptions.changing(call, subscription, resume)


def _roll(call: Call, subscription: Json) -> None:
    """End the periods that end now, and bill them; or the subscription itself."""
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= call.now:
        subscriptions.final_invoice(call, subscription, call.now)
        subscriptions.end(call, subscription, call.now)
        return

    subscriptions.changing(call, subscription, lambda now: _next(call, subscription, now))


def _next(call: Call, subscription: Json, now: int) -> None:
    partition = call.partition
    those = items.of(partition, subscription)
    due = [each for each in those if each["current_period_end"] <= now]
    start = min(each["current_period_start"] for each in due)
    sources = billables.usage(partition, subscription, due, now)  # none of a trial
    subscription["_leftover"] = []
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    for each in due:
        items.begin(partition, subscription, each, now)
        partition.put(items.KIND, each)
    sources += billables.advance(partition, subscription, due, now)
    waiting = billables.pending(partition, subscription["customer"], subscription["id"])
    if not sources and not waiting:
        return
    drafting.draft(
        call,
        Occasion(
            "subscription_cycle",
            subscription["customer"],
            subscription,
            sources,
            (start, now),
            subscription["currency"],
        ),
    )


def of_clock(partition: Partition, clock: str, kind: str) -> list[Json]:
    """The objects of a kind that live by the test clock."""
    return [e for e in partition.of(kind).values() if e.get("test_clock") == clock]
