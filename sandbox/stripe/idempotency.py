"""The first answer to a key, given again for 24 hours.

v1 keeps every answer of an endpoint that began its work, 500s too, and none of the refusals that
came before it (bad key, unknown parameter, 409, 429). v2 keeps successes only.
"""

import hashlib
from dataclasses import dataclass

from sandbox.stripe.core import Json, Partition, StripeError
from sandbox.stripe.http import Answer

SECONDS = 24 * 3600
KIND = "_idempotency"
_NOT_BEGUN = {401, 403, 409, 429}
_INVALID = {"parameter_unknown", "parameter_missing", "parameter_invalid_integer"}


def fingerprint(method: str, path: str, query: str, body: bytes) -> str:
    parts = [method.encode(), path.encode(), query.encode(), body]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def replay(partition: Partition, key: str, print: str, *, v2: bool, now: int) -> Answer | None:
    """The stored answer.

    Raises: StripeError (400, `idempotency_error`) if the key came with another request.
    """
    stored = partition.of(KIND).get(key)
    if stored is None or stored["at"] + SECONDS <= now:
        return None
    if stored["print"] != print:
        message = (
            f"Keys for idempotent requests can only be used with the same parameters they were "
            f"first used with. Try using a key other than '{key}' if you meant to execute a "
            f"different request."
        )
        code = "idempotency_error" if v2 else None
        raise StripeError(400, message, type="idempotency_error", code=code)
    headers = stored["headers"] | {"Idempotent-Replayed": "true"}
    headers["Original-Request"] = headers["Request-Id"]
    return Answer(stored["status"], headers, stored["body"].encode())


@dataclass(frozen=True)
class Kept:
    """A request whose answer is kept. code: of the error, if the answer is one."""

    key: str
    print: str
    code: str | None
    v2: bool
    now: int


def keep(partition: Partition, request: Kept, answer: Answer) -> None:
    """Remember the answer if it is one that is replayed."""
    if answer.status in _NOT_BEGUN or request.code in _INVALID:
        return
    if request.v2 and answer.status >= 300:
        return
    _forget_old(partition, request.now)
    stored: Json = {"id": request.key, "print": request.print, "at": request.now}
    stored |= {"status": answer.status, "headers": answer.headers, "body": answer.body.decode()}
    partition.of(KIND).pop(request.key, None)  # an expired one: the order is that of the answers
    partition.put(KIND, stored)


def in_use() -> StripeError:
    message = "There is currently another in-progress request using this Idempotent Key."
    return StripeError(409, message, code="idempotency_key_in_use")


def _forget_old(partition: Partition, now: int) -> None:
    kept = partition.of(KIND)
    while kept:
        oldest = next(iter(kept.values()))
        if oldest["at"] + SECONDS > now:
            return
        partition.remove(KIND, oldest["id"])
