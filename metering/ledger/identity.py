"""The key derived for an event that was sent without one.

Time-prefixed, so that the ledger's primary key grows at its right edge. The same recipe stands
in both SDKs; `sdks/vectors.json` holds the three together.
"""

from datetime import UTC, datetime
from hashlib import sha256

import msgspec

DERIVED_PREFIX = "evt_"
_encode = msgspec.json.Encoder().encode


def derive_key(
    tenant_id: str, metric: str, customer_ref: str, resource_id: str | None, occurred_at: datetime
) -> str:
    """`evt_` + 8 hex digits of unix seconds + 24 hex digits of SHA-256 over the identity.

    occurred_at: aware.  Two events of one resource within one microsecond get the same key.
    """
    instant = occurred_at.astimezone(UTC)
    # Without the +00:00 at its end.
    text = f"{instant.isoformat(timespec='microseconds')[:26]}Z"
    return key_of((tenant_id, metric, customer_ref, resource_id, text), int(instant.timestamp()))


def key_of(identity: tuple[str, str, str, str | None, str], unix_seconds: int) -> str:
    """The key of an identity whose instant is already text: UTC, six fractional digits and Z."""
    # Compact UTF-8, non-ASCII characters as themselves: what json.dumps would write, in a
    # tenth of the time (a test holds the two together).
    return f"{DERIVED_PREFIX}{unix_seconds:08x}{sha256(_encode(identity)).hexdigest()[:24]}"


def key_of_text(
    tenant_id: str,
    metric: str,
    customer_ref: str,
    resource_id: str | None,
    ts: str,
    occurred_at: datetime,
) -> str:
    """Like `derive_key`, given the instant's text besides: most are nearly as the key wants them.

    ts: ISO 8601, already checked; `occurred_at` is what it says.
    """
    if ts[-1] == "Z":
        text = f"{ts[:19]}.000000Z" if len(ts) == 20 else f"{ts[:-1]:0<26}Z"
        identity = (tenant_id, metric, customer_ref, resource_id, text)
        return key_of(identity, int(occurred_at.timestamp()))
    return derive_key(tenant_id, metric, customer_ref, resource_id, occurred_at)
