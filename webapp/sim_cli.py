"""`stripemeter sim`: price scenario files, and fail a build where they come to something else.

Needs no database, no Redis and no network.
"""

import sys
from pathlib import Path
from typing import NoReturn

import click

from pricing import scenario
from pricing.errors import PricingError
from pricing.scenario import Scenario
from webapp import sim_files, sim_reports
from webapp.sim_reports import Ran

UNREADABLE, DIFFERS = 2, 1


@click.group()
def sim() -> None:
    """Price scenario files (*.sim.json, *.sim.yaml) and compare with what they expect."""


_PLACES = click.argument("places", nargs=-1, required=True)
_FORMAT = click.option(
    "--format", "form", type=click.Choice(list(sim_reports.FORMATS)), default="table",
    show_default=True,
)  # fmt: skip
_FAIL = click.option(
    "--fail-on-diff",
    is_flag=True,
    help="End with 1 if a scenario differs or cannot be priced.",
)


@sim.command()
@_PLACES
def validate(places: tuple[str, ...]) -> None:
    """Say of every file whether it can be priced, and where it is wrong."""
    count, mistakes = 0, 0
    for path in _files(places):
        try:
            scenarios = _read(path)
        except PricingError as error:
            click.echo(f"{path}: {_placed(error)}")
            mistakes += 1
            continue
        for each in scenarios:
            count += 1
            refusal = scenario.run(each).error
            if refusal is not None:
                click.echo(f"{path}: {each.name}: {_placed(refusal)}")
                mistakes += 1
    if mistakes:
        _end(f"{mistakes} of the scenarios cannot be used.", DIFFERS)
    click.echo(f"{count} scenario{'' if count == 1 else 's'}, all good.")


@sim.command()
@_PLACES
@_FORMAT
@_FAIL
def run(places: tuple[str, ...], form: str, fail_on_diff: bool) -> None:
    """Price the scenarios and print what they came to."""
    ran = _ran(places)
    click.echo(sim_reports.FORMATS[form](ran))
    _judge(ran, fail_on_diff)


@sim.command()
@_PLACES
@click.option(
    "--format", "form", type=click.Choice(list(sim_reports.FORMATS)), default="html",
    show_default=True,
)  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Not to stdout.")
@_FAIL
def report(places: tuple[str, ...], form: str, output: Path | None, fail_on_diff: bool) -> None:
    """Write a report on the scenarios."""
    ran = _ran(places)
    text = sim_reports.FORMATS[form](ran)
    if output is None:
        click.echo(text)
    else:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            _end(f"{output}: {error.strerror or error}", UNREADABLE)
        click.echo(f"{sim_reports.summary(ran)} Written to {output}.")
    _judge(ran, fail_on_diff)


def _files(places: tuple[str, ...]) -> list[Path]:
    try:
        return sim_files.found(places)
    except sim_files.UnreadableError as error:
        _end(str(error), UNREADABLE)


def _read(path: Path) -> list[Scenario]:
    try:
        document = sim_files.document(path)
    except sim_files.UnreadableError as error:
        _end(str(error), UNREADABLE)
    name = path.name
    for ending in sim_files.ENDINGS:
        name = name.removesuffix(ending)
    return scenario.read(document, name)


def _ran(places: tuple[str, ...]) -> list[Ran]:
    ran = []
    for path in _files(places):
        try:
            scenarios = _read(path)
        except PricingError as error:
            _end(f"{path}: {_placed(error)}", UNREADABLE)
        ran += [Ran(str(path), scenario.run(each)) for each in scenarios]
    return ran


def _judge(ran: list[Ran], fail_on_diff: bool) -> None:
    if fail_on_diff and any(each.outcome.state in ("differs", "error") for each in ran):
        sys.exit(DIFFERS)


def _placed(error: PricingError) -> str:
    """`/input/usageItems/0/quantity must not be negative`."""
    return f"/{error.field} {error.reason}" if error.field else error.reason


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(code)
