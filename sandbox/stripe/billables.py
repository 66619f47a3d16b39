"""What a subscription owes: the sources of an invoice's lines.

A source is a JSON object, kept with its invoice until that is final:
    {"of": "metered", item, price, start, end}             rated with the usage of its span
    {"of": "licensed", item, price, quantity, start, end, full}   in advance; full: seconds of the
                                                           whole period, of which it may be a part
    {"of": "invoiceitem", id}
"""

from collections.abc import Iterable

from sandbox.stripe import items
from sandbox.stripe.core import Json, Partition


def usage(partition: Partition, subscription: Json, due: Iterable[Json], end: int) -> list[Json]:
    """The metered spans of the items up to `end`, and those of items that are gone.

    In flexible mode every price of the period bills its own span; in classic mode the last price
    bills all of it.
    """
    sources = list(subscription["_leftover"])
    for item in due:
        sources += spans(subscription, item, end)
    return sources


def spans(subscription: Json, item: Json, end: int) -> list[Json]:
    """The item's metered spans of its period up to `end`; none during a trial, which is free."""
    if not item["_spans"] or subscription["status"] == "trialing":
        return []
    known = item["_spans"]
    if subscription["billing_mode"]["type"] == "classic":
        known = [{"price": known[-1]["price"], "start": known[0]["start"]}]
    ends = [each["start"] for each in known[1:]] + [end]
    return [
        {"of": "metered", "item": item["id"], **span, "end": upto}
        for span, upto in zip(known, ends, strict=True)
        if span["start"] < upto
    ]


def advance(
    partition: Partition, subscription: Json, those: Iterable[Json], start: int
) -> list[Json]:
    """The licensed items for the periods that begin at `start`; part of one where the anchor
    comes first."""
    sources = []
    for item in those:
        price = items.price_of(partition, item)
        if items.is_metered(price):
            continue
        end = items.end_of_period(subscription, price, start)
        whole = items.full_period(subscription, price, start)
        sources.append(
            {
                "of": "licensed",
                "item": item["id"],
                "price": price["id"],
                "quantity": item["quantity"],
                "start": start,
                "end": end,
                "full": whole[1] - whole[0],
            }
        )
    return sources


def pending(partition: Partition, customer: str, subscription: str | None) -> list[Json]:
    """The customer's invoice items that wait for an invoice."""
    return [
        {"of": "invoiceitem", "id": each["id"]}
        for each in partition.of("invoiceitem").values()
        if each["customer"] == customer
        and each["invoice"] is None
        and each["_subscription"] in (None, subscription)
    ]
