"""What a customer used last, event by event."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from metering.counters.recent import Recent
from webapp.widget import sentences, words
from webapp.widget.figures import Figures
from webapp.widget.options import Options


@dataclass(frozen=True)
class Event:
    """time: the time of day, with its day where that is not today; exactly: both, to the second.

    It does not say "12 s ago": the list is asked for when something changes, and an age that
    stands still would be wrong.
    state: empty of an event that is counted.
    """

    name: str
    quantity: str
    unit: str
    state: str
    iso: str
    time: str
    exactly: str


def events(recent: Sequence[Recent], options: Options, *, now: datetime) -> list[Event]:
    """For `widget/_activity.html`, in the order given."""
    say = Figures(options.locale)
    return [_event(each, say, now) for each in recent]


def _event(each: Recent, say: Figures, now: datetime) -> Event:
    at = each.occurred_at.astimezone(UTC)
    is_today = at.date() == now.astimezone(UTC).date()
    time = say.clock(at)
    return Event(
        name=each.display_name or each.metric,
        quantity=say.quantity(each.quantity),
        # A number alone would be read as part of the date beside it.
        unit=sentences.unit(each.unit or words.UNITS, one=each.quantity == 1),
        state=words.STATES.get(each.status, ""),
        iso=at.isoformat(),
        time=(words.AT if is_today else words.ON).format(day=say.day(at), time=time),
        exactly=say.instant(at),
    )
