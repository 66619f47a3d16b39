"""The name of what is stuck, as a text that comes back to have it tried again."""

from datetime import datetime

from sqlalchemy.orm import Session

from metering.errors import InvalidInputError
from metering.stripe import retrying
from metering.stripe.findings import KINDS, Finding
from metering.stripe.modes import MODES
from webapp import cursor, wire

PARTS = 4


def write(finding: Finding) -> str:
    """Kind and mode, then the customer and metric, or the account, or the stream."""
    if finding.kind == "held":
        [source] = finding.sources
        of = (source.customer_ref, source.metric)
    elif finding.kind == "halted":
        of = (finding.account_id or "", "")
    else:
        of = (finding.stream_id or "", finding.cause if finding.kind == "unsendable" else "")
    return cursor.write((finding.kind, finding.mode, *of))


def retry(session: Session, tenant_id: str, name: str, *, now: datetime) -> bool:
    """Try it again. False where it is not stuck any more, or trying cannot help.

    Raises: InvalidInputError if the name is none of ours.
    """
    try:
        kind, mode, first, second = cursor.read(name, PARTS)
    except InvalidInputError:
        raise _refused() from None
    if kind not in KINDS or mode not in MODES:
        raise _refused()
    match kind:
        case "held":
            return retrying.held(session, tenant_id, mode, first, second, now=now)
        case "halted":
            return retrying.halted(session, tenant_id, mode, first, now=now)
        case "blocked":
            return retrying.blocked(session, tenant_id, first, now=now)
        case "drift":
            return retrying.drift(session, tenant_id, first)
    return False


def _refused() -> InvalidInputError:
    return wire.invalid_field("id", "is not one that this API gave")
