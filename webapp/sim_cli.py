"""`stripemeter sim`: price scenario files, and fail a build where they come to something else.

Needs no database, no Redis and no network.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import click

from pricing import diagnosis, scenario
from pricing.errors import PricingError
from pricing.scenario import Scenario
from webapp import sim_files, sim_page, sim_reports
from webapp.sim_reports import Ran, visible

UNREADABLE, DIFFERS = 2, 1
FORMATS = {
    "table": sim_reports.table,
    "json": sim_reports.as_json,
    "markdown": sim_reports.markdown,
    "html": sim_page.html,
}


@click.group()
def sim() -> None:
    """Price scenario files (*.sim.json, *.sim.yaml) and compare with what they expect.

    A place is a file, a folder, which is searched whole, or a quoted pattern. Ends with 2 if a
    file cannot be read as scenarios, and with 1 if a scenario has no price.
    """


_PLACES = click.argument("places", nargs=-1, required=True)
_FORMAT = click.Choice(list(FORMATS))
_FAIL = click.option(
    "--fail-on-diff",
    is_flag=True,
    help="End with 1 if a scenario differs from what it expects.",
)


@sim.command()
@_PLACES
def validate(places: tuple[str, ...]) -> None:
    """Say of every file whether it can be priced, and all that is wrong with it."""
    loaded = _load(places)
    mistakes = [
        f"{file.path}: {each.name}: {_placed(error)}"
        for file in loaded
        for each in file.scenarios
        for error in _errors(each)
    ]
    for mistake in mistakes:
        click.echo(visible(mistake))
    _complain(loaded)
    if mistakes:
        sys.exit(DIFFERS)
    count = sum(len(file.scenarios) for file in loaded)
    click.echo(f"{count} scenario{'' if count == 1 else 's'}, all good.")


def _errors(each: Scenario) -> list[PricingError]:
    """Everything that is wrong with the input; else what is wrong with what it expects."""
    found = diagnosis.errors(each.given, each.within("input"))
    refusal = None if found else scenario.run(each).error
    return found if refusal is None else [refusal]


@sim.command()
@_PLACES
@click.option("--format", "form", type=_FORMAT, default="table", show_default=True)
@_FAIL
def run(places: tuple[str, ...], form: str, fail_on_diff: bool) -> None:
    """Price the scenarios and print what they came to."""
    loaded = _load(places)
    ran = _run(loaded)
    click.echo(FORMATS[form](ran))
    _end_as(loaded, ran, fail_on_diff)


@sim.command()
@_PLACES
@click.option("--format", "form", type=_FORMAT, default="html", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Not to stdout.")
@_FAIL
def report(places: tuple[str, ...], form: str, output: Path | None, fail_on_diff: bool) -> None:
    """Write a report on the scenarios."""
    loaded = _load(places)
    ran = _run(loaded)
    text = FORMATS[form](ran)
    if output is None:
        click.echo(text)
    else:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            _end(f"{output}: {error.strerror or error}")
        click.echo(visible(f"{sim_reports.summary(ran)} Written to {output}."))
    _end_as(loaded, ran, fail_on_diff)


@dataclass(frozen=True)
class _File:
    """unreadable: why it holds neither JSON nor YAML.  mistakes: what of it is no scenario."""

    path: Path
    scenarios: list[Scenario] = field(default_factory=list)
    mistakes: list[PricingError] = field(default_factory=list)
    unreadable: str | None = None


def _load(places: tuple[str, ...]) -> list[_File]:
    try:
        return [_read(path) for path in sim_files.found(places)]
    except sim_files.UnreadableError as error:
        _end(str(error))


def _read(path: Path) -> _File:
    try:
        return _File(path, *scenario.read(sim_files.document(path), _stem(path)))
    except sim_files.UnreadableError as error:
        return _File(path, unreadable=str(error))
    except PricingError as error:
        return _File(path, mistakes=[error])


def _stem(path: Path) -> str:
    name = path.name
    for ending in sim_files.ENDINGS:
        name = name.removesuffix(ending)
    return visible(name)


def _run(loaded: Sequence[_File]) -> list[Ran]:
    return [Ran(str(file.path), scenario.run(each)) for file in loaded for each in file.scenarios]


def _end_as(loaded: Sequence[_File], ran: Sequence[Ran], fail_on_diff: bool) -> None:
    """2 where a file could not be read, 1 where something has no price; where something differs,
    1 if that is asked for."""
    _complain(loaded)
    states = {each.outcome.state for each in ran}
    if "error" in states or (fail_on_diff and "differs" in states):
        sys.exit(DIFFERS)


def _complain(loaded: Sequence[_File]) -> None:
    """Name what could not be read, after the results of what could: neither hides the other."""
    complaints = [file.unreadable for file in loaded if file.unreadable]
    complaints += [f"{file.path}: {_placed(each)}" for file in loaded for each in file.mistakes]
    for complaint in complaints:
        click.echo(visible(complaint), err=True)
    if complaints:
        sys.exit(UNREADABLE)


def _placed(error: PricingError) -> str:
    """`/input/usageItems/0/quantity must not be negative`."""
    return f"{sim_reports.pointer(error)} {error.reason}".lstrip()


def _end(sentence: str) -> NoReturn:
    click.echo(visible(sentence), err=True)
    sys.exit(UNREADABLE)
