"""Who sent a webhook: the `Stripe-Signature` header.

    t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">[,v1=…]

Stripe signs with every secret of an endpoint that is being rolled, and we may know several too.
Written here and not taken from the library, which reads the wall clock and lets a timestamp of
the future pass.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from metering.errors import DomainError

OLDEST = timedelta(seconds=300)
# As far as two clocks may well be apart.
AHEAD = timedelta(seconds=60)
_MOST = 4096
_SECONDS = re.compile(r"[0-9]{1,11}")


class SignatureError(DomainError):
    """The webhook is not to be believed; the message says why, and names no secret."""


def mode_of(
    body: bytes, header: str | None, secrets: Mapping[str, Iterable[str]], *, now: datetime
) -> str:
    """The mode whose secret signed this body.

    secrets: by mode.
    Raises:  SignatureError for a header that is missing or malformed, a signature by no secret of
             ours, and a true one that is too old or of the future: it is replayed, or a clock is
             wrong.
    """
    if not header:
        raise SignatureError("the Stripe-Signature header is missing")
    seconds, signatures = _read(header)
    signed = f"{seconds}.".encode() + body
    mode = next(
        (
            mode
            for mode, known in secrets.items()
            for secret in known
            if secret and _is_by(secret, signed, signatures)
        ),
        None,
    )
    if mode is None:
        raise SignatureError("the signature is by no webhook secret that is configured here")
    age = timedelta(seconds=now.timestamp() - int(seconds))
    if age > OLDEST:
        raise SignatureError(
            f"the signature is {age.total_seconds():.0f} s old, more than"
            f" {OLDEST.total_seconds():.0f} s"
        )
    if age < -AHEAD:
        raise SignatureError(
            f"the signature is of the future, {-age.total_seconds():.0f} s ahead of our clock"
        )
    return mode


def _read(header: str) -> tuple[str, list[str]]:
    """(timestamp, v1 signatures). Other schemes are for others."""
    parts = [part.strip().partition("=") for part in header[:_MOST].split(",")]
    seconds = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    if len(seconds) != 1 or not _SECONDS.fullmatch(seconds[0]) or not signatures:
        raise SignatureError("the Stripe-Signature header is not of the form t=…,v1=…")
    return seconds[0], signatures


def _is_by(secret: str, signed: bytes, signatures: Iterable[str]) -> bool:
    wanted = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    # Compared as bytes: a header may hold letters that no digest has.
    return any(hmac.compare_digest(wanted, given.encode(errors="replace")) for given in signatures)
