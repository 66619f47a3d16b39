"""RFC 3339, as v2 writes and reads instants."""

from datetime import UTC, datetime

from sandbox.stripe.core import StripeError


def written(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def read(text: str, param: str) -> int:
    """Whole unix seconds.

    Raises: StripeError (400) for no instant with an offset.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        message = f"Invalid timestamp: {text}; RFC 3339 with an offset is expected."
        raise StripeError(400, message, code="invalid_parameter", param=param)
    return int(instant.timestamp() // 1)
