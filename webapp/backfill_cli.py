"""`stripemeter backfill FILE`: import past usage here and now, without a web or a worker."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path

import click
from sqlalchemy.orm import Session

from metering.database import make_engine, unit_of_work
from metering.errors import InvalidInputError
from metering.ledger import backfills, uploads
from metering.ledger.backfill import UNREAD, Reader, advance
from metering.ledger.models import Backfill
from metering.tenancy import tenants
from webapp import clock, csv_export, s3
from webapp import config as configuration
from webapp.backfill import presenters, spool
from webapp.backfill.stream import Source, gunzip, of_file
from webapp.config import Config
from webapp.queues import Hints

OPERATOR = "operator"
_ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_GZIP = b"\x1f\x8b"
_SHOWN = 5


@click.command()
@click.argument("file")
@click.option("--tenant", "tenant_id", required=True)
@click.option("--reason", required=True, help="Why; it is kept with the import.")
@click.option(
    "--late",
    type=click.Choice(uploads.LATE),
    default="count",
    show_default=True,
    help="What becomes of old usage whose period is not closed.",
)
@click.option("--format", "form", type=click.Choice(uploads.FORMATS), help="Else by the ending.")
@click.option(
    "--errors",
    "report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the lines that were refused, as CSV.",
)
def backfill(
    file: str, tenant_id: str, reason: str, late: str, form: str | None, report: Path | None
) -> None:
    """Import past usage from FILE: a path, `-`, or s3://bucket/key; CSV or NDJSON, also gzipped.

    Nothing counts twice: a command that was stopped may be given again. S3 needs
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is not Amazon's, S3_ENDPOINT_URL.
    """
    config = configuration.load(needs_redis=False)
    clock.follow(config.clock_file)
    wanted = uploads.Wanted(form or _format_of(file), reason, late, _name_of(file))
    engine = make_engine(config.database_url, application_name="stripemeter cli")
    try:
        with Session(engine) as session:
            backfill_id = _receive(session, tenant_id, wanted, file, config)
            found = _read(session, tenant_id, backfill_id)
            _tell(session, found, report)
            if config.redis_url:
                hints = Hints(config.redis_url, verify_tls=config.redis_tls_verify)
                hints.wake_counters(tenant_id)
            if found.state == "failed":
                sys.exit(1)
    finally:
        engine.dispose()


def _format_of(file: str) -> str:
    ending = Path(file.removesuffix(".gz")).suffix.lower()
    if ending == ".json":
        raise InvalidInputError(
            "a JSON document is not read line by line: make NDJSON of it first, for instance by"
            " jq -c '.events[]' file.json > file.ndjson"
        )
    if ending not in _ENDINGS:
        raise InvalidInputError("say --format csv or --format ndjson: the name does not")
    return _ENDINGS[ending]


def _name_of(file: str) -> str | None:
    return None if file == "-" else file.rstrip("/").rpartition("/")[2][:255]


@contextmanager
def _opened(file: str, config: Config) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """(pieces of the file, its size as far as it is known)."""
    if file.startswith(s3.SCHEME):
        with s3.opened(file, config) as found:
            yield found
    elif file == "-":
        yield of_file(sys.stdin.buffer), None
    else:
        try:
            size = Path(file).stat().st_size
            local = Path(file).open("rb")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise InvalidInputError(f"{file}: {error.strerror or error}") from None
        with local:
            yield of_file(local), size


def _receive(
    session: Session, tenant_id: str, wanted: uploads.Wanted, file: str, config: Config
) -> str:
    """Keep the file as it comes, and give the id under which."""
    with _opened(file, config) as (pieces, size):
        tenants.get(session, tenant_id)
        with unit_of_work(session):
            made = uploads.create(session, tenant_id, wanted, actor=OPERATOR, now=clock.wall())
        backfill_id = made.backfill_id
        with _bar(size, "Receiving") as step:
            source = Source(_unpacked(_stepping(pieces, step)))
            why = spool.keep(session, made, source, clock=clock.wall, whole=lambda: None)
    if why is not None:
        raise InvalidInputError(f"{why} Nothing was imported; give the command again.")
    return backfill_id


def _stepping(pieces: Iterator[bytes], step: "click._termui_impl.ProgressBar[int]") -> (
    Iterator[bytes]
):  # fmt: skip
    for piece in pieces:
        step.update(len(piece))
        yield piece


def _unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    first = next(pieces, b"")
    whole = chain([first], pieces)
    return gunzip(whole) if first.startswith(_GZIP) else whole


def _read(session: Session, tenant_id: str, backfill_id: str) -> Backfill:
    """Read it to its end, or wait for whoever does; what has become of it."""

    @contextmanager
    def step_of() -> Iterator[tuple[Session, datetime]]:
        with unit_of_work(session):
            yield session, clock.wall()

    found = uploads.get(session, tenant_id, backfill_id)
    with Reader(tenant_id, backfill_id) as reader, _bar(found.bytes_received, "Reading") as step:
        done = 0
        while found.state in UNREAD:
            is_ours = advance(reader, step_of)
            session.expire_all()
            found = uploads.get(session, tenant_id, backfill_id)
            step.update(found.bytes_done - done)
            done = found.bytes_done
            session.rollback()
            if not is_ours and found.state in UNREAD:
                time.sleep(0.5)  # a worker of the installation has it
    return uploads.get(session, tenant_id, backfill_id)


def _bar(length: int | None, label: str) -> "click._termui_impl.ProgressBar[int]":
    return click.progressbar(length=length or 0, label=label, file=sys.stderr, show_pos=False)


def _tell(session: Session, found: Backfill, report: Path | None) -> None:
    if found.error is not None:
        click.echo(found.error, err=True)
        return
    click.echo(
        f"Read {found.lines_done:,} lines: {found.accepted:,} accepted, {found.duplicates:,}"
        f" duplicates, {found.failed:,} failed. The import is {found.backfill_id}."
    )
    if report is not None:
        _report(session, found, report)
    elif found.failed:
        for each in backfills.errors(session, found.tenant_id, found.backfill_id, limit=_SHOWN):
            click.echo(f"line {each.line}: {each.message}", err=True)
        more = found.failed - _SHOWN
        if more > 0:
            click.echo(f"… and {more:,} more; --errors FILE writes all of them.", err=True)


def _report(session: Session, found: Backfill, report: Path) -> None:
    tenant_id, backfill_id = found.tenant_id, found.backfill_id
    rows = map(presenters.csv_row, backfills.every_error(session, tenant_id, backfill_id))
    with report.open("w", encoding="utf-8", newline="") as out:
        out.writelines(csv_export.lines(presenters.CSV_HEADER, rows))
    click.echo(f"The lines that failed are in {report}.")
