"""`stripemeter verify`: check a statement offline; `stripemeter statement`: write one."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click
from sqlalchemy.orm import Session

from metering.database import make_engine
from metering.errors import ConflictError, InvalidInputError
from metering.proof import checking, form, frame
from metering.proof.checking import Checked, Expected
from metering.proof.signing import SigningKey
from metering.tenancy import tenants
from webapp import clock, wire
from webapp import config as configuration
from webapp.statements import views


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--key",
    "told",
    help="Who must have signed: the public key or its fingerprint, or a file that holds it.",
)
def verify(file: BinaryIO, told: str | None) -> None:
    """Check a statement with nothing but the file: no database and no network.

    The status is 0 if it is as it was signed, and 1 if not, with every line that is not.
    """
    checked = checking.check(file, None if told is None else _expected(told))
    if not checked.is_good:
        click.echo("This statement is NOT as it was signed:", err=True)
        for problem in checked.problems:
            click.echo(f"  - {problem}", err=True)
        sys.exit(1)
    _tell(checked, is_pinned=told is not None)


def _tell(checked: Checked, *, is_pinned: bool) -> None:
    head = checked.head
    click.echo(
        f"The statement is as it was signed: {head.get('customerRef')} of {head.get('tenantId')},"
        f" {head.get('periodStart')} to {head.get('periodEnd')}, as of {head.get('asOf')}."
    )
    click.echo(f"{checked.events:,} events; the totals are what their lines come to:")
    for metric, aggregation, value, amount in checked.totals:
        click.echo(f"  {metric}\t{value} ({aggregation})\t{amount}".rstrip())
    if is_pinned:
        click.echo(f"It is signed by the key that was expected ({checked.key_id}).")
    else:
        click.echo(
            f"Its signature fits the key in the file, whose fingerprint is {checked.key_id}."
            " Compare it with the one at /v1/usage/statement/key, or give --key."
        )


def _expected(told: str) -> Expected:
    """A key, or the file that holds it, as it is or as /v1/usage/statement/key answers."""
    path = Path(told)
    try:
        if path.is_file():
            told = path.read_text()
            if told.lstrip().startswith("{"):
                told = str(json.loads(told).get("publicKey"))
        return Expected.read(told)
    except (ValueError, OSError) as error:
        raise InvalidInputError(f"--key {error}") from None


@click.command()
@click.option("--tenant", "tenant_id", required=True)
@click.option("--customer", "customer_ref", required=True)
@click.option("--period-start", help="Such as 2026-11-01T00:00:00Z; the current period by default.")
@click.option("--format", "form_name", type=click.Choice(form.FORMATS), default="ndjson")
@click.option("--out", type=click.File("wb"), default="-", help="A file; standard output if none.")
def statement(
    tenant_id: str, customer_ref: str, period_start: str | None, form_name: str, out: BinaryIO
) -> None:
    """Write a customer's billing period as a signed statement. Reads STATEMENT_SIGNING_KEY."""
    config = configuration.load(needs_redis=False)
    if config.statement_signing_key is None:
        raise ConflictError(views.NO_KEY)
    clock.follow(config.clock_file)
    engine = make_engine(config.database_url, application_name="stripemeter cli")
    now, key = clock.wall(), SigningKey.derived(config.statement_signing_key)
    step = views.step_of(engine)
    try:
        with Session(engine) as session:
            tenants.get(session, tenant_id)
            start = _instant(period_start)
            span = views.period(session, tenant_id, customer_ref, start, now)
        with step() as session:
            fixed = frame.fix(session, tenant_id, customer_ref, span, now=now)
        for line in views.written(fixed, step, key, form_name, now):
            out.write(line)
    finally:
        engine.dispose()


def _instant(text: str | None) -> datetime | None:
    try:
        return None if text is None else wire.read_instant(text)
    except ValueError as error:
        raise InvalidInputError(f"--period-start {error}") from None
