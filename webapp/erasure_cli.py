"""`stripemeter erase-meta` and `stripemeter erasures`: personal data out of the ledger."""

from collections.abc import Callable

import click
from sqlalchemy.orm import Session

from metering.database import unit_of_work
from metering.errors import NotFoundError
from metering.ledger import erasure, read
from metering.ledger.erasure import Stretch, Whose
from metering.tenancy import tenants
from webapp import cli_session, clock

OPERATOR = "operator"


@click.command("erase-meta")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--customer", "customer_ref", help="All events of this customer.")
@click.option("--event", "event_id", help="One event, by its idempotency key.")
@click.option("--reason", required=True, help="Is written down, with when and how much.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_meta(
    tenant_id: str, customer_ref: str | None, event_id: str | None, reason: str, yes: bool
) -> None:
    """Erase the meta of a customer's events, or of one event, for good.

    The events themselves stay, and so does every total.
    """
    whose = Whose(customer_ref, event_id)
    with cli_session.opened() as session:
        tenants.get(session, tenant_id)
        found = _whole(
            session, lambda after: erasure.holding(session, tenant_id, whose, after=after)
        )
        if not found:
            # A mistyped id must not look like a wish that was done.
            if event_id is not None and read.one(session, tenant_id, event_id) is None:
                raise NotFoundError(f"there is no event {event_id!r}")
            click.echo("There is no meta to erase.")
            return
        if not yes:
            click.echo(
                f"The meta of {_events(found)} will be erased and cannot be brought back. The"
                " events stay, and no total changes."
            )
            click.confirm("Erase it?", abort=True)
        erasure_id, now = erasure.new_id(), clock.wall()
        done = _whole(
            session,
            lambda after: erasure.erase(
                session,
                tenant_id,
                erasure_id,
                whose,
                reason=reason,
                actor=OPERATOR,
                now=now,
                after=after,
            ),
        )
    click.echo(f"Erased the meta of {_events(done)} ({erasure_id}). No total changed.")


@click.command("erasures")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
def erasures(tenant_id: str, limit: int) -> None:
    """List what was erased, the latest first."""
    with cli_session.opened() as session:
        tenants.get(session, tenant_id)
        for each in erasure.listed(session, tenant_id, limit=limit):
            of = f"event {each.idempotency_key}"
            if each.customer_ref is not None:
                of = f"customer {each.customer_ref}"
            when = f"{each.erased_at:%Y-%m-%d %H:%M}Z"
            columns = (each.erasure_id, when, of, _events(each.events), each.actor, each.reason)
            click.echo("\t".join(columns))


def _whole(session: Session, stretch: Callable[[str], Stretch]) -> int:
    """All stretches, each in a transaction of its own; the events that they name."""
    events, after = 0, ""
    while True:
        with unit_of_work(session):
            done = stretch(after)
        events += done.events
        if done.last_key is None:
            return events
        after = done.last_key


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"
