"""`stripemeter replay`: make counters what the ledger says, or see what that would change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as changed
from datetime import datetime

import click
from sqlalchemy.orm import Session

from metering.catalog.period import Span
from metering.counters import replay as counted
from metering.counters.replay import SEGMENTS, Budget, Position, Step
from metering.database import make_engine, unit_of_work
from metering.errors import InvalidInputError
from metering.proof import replay
from metering.proof.replay import Asked, Change, Page
from metering.tenancy import tenants
from pricing.money import show
from webapp import clock, wire
from webapp import config as configuration
from webapp.config import Config
from webapp.replay import cursors, presenters
from webapp.replay.cursors import Question
from webapp.sim_reports import visible

# Of reading, for each page: until then nothing is shown but the bar.
SECONDS = 5.0
# Lines of the table; all is in the answer of POST /v1/replay.
SHOWN = 200


@click.command()
@click.option("--tenant", "tenant_id", required=True)
@click.option("--metric", "metrics", multiple=True, help="May be given several times; all if not.")
@click.option("--customer", "customer_ref", help="Only this customer's.")
@click.option("--since", help="2026-11-01T00:00:00Z or -P7D; the oldest open period if not given.")
@click.option("--until", help="As --since; now if not given.")
@click.option(
    "--apply", "applies", is_flag=True, help="Change it; else only say what would change."
)
@click.option("--cursor", help="Go on where a replay of the same options was interrupted.")
def replay_command(
    tenant_id: str,
    metrics: tuple[str, ...],
    customer_ref: str | None,
    since: str | None,
    until: str | None,
    applies: bool,
    cursor: str | None,
) -> None:
    """Compare counters with the ledger, and say what differs, in money and for Stripe.

    Only --apply changes anything, in short transactions: ingest and folding go on meanwhile. Run
    again, it finds nothing to do.
    """
    question = Question(tenant_id, list(metrics) or None, customer_ref, since, until, applies)
    config = configuration.load(needs_redis=False)
    with _steps(config) as step:
        asked, begin = _asked(step, config, question, cursor)
        _run(step, question, asked, begin)


def _asked(
    step: Step, config: Config, question: Question, cursor: str | None
) -> tuple[Asked, Position]:
    names = None if question.metrics is None else list(question.metrics)
    with step() as (session, now):
        tenants.get(session, question.tenant_id)
        scope = counted.scope(session, question.tenant_id, names, question.customer_ref)
        if cursor is not None:
            span, begin = cursors.read(question, cursor)
        else:
            since, until = (
                _moment("since", question.since, now),
                _moment("until", question.until, now),
            )
            span = counted.span(session, scope, since, until, now=now)
            begin = counted.start(span)
    return Asked(scope, span, question.applies, config.stripe_account), begin


def _run(step: Step, question: Question, asked: Asked, begin: Position) -> None:
    pages: list[Page] = []
    place: Position | None = begin
    label = "Replaying" if asked.applies else "Comparing"
    try:
        with click.progressbar(length=1000, label=label) as bar:
            while place is not None:
                page = replay.page(step, asked, place, Budget(SECONDS))
                pages.append(page)
                place = page.next
                bar.update(_done(place, asked.span) - bar.pos)
    except KeyboardInterrupt:
        _show(pages)
        # What the interrupted page had not committed is not done; the others are.
        click.echo(presenters.summary(pages, applies=asked.applies, is_whole=False))
        assert place is not None
        click.echo(f"Go on with --cursor {cursors.write(question, asked.span, place)}")
        return
    _show(pages)
    click.echo(presenters.summary(pages, applies=asked.applies, is_whole=True))


def _done(place: Position | None, span: Span) -> int:
    """In thousandths: the hours of the ledger are nearly all of it."""
    if place is None:
        return 1000
    if place.phase != SEGMENTS:
        return 950
    return int(950 * span.elapsed_seconds(place.at) / span.seconds)


def _show(pages: Sequence[Page]) -> None:
    changes = together([change for page in pages for change in page.changes])
    for change in changes[:SHOWN]:
        click.echo(visible(_line(change)))
    if len(changes) > SHOWN:
        click.echo(f"… and {len(changes) - SHOWN:,} more")
    for page in pages:
        for delta in page.stripe:
            said = f": {delta.why_not}" if delta.why_not else ""
            click.echo(
                visible(
                    f"Stripe ({delta.mode})  {delta.customer_ref}  {delta.metric}"
                    f"  {wire.decimal(delta.quantity)} to send{said}"
                )
            )
        for kept in page.closed:
            click.echo(
                visible(
                    f"closed  {kept.customer_ref}  {kept.metric}  {_days(kept.span)}:"
                    f" {kept.difference.events:+,} events, {kept.difference.quantity:+f} by the"
                    f" ledger. {presenters.CLOSED}"
                )
            )


def together(changes: Sequence[Change]) -> list[Change]:
    """One line for each counter, also where several pages changed it: from its first number on,
    by all that was changed."""
    found: dict[tuple[str, str, Span], Change] = {}
    for change in changes:
        key = change.customer_ref, change.metric, change.span
        known = found.get(key)
        if known is None:
            found[key] = change
            continue
        amount = None
        if None not in (known.amount_after, change.amount_before, change.amount_after):
            amount = known.amount_after + change.amount_after - change.amount_before  # type: ignore[operator]
        found[key] = changed(known, after=known.after + change.delta, amount_after=amount)
    return sorted(found.values(), key=lambda each: (each.customer_ref, each.metric, each.span))


def _line(change: Change) -> str:
    before, after = wire.decimal(change.before), wire.decimal(change.after)
    line = f"{change.customer_ref}  {change.metric}  {_days(change.span)}  {before} → {after}"
    if change.currency is None:
        return f"{line}  (no price: {change.why_not})"
    if change.amount_before is None or change.amount_after is None:
        return line
    of = change.currency
    amounts = f"{show(change.amount_before, of)} → {show(change.amount_after, of)}"
    return f"{line}  {amounts} {of.code.upper()}"


def _days(span: Span) -> str:
    return f"{span.start_at:%Y-%m-%d} to {span.end_at:%Y-%m-%d}"


def _moment(name: str, text: str | None, now: datetime) -> datetime | None:
    try:
        return None if text is None else wire.read_moment(text, now)
    except ValueError as error:
        raise InvalidInputError(f"--{name} {error}") from None


@contextmanager
def _steps(config: Config) -> Iterator[Step]:
    clock.follow(config.clock_file)
    engine = make_engine(config.database_url, application_name="stripemeter cli")

    @contextmanager
    def step() -> Iterator[tuple[Session, datetime]]:
        with Session(engine) as session, unit_of_work(session):
            yield session, clock.wall()

    try:
        yield step
    finally:
        engine.dispose()
