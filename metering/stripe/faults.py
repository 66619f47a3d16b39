"""What can go wrong between us and Stripe, in the five kinds that callers act upon.

    retry      later the same call may work; see `retry_after`
    duplicate  Stripe already has an event of this identifier
    rejected   Stripe refuses this call and always will
    auth       the key: missing, revoked, of the other mode, or not allowed
    gone       the object the call is about does not exist (any more)

Sources: docs.stripe.com/error-codes, and what was measured of the API (`stripe-facts.md`).
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["retry", "duplicate", "rejected", "auth", "gone"]

# A 429 that names no limit means that another call held a lock of the same object.
LOCKED_SECONDS = 0.5
# What is waited for at most on Stripe's word; beyond it something else is wrong.
LONGEST_RETRY_AFTER_SECONDS = 3600.0

_DUPLICATE = re.compile(r"An event already exists with identifier\b")
_SECRET = re.compile(r"\b(?:[a-z]{1,3}k_|whsec_)[A-Za-z0-9_*]+")


class StripeFault(Exception):
    """A call that did not succeed.

    answered:    an answer of Stripe's was read, so that it is known what became of the call (but
                 for a 5xx, which says nothing of it).
    sent:        False if nothing left this machine.
    status:      of the answer, if there was one.  code: Stripe's own word, or ours.
    retry_after: seconds that Stripe asks us to wait; None if it does not say.
    message:     for people; never holds a key.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        answered: bool = False,
        sent: bool = True,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.message = scrubbed(message)
        self.answered, self.sent = answered, sent
        self.status, self.code, self.retry_after = status, code, retry_after
        super().__init__(self.message)

    def __repr__(self) -> str:
        told = f"{self.kind!r}, {self.message!r}, status={self.status}, code={self.code!r}"
        return f"StripeFault({told})"


def scrubbed(text: str) -> str:
    """The text without anything that looks like a key, whole or as Stripe abbreviates it."""
    return _SECRET.sub("[key]", text)


def of_answer(status: int, headers: Mapping[str, str], body: object) -> StripeFault:
    """What an answer means that is not a success.

    headers: names in lower case.  body: the decoded JSON, whatever it is. Stripe itself never
    refuses a call without saying why: what does is something in between.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    told: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    if not told and status < 500 and status not in (409, 429):
        return unreadable(status)
    message = told.get("message")
    code = told.get("code") or told.get("type")
    if status == 429 and "stripe-rate-limited-reason" not in headers:
        code = "lock_timeout"
    kind = _kind(status, code, message if isinstance(message, str) else "")
    if not isinstance(message, str) or not message:
        message = f"Stripe answered with status {status} and without a message."
    return StripeFault(
        kind,
        message,
        answered=True,
        status=status,
        code=code if isinstance(code, str) else None,
        retry_after=_retry_after(status, headers) if kind == "retry" else None,
    )


def unanswered(message: str, *, sent: bool = True) -> StripeFault:
    """No answer came: what became of the call, if it was sent, is not known."""
    return StripeFault("retry", message, sent=sent, code="no_answer")


def unreadable(status: int | None) -> StripeFault:
    """An answer that is not of Stripe's making. What became of the call is not known, and the
    same call under the same idempotency key will tell: it is as if no answer had come."""
    message = "What answered in Stripe's place is not Stripe; a proxy may be in between."
    return StripeFault("retry", message, status=status, code="unreadable_answer")


def unexpected(what: str, error: Exception) -> StripeFault:
    """An answer that was understood, but lacks what every such object has."""
    message = f"Stripe's {what.replace('_', ' ')} is not as we know it: {type(error).__name__}."
    return StripeFault("rejected", message, answered=True, status=200, code="unexpected_answer")


def _kind(status: int, code: object, message: str) -> Kind:
    if status in (409, 429) or status >= 500 or (status == 400 and code == "rate_limit"):
        return "retry"
    if code == "duplicate_meter_event" or (status == 400 and _DUPLICATE.match(message)):
        return "duplicate"
    if status in (401, 403):
        return "auth"
    if status == 404 or code == "resource_missing":
        return "gone"
    return "rejected"


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds to wait; Stripe sends them as a number, never as a date."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < float("inf"):
        return min(seconds, LONGEST_RETRY_AFTER_SECONDS)
    if status == 429 and "stripe-rate-limited-reason" not in headers:
        return LOCKED_SECONDS
    return None
