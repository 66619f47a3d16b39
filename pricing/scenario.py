"""Scenarios: a pricing input with what it is expected to come to, for the command line and CI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pricing.errors import PricingError
from pricing.numbers import EXACT, MAX_QUANTITY, ZERO, bounded
from pricing.reading import Members
from pricing.simulator import InvoiceSimulator

TOTALS = ("subtotal", "discounts", "credits", "tax", "total")
_LEAST = -MAX_QUANTITY


@dataclass(frozen=True, slots=True)
class Expected:
    """What one figure should be. what: `total`, or `lineItems/0 (api_calls)`. Major units."""

    what: str
    position: int | None
    value: Decimal


@dataclass(frozen=True, slots=True)
class Scenario:
    """A pricing input under a name.

    at: where it stands in its file.
    absolute, percent: by how much a figure may differ from the expected one; the wider counts.
    """

    name: str
    description: str
    given: Mapping[str, Any]
    at: str = ""
    expected: tuple[Expected, ...] = ()
    absolute: Decimal = ZERO
    percent: Decimal = ZERO

    def within(self, name: str) -> str:
        """The path of one of its members."""
        return f"{self.at}/{name}" if self.at else name


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure beside what was expected of it, major units."""

    what: str
    expected: Decimal
    actual: Decimal
    is_within: bool

    @property
    def by(self) -> Decimal:
        return EXACT.subtract(self.actual, self.expected)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario came to: a result, or the reason why there is none."""

    scenario: Scenario
    result: Mapping[str, Any] | None
    error: PricingError | None = None
    differences: tuple[Difference, ...] = field(default=())

    @property
    def state(self) -> str:
        """`error`, `differs`, `agrees`, or `no expectation`."""
        if self.error is not None:
            return "error"
        if not self.differences:
            return "no expectation"
        return "agrees" if all(each.is_within for each in self.differences) else "differs"


def read(document: Any, name: str) -> tuple[list[Scenario], list[PricingError]]:
    """The scenarios of one file's document, and why the others in it cannot be read.

    document: a scenario itself, or several under `scenarios`.
    name: what a scenario without one is called.
    Raises: PricingError if it holds none.
    """
    members = Members(document)
    if not members.says("scenarios"):
        return [_scenario(document, "", name)], []
    given = members.items("scenarios", most=1000)
    members.finish()
    if not given:
        raise PricingError("scenarios", "is empty")
    found, refused = [], []
    for i, each in enumerate(given):
        try:
            found.append(_scenario(each, f"scenarios/{i}", f"{name} #{i + 1}"))
        except PricingError as error:
            refused.append(error)
    return found, refused


def _scenario(given: Any, path: str, name: str) -> Scenario:
    members = Members(given, path)
    inputs = members.needed("input")
    if not isinstance(inputs, Mapping):
        raise PricingError(members.at("input"), "must be an object")
    tolerated = members.take("tolerances")
    tolerances = Members({} if tolerated is None else tolerated, members.at("tolerances"))
    scenario = Scenario(
        name=_name(members) or name,
        description=members.text("description", most=2000) or "",
        given=inputs,
        at=path,
        expected=_expected(members),
        absolute=tolerances.number("absolute") or ZERO,
        percent=tolerances.number("percent") or ZERO,
    )
    tolerances.finish()
    members.finish()
    return scenario


def _name(members: Members) -> str | None:
    """A name that a terminal prints as it is: no line breaks, no escape codes."""
    name = members.text("name", most=200)
    if name is not None and not name.isprintable():
        raise PricingError(members.at("name"), "holds characters that cannot be printed")
    return name


def _expected(members: Members) -> tuple[Expected, ...]:
    given = members.take("expected")
    if given is None and not members.says("expected"):
        return ()
    if given is None:
        raise PricingError(members.at("expected"), "expects nothing")
    inner = Members(given, members.at("expected"))
    found = [
        Expected(name, None, value)
        for name in TOTALS
        if (value := inner.number(name, least=_LEAST)) is not None
    ]
    for i, line in enumerate(inner.items("line_items")):
        item = Members(line, f"{inner.at('line_items')}/{i}")
        total = bounded(item.needed("total"), item.at("total"), least=_LEAST)
        metric = item.text("metric")
        found.append(Expected(f"lineItems/{i}" + (f" ({metric})" if metric else ""), i, total))
        item.finish()
    inner.finish()
    if not found:
        raise PricingError(members.at("expected"), "expects nothing")
    return tuple(found)


def run(scenario: Scenario) -> Outcome:
    """Simulate and compare. A refusal is an outcome; its field is a path in the file."""
    try:
        result = InvoiceSimulator().simulate(scenario.given)
    except PricingError as error:
        return Outcome(scenario, None, error.within(scenario.within("input")))
    try:
        differences = tuple(_compared(scenario, each, result) for each in scenario.expected)
    except PricingError as error:
        return Outcome(scenario, result, error.within(scenario.within("expected")))
    return Outcome(scenario, result, differences=differences)


def _compared(scenario: Scenario, expected: Expected, result: Mapping[str, Any]) -> Difference:
    if expected.position is None:
        actual = Decimal(result[expected.what])
    else:
        lines, at = result["lineItems"], f"lineItems/{expected.position}"
        if expected.position >= len(lines):
            raise PricingError(at, f"has nothing to compare: the invoice has {len(lines)} items")
        line = lines[expected.position]
        if expected.what not in (f"lineItems/{expected.position}", _named(expected, line)):
            raise PricingError(at, f"names another metric than the invoice: {line['metric']!r}")
        actual = Decimal(line["total"])
    share = EXACT.scaleb(EXACT.multiply(abs(expected.value), scenario.percent), -2)
    allowed = max(scenario.absolute, share)
    distance = abs(EXACT.subtract(actual, expected.value))
    return Difference(expected.what, expected.value, actual, distance <= allowed)


def _named(expected: Expected, line: Mapping[str, Any]) -> str:
    return f"lineItems/{expected.position} ({line['metric']})"
