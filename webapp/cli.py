"""The operator's command line: `stripemeter …`, or `python -m webapp …`."""

import sys
from typing import NoReturn

import click
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.exc import DBAPIError

from metering import installation
from metering.database import sqlstate, unit_of_work
from metering.errors import DomainError
from metering.tenancy import console as sessions
from metering.tenancy import keys as api_keys
from metering.tenancy import scopes as scope_names
from metering.tenancy import tenants as tenant_rows
from metering.tenancy.models import ApiKey
from webapp import cli_session, clock
from webapp import config as configuration
from webapp.backfill_cli import backfill
from webapp.erasure_cli import erase_meta, erasures
from webapp.health import MIGRATIONS
from webapp.replay_cli import replay_command
from webapp.sim_cli import sim
from webapp.statement_cli import statement, verify
from webapp.stripe_cli import stripe

OPERATOR = "operator"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def stripemeter() -> None:
    """Operate a StripeMeter installation. Reads DATABASE_URL and REDIS_URL."""


@stripemeter.command()
def migrate() -> None:
    """Bring the database's schema to this version."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = configuration.load(needs_redis=False).database_url
    command.upgrade(config, "head")
    click.echo("The database is up to date.")


@stripemeter.group()
def tenants() -> None:
    """Make and list tenants."""


@tenants.command("create")
@click.argument("tenant_id")
@click.option("--name", help="A name for people.")
@click.option("--mode", type=click.Choice(tenant_rows.MODES), default="live", show_default=True)
def create_tenant(tenant_id: str, name: str | None, mode: str) -> None:
    """Make a tenant. A test tenant never has a live destination."""
    lateness = configuration.load(needs_redis=False).lateness_seconds
    with cli_session.opened() as session, unit_of_work(session):
        tenant_rows.create(
            session, tenant_id, mode=mode, now=clock.wall(), name=name, lateness_seconds=lateness
        )
    click.echo(f"Made the {mode} tenant {tenant_id}.")


@tenants.command("list")
def list_tenants() -> None:
    """List all tenants."""
    with cli_session.opened() as session:
        for tenant in installation.tenants(session):
            click.echo(f"{tenant.tenant_id}\t{tenant.mode}\t{tenant.name or ''}")


@stripemeter.group()
def keys() -> None:
    """Make, list, rotate and revoke a tenant's API keys."""


@keys.command("create")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("events:read", "events:write", "usage:read"),
    show_default=True,
    help="May be given several times; `all` for every scope.",
)
def create_key(tenant_id: str, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key. It is printed once and cannot be read again."""
    with cli_session.opened() as session, unit_of_work(session):
        key, secret = api_keys.create(
            session,
            tenant_id,
            name=name,
            scopes=scopes,
            granted_by=scope_names.ALL,
            created_by=OPERATOR,
            now=clock.wall(),
        )
        _print_new(key, secret)


@keys.command("list")
@click.option("--tenant", "tenant_id", required=True)
def list_keys(tenant_id: str) -> None:
    """List a tenant's keys, the ended ones too."""
    with cli_session.opened() as session:
        for key in api_keys.listed(session, tenant_id):
            click.echo("\t".join((key.key_id, _state(key), key.name, _scopes(key))))


@keys.command("rotate")
@click.argument("key_id")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--grace-seconds", default=0, show_default=True, type=click.IntRange(0, 604_800))
def rotate_key(key_id: str, tenant_id: str, grace_seconds: int) -> None:
    """Replace a key by one of the same name and scopes; the old one ends after the grace."""
    with cli_session.opened() as session, unit_of_work(session):
        key, secret = api_keys.rotate(
            session,
            tenant_id,
            key_id,
            created_by=OPERATOR,
            granted_by=scope_names.ALL,
            now=clock.wall(),
            grace_seconds=grace_seconds,
        )
        _print_new(key, secret)


@keys.command("revoke")
@click.argument("key_id")
@click.option("--tenant", "tenant_id", required=True)
def revoke_key(key_id: str, tenant_id: str) -> None:
    """End a key at once."""
    with cli_session.opened() as session, unit_of_work(session):
        api_keys.revoke(session, tenant_id, key_id, now=clock.wall())
    click.echo(f"Revoked {key_id}.")


def _state(key: ApiKey) -> str:
    if key.expires_at is None:
        return "live"
    verb = "ended" if key.expires_at <= clock.wall() else "ends"
    return f"{verb} {key.expires_at:%Y-%m-%d %H:%M}Z"


def _scopes(key: ApiKey) -> str:
    return "all" if set(key.scopes) == scope_names.ALL else ",".join(key.scopes)


def _print_new(key: ApiKey, secret: str) -> None:
    click.echo(f"Key {key.key_id} ({_scopes(key)}). Keep it; it is not shown again:")
    click.echo(secret)


@stripemeter.group()
def console() -> None:
    """Let people into the console."""


@console.command("link")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--role", required=True, help="operator, finance or support.")
@click.option("--base-url", help="Where the web is reached; http://localhost:PORT by default.")
def console_link(tenant_id: str, role: str, base_url: str | None) -> None:
    """Print a link that signs one browser in, once, within 15 minutes."""
    base = base_url or f"http://localhost:{configuration.load(needs_redis=False).port}"
    with cli_session.opened() as session, unit_of_work(session):
        token = sessions.make_link(session, tenant_id, role, now=clock.wall())
    click.echo(f"{base.rstrip('/')}/console/enter?token={token}")


stripemeter.add_command(replay_command, "replay")
stripemeter.add_command(erase_meta)
stripemeter.add_command(erasures)
stripemeter.add_command(backfill)
stripemeter.add_command(sim)
stripemeter.add_command(statement)
stripemeter.add_command(stripe)
stripemeter.add_command(verify)


def main() -> None:
    """Run the command; a refusal is one sentence, not a traceback."""
    configuration.read_files()
    try:
        stripemeter()
    except (DomainError, configuration.ConfigError) as error:
        _end(str(error))
    except DBAPIError as error:
        _end(_SENTENCES.get(sqlstate(error), f"The database cannot be used: {error.orig}"))


_SENTENCES = {
    "42P01": "The database has no schema yet: run `stripemeter migrate` first.",
    "42703": "The database has another version's schema: run `stripemeter migrate` first.",
    "55P03": "Another job is working on this tenant's counters: try again in a minute.",
}


def _end(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(1)
