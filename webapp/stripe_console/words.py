"""What the pages about Stripe call things, and in what order they say them."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from metering.stripe.findings import Finding
from webapp import shown

# The API's word, then what it means.
KINDS = {
    "held": ("Held", "has nowhere to go"),
    "blocked": ("Blocked", "Stripe refuses it"),
    "halted": ("Halted", "nothing is sent to this account"),
    "doubtful": ("Doubtful", "Stripe may or may not have it"),
    "drift": ("Drift", "Stripe's total is not ours"),
    "unsendable": ("Unsendable", "no invoice would bill it"),
}
MODES = {"live": "Live", "test": "Test mode"}
PATIENCE = "rate_limited"


class Moment(NamedTuple):
    """An instant as `12 s ago`, and exactly."""

    iso: str
    exact: str
    relative: str


def moment(at: datetime | None, now: datetime) -> Moment | None:
    """None where there is no instant."""
    if at is None:
        return None
    return Moment(at.isoformat(), shown.instant(at), shown.relative(at, now))


def next_try(at: datetime | None, now: datetime) -> Moment | None:
    """When something is tried by itself: an instant that is over means as soon as may be."""
    if at is None or at > now:
        return moment(at, now)
    return Moment(at.isoformat(), shown.instant(at), "at any moment")


def sentence(text: str, names: Collection[str]) -> str:
    """With a capital and a full stop; a name at its beginning stays as it is spelt."""
    first = text.partition(" ")[0]
    if first.isalpha() and first not in names:
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def counted(count: int, one: str, several: str = "") -> str:
    """`1 push`, `1,200 pushes`."""
    return f"1 {one}" if count == 1 else f"{count:,} {several or f'{one}s'}"


def where(finding: Finding) -> str:
    """The account, meter and customer of Stripe's that it is about; empty where there is none."""
    named = (
        ("Stripe customer", finding.stripe_customer),
        ("meter", finding.event_name),
        ("account", finding.account_id),
    )
    return ", ".join(f"{what} {name}" for what, name in named if name)


def pushes(finding: Finding) -> str:
    """How many pushes, segments or streams it is about."""
    what = {
        "halted": ("stream waits", "streams wait"),
        "unsendable": ("hourly segment", "hourly segments"),
    }.get(finding.kind, ("push", "pushes"))
    return counted(finding.pushes, *what) if finding.pushes else ""
