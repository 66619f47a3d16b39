"""One account in one mode: whether Stripe answers us there, and what was read of it last."""

from datetime import datetime, timedelta

from sqlalchemy import Select, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from metering.stripe.models import Connection, Push, PushStream

# After so many calls in a row without a usable answer nothing is sent for a while.
PATIENCE = 3
LONGEST = timedelta(minutes=2)
LONGEST_AUTH = timedelta(minutes=10)


def find(session: Session, tenant_id: str, mode: str, account_id: str) -> Connection:
    """The connection's row, made if it is new, locked until the transaction ends."""
    session.execute(
        insert(Connection)
        .values(tenant_id=tenant_id, mode=mode, account_id=account_id)
        .on_conflict_do_nothing()
    )
    return session.scalars(
        select(Connection)
        .where(
            Connection.tenant_id == tenant_id,
            Connection.mode == mode,
            Connection.account_id == account_id,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def halted(session: Session, tenant_id: str, now: datetime) -> dict[tuple[str, str], datetime]:
    """Until when nothing is sent, by (mode, account)."""
    rows = session.scalars(
        select(Connection).where(Connection.tenant_id == tenant_id, Connection.halted_until > now)
    )
    return {
        (row.mode, row.account_id): row.halted_until for row in rows if row.halted_until is not None
    }


def note_answer(connection: Connection, *, now: datetime) -> None:
    """Stripe answered: whatever had stopped us is over."""
    connection.failures, connection.last_ok_at = 0, now
    connection.halted_until = connection.halted_kind = connection.halted_reason = None


def note_reading(session: Session, connection: Connection, *, now: datetime) -> None:
    """Stripe let us read: a halt whose time is over ends, if no push is left to try it.

    Where there is one, it must tell: a key may be allowed to read, and not to write.
    """
    if connection.halted_kind is None:
        return
    is_over = connection.halted_until is None or connection.halted_until <= now
    if is_over and not session.scalar(_on_the_way(connection)):
        note_answer(connection, now=now)


def note_silence(connection: Connection, reason: str, *, now: datetime) -> None:
    """Stripe did not answer, or said that it could not: wait longer each time."""
    connection.failures += 1
    if connection.failures >= PATIENCE:
        pause = timedelta(seconds=2 ** min(connection.failures, 10))
        _halt(connection, "unreachable", reason, now + min(pause, LONGEST))


def note_refusal(connection: Connection, reason: str, *, now: datetime) -> None:
    """Stripe does not accept the key: nothing of this account can be sent until it is mended."""
    connection.failures += 1
    pause = timedelta(seconds=15 * 2 ** min(connection.failures, 10))
    _halt(connection, "auth", reason, now + min(pause, LONGEST_AUTH))


def note_throttling(connection: Connection, seconds: float, *, now: datetime) -> None:
    """Stripe asks us to wait; that is no failure."""
    until = now + timedelta(seconds=seconds)
    if connection.halted_until is None or connection.halted_until < until:
        _halt(connection, "rate_limited", "Stripe asked us to slow down", until)


def resume(connection: Connection) -> None:
    """Try again now: somebody has mended it."""
    connection.failures = 0
    connection.halted_until = None


def _on_the_way(connection: Connection) -> Select[tuple[bool]]:
    return select(
        exists().where(
            Push.tenant_id == connection.tenant_id,
            Push.state == "claimed",
            PushStream.tenant_id == connection.tenant_id,
            PushStream.stream_id == Push.stream_id,
            PushStream.mode == connection.mode,
            PushStream.account_id == connection.account_id,
        )
    )


def _halt(connection: Connection, kind: str, reason: str, until: datetime) -> None:
    connection.halted_kind, connection.halted_reason = kind, reason
    connection.halted_until = until
