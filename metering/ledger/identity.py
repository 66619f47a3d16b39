"""The key derived for an event that was sent without one.

Time-prefixed, so that the ledger's primary key grows at its right edge. The same recipe stands
in both SDKs; `sdks/vectors.json` holds the three together.
"""

import hashlib
import json
from datetime import UTC, datetime

DERIVED_PREFIX = "evt_"


def derive_key(
    tenant_id: str, metric: str, customer_ref: str, resource_id: str | None, occurred_at: datetime
) -> str:
    """`evt_` + 8 hex digits of unix seconds + 24 hex digits of SHA-256 over the identity.

    occurred_at: aware.  Two events of one resource within one microsecond get the same key.
    """
    instant = occurred_at.astimezone(UTC)
    identity = [
        tenant_id,
        metric,
        customer_ref,
        resource_id,
        f"{instant.replace(tzinfo=None).isoformat(timespec='microseconds')}Z",
    ]
    canonical = json.dumps(identity, ensure_ascii=False, separators=(",", ":"))
    seconds = int(instant.replace(microsecond=0).timestamp())
    return f"{DERIVED_PREFIX}{seconds:08x}{hashlib.sha256(canonical.encode()).hexdigest()[:24]}"
