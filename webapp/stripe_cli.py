"""`stripemeter stripe …`: bind accounts, read them, and make there what a metric needs."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import click
from sqlalchemy.orm import Session

from metering import installation
from metering.database import make_engine, unit_of_work
from metering.errors import ConflictError, DomainError, InvalidInputError
from metering.stripe import accounts, listing, provision
from metering.stripe.faults import StripeFault
from metering.stripe.listing import Step
from metering.stripe.modes import MODES, Mode
from metering.stripe.provision import Made, Wanted
from metering.stripe.sync import Place
from metering.tenancy import tenants
from pricing import PricingError
from pricing.price import Price, read
from webapp import clock, stripe_access
from webapp import config as configuration
from webapp.config import Config

OPERATOR = "operator"
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,200}")


@click.group()
def stripe() -> None:
    """Connect tenants with Stripe. Reads STRIPE_TEST_KEY, STRIPE_LIVE_KEY and STRIPE_ACCOUNT."""


@stripe.command()
@click.option("--tenant", "tenant_id", required=True)
@click.option("--account", "account_id", required=True, help="acct_…")
def bind(tenant_id: str, account_id: str) -> None:
    """Say whose a Stripe account is. It can be one tenant's only."""
    if not _ACCOUNT.fullmatch(account_id):
        raise InvalidInputError("--account must begin with acct_, followed by letters and digits")
    with _steps(_config()) as step, step() as (session, now):
        tenants.get(session, tenant_id)
        accounts.bind(session, tenant_id, account_id, bound_by=OPERATOR, now=now)
    click.echo(f"{account_id} belongs to {tenant_id}.")


@stripe.command()
@click.option("--tenant", "tenant_id", required=True)
@click.option("--mode", type=click.Choice(MODES), help="Both that have a key, by default.")
def sync(tenant_id: str, mode: str | None) -> None:
    """Read all meters, prices, customers, subscriptions and recent invoices of a tenant."""
    config = _config()
    with _steps(config) as step, _told():
        with step() as (session, now):
            tenant_mode = tenants.get(session, tenant_id).mode
            _bind_own(session, config, tenant_id, now)
            bound = sorted(installation.accounts_of(session, tenant_id))
        if not bound:
            raise ConflictError(
                "no Stripe account is bound to this tenant: `stripemeter stripe bind` binds one"
            )
        asked = [cast(Mode, mode)] if mode else _with_key(config, tenant_mode)
        for each in asked:
            driver = stripe_access.ready(config, each, tenant_mode=tenant_mode)
            for account_id in bound:
                counts = listing.full(driver, Place(tenant_id, each, account_id), step)
                found = ", ".join(f"{count} {kind}" for kind, count in vars(counts).items())
                click.echo(f"{account_id} ({each}): {found}.")


@stripe.command("provision")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--metric", required=True)
@click.option("--mode", type=click.Choice(MODES), required=True)
@click.option(
    "--price",
    "price_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file: a priceConfig, or Stripe's Price object.",
)
@click.option("--event-name", help="The meter's; the metric's name by default.")
@click.option("--account", "account_id", help="STRIPE_ACCOUNT, or the one that is bound.")
def make(
    tenant_id: str,
    metric: str,
    mode: str,
    price_file: Path,
    event_name: str | None,
    account_id: str | None,
) -> None:
    """Create meter, product and metered price in Stripe, and map the metric to them.

    Run again, it finds what it made. Subscriptions are yours to make.
    """
    config = _config()
    wanted = Wanted(metric, event_name or metric, _price(price_file))
    with _steps(config) as step, _told():
        with step() as (session, now):
            tenant_mode = tenants.get(session, tenant_id).mode
            _bind_own(session, config, tenant_id, now)
            account = _account(session, config, tenant_id, account_id)
            refused = accounts.ensure_bound(session, tenant_id, account, now=now)
        if refused is not None:
            raise ConflictError(refused)
        driver = stripe_access.ready(config, cast(Mode, mode), tenant_mode=tenant_mode)
        place, asked_at = Place(tenant_id, mode, account), clock.wall()
        made = provision.make(driver, place, wanted)
        with step() as (session, now):
            mapping = provision.note(session, place, wanted, made, asked_at=asked_at, now=now)
            mapping_id, since = mapping.mapping_id, mapping.effective_from
    _print(made, mapping_id, since)


def _print(made: Made, mapping_id: str, since: datetime) -> None:
    new_meter, new_price = made.is_new
    click.echo(f"meter    {made.meter.id}{'' if new_meter else '  (was there)'}")
    click.echo(f"product  {made.price.product_id}")
    click.echo(f"price    {made.price.id}{'' if new_price else '  (was there)'}")
    click.echo(f"mapping  {mapping_id}  (usage from {since:%Y-%m-%dT%H:%MZ} on)")
    click.echo("\nSubscribe customers with whole minutes, so that summaries can be compared:\n")
    example: dict[str, Any] = {
        "items": [{"price": made.price.id}],
        "billing_mode": {"type": "flexible"},
        "billing_cycle_anchor_config": {
            "day_of_month": 1, "hour": 0, "minute": 0, "second": 0,
        },
    }  # fmt: skip
    click.echo(json.dumps(example, indent=2))


def _config() -> Config:
    config = configuration.load(needs_redis=False)
    clock.follow(config.clock_file)
    return config


@contextmanager
def _steps(config: Config) -> Iterator[Step]:
    """Short transactions, one after the other."""
    engine = make_engine(config.database_url, application_name="stripemeter cli")

    @contextmanager
    def step() -> Iterator[tuple[Session, datetime]]:
        with Session(engine) as session, unit_of_work(session):
            yield session, clock.wall()

    try:
        yield step
    finally:
        engine.dispose()


class _StripeSaysError(DomainError):
    """What Stripe answered, as a sentence."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StripeFault as fault:
        raise _StripeSaysError(f"Stripe: {fault.message}") from None


def _bind_own(session: Session, config: Config, tenant_id: str, now: datetime) -> None:
    """The keys' own account needs no binding where there is one tenant."""
    if config.stripe_account is not None:
        accounts.ensure_bound(session, tenant_id, config.stripe_account, now=now)


def _account(session: Session, config: Config, tenant_id: str, given: str | None) -> str:
    """The one that is named, else STRIPE_ACCOUNT unless the tenant's only one is another."""
    bound = installation.accounts_of(session, tenant_id)
    own = config.stripe_account
    only = next(iter(bound)) if len(bound) == 1 else None
    account_id = given or (own if own in bound else None) or only or own
    if account_id is None:
        raise InvalidInputError(
            "which account is meant cannot be told: name it with --account or STRIPE_ACCOUNT"
        )
    return account_id


def _with_key(config: Config, tenant_mode: str) -> list[Mode]:
    modes = [
        mode
        for mode in MODES
        if stripe_access.why_not(config, mode, tenant_mode=tenant_mode) is None
    ]
    if not modes:
        raise ConflictError("there is no usable key: set STRIPE_TEST_KEY or STRIPE_LIVE_KEY")
    return modes


def _price(file: Path) -> Price:
    try:
        given = json.loads(file.read_bytes(), parse_float=str)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{file} is not JSON: {error}") from None
    try:
        return read(given)
    except PricingError as error:
        raise InvalidInputError(f"{file}: {error}") from None
