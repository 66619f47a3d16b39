"""A billing period in words: until when usage counts in it, and what came too late."""

from datetime import UTC, datetime, timedelta

from metering.catalog.period import Span, calendar_month
from metering.counters.calendar import Listed
from webapp.stripe_console import comparison
from webapp.stripe_console.words import counted

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STATES = {"open": "Open", "closing": "Closing", "closed": "Closed"}


def lead(name: str, pending: int, *, has_periods: bool) -> str:
    """The first line: is anything to be decided?"""
    if pending:
        waits = "waits" if pending == 1 else "wait"
        return f"{name}: {counted(pending, 'adjustment')} {waits} for a decision."
    if not has_periods:
        return f"{name} has no billing periods yet."
    return f"{name}: nothing waits for a decision."


def title(span: Span) -> str:
    """`November 2026`, `15 Oct 10:23 to 15 Nov 2026 10:23`."""
    if span == calendar_month(span.start_at):
        return f"{span.start_at:%B %Y}"
    return comparison.period(span)


def period(of: Listed) -> str:
    """Where the period stands, in one or two sentences."""
    said = {"open": _open, "closing": _closing, "closed": _closed}[of.state](of)
    return " ".join([f"{said}.", *_late(of)])


def _open(of: Listed) -> str:
    ends = f"Runs until {at(of.span.end_at)}"
    if not of.is_bound:
        return f"{ends}; no subscription bills it, so that it never closes"
    if of.closes_at is None:
        return f"{ends}; when it closes is not known yet"
    return (
        f"{ends}; usage recorded before {at(of.closes_at)}, {_against(of)}, counts, unless its"
        " invoice is final sooner"
    )


def _closing(of: Listed) -> str:
    ended = f"Ended on {at(of.span.end_at)}"
    if not of.is_bound:
        return f"{ended}; no subscription bills it, so that late usage counts whenever it comes"
    if of.closes_at is None:
        return f"{ended}; late usage counts until Stripe says that its invoice is final"
    return f"{ended}; usage recorded before {at(of.closes_at)}, {_against(of)}, still counts"


def _closed(of: Listed) -> str:
    assert of.closed_at is not None
    closed = f"Closed on {at(of.closed_at)}"
    if of.final_at is None:
        return f"{closed}, {_after_end(of, of.closed_at)}; its invoice is not final yet"
    if of.closed_at < of.final_at:
        return f"{closed}, {length(of.final_at - of.closed_at)} before its invoice was final"
    if of.closed_at - of.final_at < MINUTE:
        return f"{closed}, when its invoice was final"
    late = length(of.closed_at - of.final_at)
    return f"{closed}, {late} after its invoice was final: that is when we heard of it"


def _against(of: Listed) -> str:
    assert of.closes_at is not None
    return _after_end(of, of.closes_at)


def _after_end(of: Listed, instant: datetime) -> str:
    late = instant - of.span.end_at
    return f"{length(late)} after its end" if late >= MINUTE else "its end"


def _late(of: Listed) -> list[str]:
    """The two are told apart: what waits may be a number by hand, and what came late decided."""
    came = f"{counted(of.set_aside, 'event')} came too late"
    waits = "waits" if of.pending == 1 else "wait"
    pending = f"{counted(of.pending, 'adjustment')} {waits} for a decision"
    if of.set_aside and of.pending:
        return [f"{came}; {pending}."]
    if of.set_aside:
        them = "it" if of.set_aside == 1 else "them"
        return [f"{came}, and what becomes of {them} is decided."]
    return [f"{pending}."] if of.pending else []


def at(instant: datetime) -> str:
    """`3 Dec 2026, 11:45 UTC`: to the minute, but for seconds that there are."""
    utc = instant.astimezone(UTC)
    clock = f"{utc:%H:%M:%S}" if utc.second else f"{utc:%H:%M}"
    return f"{utc:%-d %b %Y}, {clock} UTC"


def length(of: timedelta) -> str:
    """`15 minutes`, `48 hours`, `30 days`: rounded down."""
    for unit, name, least in ((DAY, "day", 3), (HOUR, "hour", 2), (MINUTE, "minute", 1)):
        if of >= least * unit:
            return counted(of // unit, name)
    return "less than a minute"
