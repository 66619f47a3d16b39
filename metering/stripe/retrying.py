"""Trying again by hand what is stuck. Safe to ask twice, and of what is not stuck any more: then
nothing is found to be tried."""

from datetime import datetime

from sqlalchemy.orm import Session

from metering.stripe import connections, reopening, unsent
from metering.stripe.models import Connection, Held, PushStream


def held(
    session: Session, tenant_id: str, mode: str, customer_ref: str, metric: str, *, now: datetime
) -> bool:
    """Look again at a customer's metric that had nowhere to go. False: it is not held."""
    row = session.get(Held, (tenant_id, mode, customer_ref, metric))
    if row is None:
        return False
    unsent.release(session, tenant_id, customer_ref, [metric], now=now)
    return True


def blocked(session: Session, tenant_id: str, stream_id: str, *, now: datetime) -> bool:
    """Send to a stream again that Stripe refused. False: it is not blocked."""
    stream = _stream(session, tenant_id, stream_id)
    if stream is None or stream.blocked_kind is None:
        return False
    reopening.unblock(session, stream, now=now)
    return True


def drift(session: Session, tenant_id: str, stream_id: str) -> bool:
    """Have the stream's totals read again. False: there is no such stream."""
    stream = _stream(session, tenant_id, stream_id)
    if stream is None:
        return False
    stream.confirmed_at = None
    session.flush()
    return True


# Only what is not in flight: its last call has ended before our eyes.
_AGAIN = """
UPDATE pushes p SET lease_until = %(now)s
FROM push_streams t
WHERE t.tenant_id = %(tenant_id)s AND t.mode = %(mode)s AND t.account_id = %(account_id)s
  AND p.tenant_id = %(tenant_id)s AND p.stream_id = t.stream_id
  AND p.state IN ('claimed', 'ambiguous') AND p.state = 'claimed'
  AND p.outcomes = p.attempts AND p.lease_until > %(now)s
"""
_DUE = """
UPDATE unsent u SET due_at = %(now)s
FROM push_streams t
JOIN stream_sources f ON f.tenant_id = %(tenant_id)s AND f.stream_id = t.stream_id
WHERE t.tenant_id = %(tenant_id)s AND t.mode = %(mode)s AND t.account_id = %(account_id)s
  AND u.tenant_id = %(tenant_id)s AND u.mode = t.mode AND u.customer_ref = f.customer_ref
  AND u.metric = f.metric AND u.due_at > %(now)s AND u.segment_start <= %(now)s
"""


def halted(session: Session, tenant_id: str, mode: str, account_id: str, *, now: datetime) -> bool:
    """Call an account again that did not answer, or not to our key. False: it is not halted."""
    connection = session.get(Connection, (tenant_id, mode, account_id))
    if connection is None or connection.halted_kind is None:
        return False
    parameters = {"tenant_id": tenant_id, "mode": mode, "account_id": account_id, "now": now}
    # In the order in which answers are written down: pushes, the connection, what is unsent.
    session.connection().exec_driver_sql(_AGAIN, parameters)
    connections.resume(connections.find(session, tenant_id, mode, account_id))
    session.flush()
    session.connection().exec_driver_sql(_DUE, parameters)
    return True


def _stream(session: Session, tenant_id: str, stream_id: str) -> PushStream | None:
    return session.get(PushStream, (tenant_id, stream_id))
