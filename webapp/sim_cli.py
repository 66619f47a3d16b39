"""`stripemeter sim`: price scenario files, and fail a build where they come to something else.

Needs no database, no Redis and no network.
"""

import sys
from pathlib import Path
from typing import NoReturn

import click

from pricing import diagnosis, scenario
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
    scenarios, unreadable = _read_all(places)
    mistakes = [
        f"{path}: {each.name}: {_placed(error)}"
        for path, each in scenarios
        for error in _errors(each)
    ]
    for mistake in mistakes:
        click.echo(mistake)
    if unreadable:
        sys.exit(UNREADABLE)
    if mistakes:
        sys.exit(DIFFERS)
    count = len(scenarios)
    click.echo(f"{count} scenario{'' if count == 1 else 's'}, all good.")


def _errors(each: Scenario) -> list[PricingError]:
    """Everything that is wrong with the input; else what is wrong with what it expects."""
    found = diagnosis.errors(each.given, "input")
    refusal = None if found else scenario.run(each).error
    return found if refusal is None else [refusal]


@sim.command()
@_PLACES
@_FORMAT
@_FAIL
def run(places: tuple[str, ...], form: str, fail_on_diff: bool) -> None:
    """Price the scenarios and print what they came to."""
    ran, unreadable = _ran(places)
    click.echo(sim_reports.FORMATS[form](ran))
    _judge(ran, unreadable, fail_on_diff)


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
    ran, unreadable = _ran(places)
    text = sim_reports.FORMATS[form](ran)
    if output is None:
        click.echo(text)
    else:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            _end(f"{output}: {error.strerror or error}", UNREADABLE)
        click.echo(f"{sim_reports.summary(ran)} Written to {output}.")
    _judge(ran, unreadable, fail_on_diff)


def _files(places: tuple[str, ...]) -> list[Path]:
    try:
        return sim_files.found(places)
    except sim_files.UnreadableError as error:
        _end(str(error), UNREADABLE)


def _read_all(places: tuple[str, ...]) -> tuple[list[tuple[Path, Scenario]], bool]:
    """The scenarios of every file that can be read; whether one could not, which is said."""
    found: list[tuple[Path, Scenario]] = []
    unreadable = False
    for path in _files(places):
        try:
            document = sim_files.document(path)
            found += [(path, each) for each in scenario.read(document, _stem(path))]
        except sim_files.UnreadableError as error:
            click.echo(str(error), err=True)
            unreadable = True
        except PricingError as error:
            click.echo(f"{path}: {_placed(error)}", err=True)
            unreadable = True
    return found, unreadable


def _stem(path: Path) -> str:
    name = path.name
    for ending in sim_files.ENDINGS:
        name = name.removesuffix(ending)
    return name if name.isprintable() else "scenario"


def _ran(places: tuple[str, ...]) -> tuple[list[Ran], bool]:
    scenarios, unreadable = _read_all(places)
    return [Ran(str(path), scenario.run(each)) for path, each in scenarios], unreadable


def _judge(ran: list[Ran], unreadable: bool, fail_on_diff: bool) -> None:
    """2 where a file could not be read, 1 where something has no price; where something differs,
    1 if that is asked for."""
    if unreadable:
        sys.exit(UNREADABLE)
    states = {each.outcome.state for each in ran}
    if "error" in states or (fail_on_diff and "differs" in states):
        sys.exit(DIFFERS)


def _placed(error: PricingError) -> str:
    """`/input/usageItems/0/quantity must not be negative`."""
    return f"/{error.field} {error.reason}" if error.field else error.reason


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(code)
