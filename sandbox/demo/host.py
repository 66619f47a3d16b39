"""Nimbus: a made-up product of the demo's tenant, into which one of its customers is signed in.

What its backend does is what any host's would: send usage as it happens, and make a widget token
for whoever is signed in. Which customer that is, the backend knows; the browser is never asked.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from sandbox.demo import TENANT
from sandbox.demo.http import Api, Json
from sandbox.demo.plan import CUSTOMERS
from sandbox.demo.traffic import Sent, event, post

SIGNED_IN = CUSTOMERS[0]
SOURCE = "nimbus"
CALLS, GIGABYTES = 1000, 40
# What is filled in: the hours at which an office calls, and how often it does.
HOURS, BUSY, QUIET = (8, 11, 15), (90, 240), (5, 40)


class Host:
    """now: the one clock's instant.  period_start: when a customer's present period began.
    origins: where the product's pages are."""

    def __init__(
        self,
        web: Api,
        now: Callable[[], datetime],
        period_start: Callable[[str], datetime],
        origins: list[str],
    ) -> None:
        self._web, self._now, self._period_start = web, now, period_start
        self._origins = origins
        self.uses: dict[str, Callable[[], Json]] = {
            "calls": self._call,
            "storage": self._store,
            "days": self._fill,
        }

    def token(self) -> Json:
        """What `getToken` of the page gets: for the customer who is signed in, and our pages."""
        made = self._web.post(
            "/v1/widget/tokens",
            {"tenantId": TENANT, "customerRef": SIGNED_IN.ref, "origins": self._origins},
        )
        return {"token": made["token"]}

    def _call(self) -> Json:
        now = self._now()
        sent = post(self._web, [self._event("api_calls", 1, now) for _ in range(CALLS)])
        return _told(f"{sent.accepted:,} calls", sent)

    def _store(self) -> Json:
        sent = post(self._web, [self._event("storage_gb", GIGABYTES, self._now())])
        return _told(f"{sent.accepted * GIGABYTES} GB", sent)

    def _fill(self) -> Json:
        """Each event of the past has a key that is always the same, and so counts once."""
        events = list(past(self._period_start(SIGNED_IN.ref), self._now()))
        if not events:
            said = "The period has only just begun: there are no days before."
            return {"said": said, "events": 0}
        sent = post(self._web, events)
        return _told(f"{sent.accepted:,} events of the days before", sent)

    def _event(self, metric: str, quantity: int, at: datetime) -> Json:
        key = f"{SOURCE}-{secrets.token_hex(12)}"
        return event(metric, SIGNED_IN.ref, quantity, at, key, SOURCE)


def _told(what: str, sent: Sent) -> Json:
    """events: how many are in the ledger now."""
    known = f"; {sent.duplicates:,} were there before" if sent.duplicates else ""
    said = f"{what} accepted in {sent.milliseconds:,.0f} ms{known}."
    return {"said": said, "events": sent.accepted + sent.duplicates}


def past(start: datetime, now: datetime) -> Iterator[Json]:
    """An ordinary customer's usage from the period's beginning until now; each time the same."""
    day = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < now:
        chance = random.Random(day.timestamp())
        least, most = BUSY if day.weekday() < 5 else QUIET
        for hour in HOURS:
            at = day + timedelta(hours=hour)
            uses = [("api_calls", chance.randint(least, most))]
            if hour == HOURS[0]:
                uses.append(("storage_gb", chance.randint(1, 12)))
            for metric, quantity in uses:
                if start <= at < now:
                    key = f"{SOURCE}-{metric}-{at:%Y%m%d%H}"
                    yield event(metric, SIGNED_IN.ref, quantity, at, key, SOURCE)
        day += timedelta(days=1)
