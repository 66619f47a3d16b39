"""Recent activity: the customer's latest events as the widget lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from metering.counters.recent import Recent
from webapp import shown, wire
from webapp.widget.figures import Figures, name
from webapp.widget.options import Options

# Where an event stands, if it is not simply counted.
STATES = {
    "unfolded": "being counted",
    "set_aside": "set aside",
    "voided": "taken out",
    "dead_letter": "not counted yet",
}


@dataclass(frozen=True)
class Event:
    """One event. time: `12 s ago`.  state: None for what is counted."""

    name: str
    quantity: str
    unit: str | None
    time: str
    exactly: str
    iso: str
    state: str | None


def events(found: Sequence[Recent], asked: Options, *, now: datetime) -> list[Event]:
    """The newest first. The sender's clock says when; never its meta, which is not read."""
    say = Figures(asked.locale)
    return [
        Event(
            name=name(each.display_name or each.metric),
            quantity=say.quantity(each.quantity),
            unit=each.unit and name(each.unit),
            time=shown.relative(each.occurred_at, now),
            exactly=say.instant(each.occurred_at),
            iso=wire.instant(each.occurred_at),
            state=STATES.get(each.status),
        )
        for each in found
    ]
