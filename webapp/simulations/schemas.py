"""The form of what-if: invoices, comparisons, and scenarios saved under a name.

Prices and quantities are read by `pricing`, which names what is wrong with them to the field; the
schemas here describe them and see to it that their texts can be stored and answered.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load, validate

from metering.billing import simulations
from pricing import comparison
from pricing.money import currencies
from webapp.wire import TextField, WireSchema, check_text

TENANT = {"description": "required without a key, where something of a tenant's is touched"}
MAX_DEPTH = 32

_NUMBER = {"type": ["number", "string", "null"], "description": "exact: 0.1 is one tenth"}
_TEXT = {"type": ["string", "null"]}
_TIER = {
    "type": "object",
    "required": ["upTo"],
    "properties": {
        "upTo": _NUMBER | {"description": "inclusive; null in the last tier"},
        "unitPrice": _NUMBER,
        "flatPrice": _NUMBER,
    },
}
PRICE: dict[str, Any] = {
    "type": "object",
    "description": "a price in major units, or a Stripe Price object",
    "properties": {
        "model": {"type": "string", "description": "tiered, graduated, volume, package, per_unit"
                  " or flat"},
        "currency": {"type": "string", "enum": [each.code for each in currencies()]},
        "unitPrice": _NUMBER,
        "flatPrice": _NUMBER,
        "packageSize": {"type": ["integer", "null"]},
        "tiers": {"type": ["array", "null"], "items": _TIER},
        "minimumCharge": _NUMBER,
        "maximumCharge": _NUMBER,
        "freeUnits": _NUMBER,
    },
}  # fmt: skip
_ITEM = {
    "type": "object",
    "required": ["metric", "quantity"],
    "properties": {
        "metric": {"type": "string", "maxLength": 100},
        "quantity": _NUMBER,
        "priceConfig": PRICE,
        "stripePrice": {"type": ["object", "null"]},
    },
}
_AMOUNTS = {"type": ["array", "number", "string", "null"], "items": {"type": "object"}}


class ExactSchema(WireSchema):
    """Parts of it are read by `pricing`: their texts are checked here, however deep they lie."""

    @pre_load
    def check_texts(self, data: Mapping[str, Any], **kwargs: Any) -> Mapping[str, Any]:
        waiting: list[tuple[tuple[Any, ...], Any]] = [((), data)]
        while waiting:
            path, value = waiting.pop()
            if isinstance(value, str):
                _check(value, path)
            elif isinstance(value, dict | list):
                if len(path) >= MAX_DEPTH:
                    raise _at(path[:1], "is nested too deeply")
                inner = value.items() if isinstance(value, dict) else enumerate(value)
                for name, each in inner:
                    if isinstance(name, str):
                        _check(name, path)
                    waiting.append(((*path, name), each))
        return data


def _check(text: str, path: tuple[Any, ...]) -> None:
    try:
        check_text(text)
    except ValidationError as error:
        raise _at(path, str(error.messages[0])) from None


def _at(path: tuple[Any, ...], message: str) -> ValidationError:
    messages: Any = [message]
    for name in reversed(path):
        messages = {name: messages}
    return ValidationError(messages)


def _raw(described: Mapping[str, Any], *, required: bool = False) -> fields.Raw:
    """A field that `pricing` reads, described by JSON schema; its plugin adds "null" itself."""
    kinds = described["type"]
    if isinstance(kinds, list):
        kinds = [kind for kind in kinds if kind != "null"]
    metadata = {**described, "type": kinds}
    return fields.Raw(required=required, allow_none=not required, metadata=metadata)


# Names stay in camelCase on this side: `pricing` names them in its refusals as they were sent.
ScenarioSchema: type[Schema] = ExactSchema.from_dict(
    {
        "tenant_id": TextField(metadata=TENANT),
        "customerId": _raw(_TEXT),
        "periodStart": _raw(_TEXT),
        "periodEnd": _raw(_TEXT),
        "currency": _raw(_TEXT),
        "usageItems": _raw({"type": "array", "items": _ITEM, "maxItems": 1000}, required=True),
        "commitments": _raw(_AMOUNTS),
        "minimumCommitment": _raw(_NUMBER),
        "credits": _raw(_AMOUNTS),
        "discounts": _raw({"type": ["array", "null"], "items": {"type": "object"}}),
        "taxRate": _raw(_NUMBER | {"description": "percent"}),
        "taxBehavior": _raw(_TEXT),
        "taxRounding": _raw(_TEXT),
        "discountResidue": _raw(_TEXT),
    },
    name="ScenarioSchema",
)
ComparisonSchema: type[Schema] = ExactSchema.from_dict(
    {
        "tenant_id": TextField(metadata=TENANT),
        "prices": _raw(
            {"type": "array", "items": PRICE, "minItems": 1, "maxItems": comparison.MAX_PRICES},
            required=True,
        ),
        "quantity": _raw(_NUMBER),
        "quantities": _raw({"type": ["array", "null"], "items": _NUMBER}),
        "upTo": _raw(_NUMBER | {"description": "where the curves end"}),
        "points": _raw({"type": ["integer", "null"]}),
    },
    name="ComparisonSchema",
)


class InvoiceAnswerSchema(WireSchema):
    """An invoice: decimal strings in major units, each total also in minor ones."""

    currency = fields.String(required=True)
    line_items = fields.List(fields.Dict(), required=True)
    subtotal = fields.String(required=True)
    subtotal_minor = fields.Integer(required=True)
    discounts = fields.String(required=True)
    discounts_minor = fields.Integer(required=True)
    credits = fields.String(required=True)
    credits_minor = fields.Integer(required=True)
    tax = fields.String(required=True)
    tax_minor = fields.Integer(required=True)
    total = fields.String(required=True)
    total_minor = fields.Integer(required=True)
    applied_discounts = fields.List(fields.Dict(), required=True)
    applied_credits = fields.List(fields.Dict(), required=True)


class ComparisonAnswerSchema(WireSchema):
    """Prices side by side. cheaper, than: positions in `prices`."""

    currency = fields.String(required=True)
    up_to = fields.String(required=True)
    prices = fields.List(fields.Dict(), required=True)
    crossovers = fields.List(fields.Dict(), required=True)


_KIND = validate.OneOf(simulations.KINDS)


class NewSimulationSchema(ExactSchema):
    """A scenario to be kept."""

    tenant_id = TextField(metadata=TENANT)
    name = TextField(required=True, validate=validate.Length(min=1, max=simulations.MAX_NAME))
    kind = fields.String(load_default="invoice", validate=_KIND)
    document = fields.Dict(
        required=True, metadata={"description": "any JSON object of at most 64 KiB"}
    )


class SimulationChangesSchema(ExactSchema):
    """What is to change; what is not named stays."""

    tenant_id = TextField(metadata=TENANT)
    name = TextField(validate=validate.Length(min=1, max=simulations.MAX_NAME))
    document = fields.Dict()


class CopySchema(ExactSchema):
    """The copy's name, where it is not to be `… (copy)`."""

    tenant_id = TextField(metadata=TENANT)
    name = TextField(validate=validate.Length(min=1, max=simulations.MAX_NAME))


class SimulationsQuerySchema(WireSchema):
    """Which scenarios, from where on."""

    tenant_id = TextField(metadata=TENANT)
    kind = fields.String(validate=_KIND)
    limit = fields.Integer(load_default=25, validate=validate.Range(min=1, max=100))
    cursor = TextField(validate=validate.Length(max=4000))


class ListedSimulationSchema(WireSchema):
    """A saved scenario without its document."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    kind = fields.String(required=True, validate=_KIND)
    created_by = fields.String(required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})


class SimulationSchema(ListedSimulationSchema):
    """A saved scenario; the document's digits are those that were saved."""

    document = fields.Dict(required=True)


class SimulationsAnswerSchema(WireSchema):
    """A page of scenarios, the last touched first."""

    simulations = fields.List(fields.Nested(ListedSimulationSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
