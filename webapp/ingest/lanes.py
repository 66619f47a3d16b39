"""From a request's bytes to ledger entries: a fast lane for good batches, a careful one for all.

The fast lane decodes with msgspec and may alter nothing; whatever it does not fully understand
goes to the careful lane, where marshmallow's schema goes over each event and names every error.
A property test holds the two to the same verdicts and the same entries.
"""

from datetime import datetime

from webapp.ingest import careful, fast
from webapp.ingest.batch import Batch


def parse(body: bytes, *, own_tenant: str | None, request_key: str | None, now: datetime) -> Batch:
    """Parse a batch; a bad event becomes an entry in `errors`, never the end of its neighbours.

    own_tenant: the caller's; None where every tenant is (the sandbox).
    request_key: the `Idempotency-Key` header, which names events without a key of their own.
    Raises: ProblemError 400 or 413 if the whole cannot be read, ForbiddenError if any event
            names another tenant.
    """
    batch = fast.read(body, own_tenant, request_key, now)
    return batch if batch is not None else careful.read(body, own_tenant, request_key, now)
