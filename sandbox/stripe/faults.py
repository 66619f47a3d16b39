"""What can be made to go wrong on demand, a number of times, for the calls that match.

A fault's `match` is a regular expression searched for in a line such as
`POST /v1/billing/meter_events acct_1 test event_name=api_calls payload[value]=3 ...`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.stripe.core import Json

KINDS = {
    "down": "every call is answered 503 (`refuse: true`: the connection is closed)",
    "refuse_429": "429, not stored; options: should_retry, retry_after, reason (null: none)",
    "lock_timeout": "409, as if another call were at the same customer and meter",
    "error_500_before": "500 and nothing done; option stored: true has it replayed",
    "error_500_after": "500 though it was done; stored and replayed",
    "drop_before": "the connection ends before anything is done",
    "drop_response_after_commit": "the connection ends after it was done",
    "timeout": "no answer for `seconds` (60); option commit: true has it done",
    "slow": "the answer takes `seconds` (2) longer",
    "reject": "a meter event is accepted and rejected later; options: code, message",
    "webhook_lose": "a delivery is not made and never repeated",
    "webhook_duplicate": "a delivery is made twice",
    "webhook_reorder": "a delivery waits until the next one is made",
}


@dataclass
class Fault:
    """times: calls it still applies to; below zero: until cleared. until: seconds of the world's
    own clock at which it is over, whatever is left of it."""

    kind: str
    match: str = ""
    times: int = 1
    until: float | None = None
    options: Json = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)


class Faults:
    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._planted: list[Fault] = []

    def plant(self, kind: str, match: str = "", times: int | None = None, **options: Any) -> Fault:
        """Have the next `times` calls that match go wrong; `for_seconds` ends it by itself, and
        has it apply to all of them unless `times` says otherwise.

        Raises: ValueError for a kind that there is not, or a match that is no expression.
        """
        if kind not in KINDS:
            raise ValueError(f"There is no fault {kind!r}; there are {', '.join(KINDS)}.")
        try:
            re.compile(match)
        except re.error as error:
            raise ValueError(f"match is no regular expression: {error}") from None
        seconds = options.pop("for_seconds", None)
        until = None if seconds is None else self._seconds() + float(seconds)
        if times is None:
            times = 1 if until is None else -1
        planted = Fault(kind, match, times, until, options)
        self._planted.append(planted)
        return planted

    def clear(self, kind: str | None = None) -> None:
        self._planted = [each for each in self._planted if kind is not None and each.kind != kind]

    def __bool__(self) -> bool:
        return bool(self._planted)

    def __iter__(self) -> Iterator[Json]:
        return (asdict(each) for each in self._planted)

    def take(self, kind: str, line: str, *, committed: bool | None = None) -> Fault | None:
        """The first fault of the kind that matches, used up by one. committed: only such whose
        option `commit` says so."""
        for each in list(self._planted):
            if each.until is not None and each.until <= self._seconds():
                self._planted.remove(each)
                continue
            if committed is not None and bool(each.get("commit", False)) != committed:
                continue
            if each.kind == kind and re.search(each.match, line):
                each.times -= each.times > 0
                if each.times == 0:
                    self._planted.remove(each)
                return each
        return None


def line_of(method: str, path: str, account: str, livemode: bool, params: Json) -> str:
    """The line that a fault's `match` is searched for in."""
    mode = "live" if livemode else "test"
    return " ".join([method, path, account, mode, *_flat(params, "")])


def _flat(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name}[{key}]" if name else key)
    elif isinstance(value, list):
        for each in value:
            yield from _flat(each, f"{name}[]")
    else:
        yield f"{name}={value}"
