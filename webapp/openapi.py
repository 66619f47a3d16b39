"""The OpenAPI document, generated from what the endpoints declare about themselves."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields
from werkzeug.routing import Rule

from webapp import wire
from webapp.endpoint import Contract
from webapp.ingest import schemas as ingest
from webapp.mappings.fields import PriceField

_DETAIL = {
    400: "The request cannot be read.",
    401: "No key, or one that is unknown, ended or revoked.",
    403: "The key lacks the scope or belongs to another tenant.",
    404: "There is no such thing in this tenant.",
    409: "Our present state forbids it.",
    413: "The request is too large.",
    415: "The body is of another type.",
    422: "The sender must change the request; `errors` names what.",
    503: "Try again after `Retry-After` seconds.",
}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "requestId": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


def operations(app: Flask) -> Iterator[tuple[Rule, str, Contract, str]]:
    """(rule, method, contract, view docstring) of every endpoint that declares a contract."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        contract = getattr(view, "contract", None)
        if contract is None:
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method.lower(), contract, view.__doc__ or ""


def document(app: Flask) -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="StripeMeter",
        version=_version(),
        openapi_version="3.1.0",
        info={"description": "Usage metering in which every event counts exactly once."},
        plugins=[plugin],
    )
    assert plugin.converter is not None
    plugin.converter.add_attribute_function(_exact_types)  # type: ignore[no-untyped-call]
    spec.components.schema("Problem", PROBLEM)
    for name in ("bearer", "header"):
        scheme = {"type": "http", "scheme": "bearer"}
        if name == "header":
            scheme = {"type": "apiKey", "in": "header", "name": "x-api-key"}
        spec.components.security_scheme(name, scheme)
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, contract, doc in operations(app):
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        identifier = f"{rule.endpoint.replace('.', '_')}_{method}"
        paths.setdefault(path, {})[method] = _operation(rule, contract, doc, identifier)
    for path, described in paths.items():
        spec.path(path=path, operations=described)
    return spec.to_dict()


def _operation(rule: Rule, contract: Contract, doc: str, identifier: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": identifier,
        "summary": contract.summary,
        "description": re.sub(r"\s+", " ", doc).strip(),
        "tags": [contract.tag],
        "parameters": _parameters(rule, contract),
        "responses": _responses(contract),
    }
    if contract.scope is not None:
        operation["security"] = [{"bearer": []}, {"header": []}]
        operation["description"] += f" Scope: `{contract.scope}`."
    content: dict[str, Any] = {}
    if contract.body is not None:
        content["application/json"] = {"schema": contract.body}
    for kind in contract.files:
        content[kind] = {"schema": {"type": "string"}}
    if content:
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(rule: Rule, contract: Contract) -> list[Any]:
    parameters: list[Any] = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in sorted(rule.arguments)
    ]
    parameters += [
        {"in": "header", "name": name, "description": text, "schema": {"type": "string"}}
        for name, text in contract.headers.items()
    ]
    if contract.query is not None:
        parameters.append({"in": "query", "schema": contract.query})
    return parameters


def _responses(contract: Contract) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done."}
    if contract.answer is not None:
        good["content"] = {contract.media_type: {"schema": contract.answer}}
    if contract.has_csv:
        good["content"]["text/csv"] = {"schema": {"type": "string"}}
    responses = {str(contract.answer_status): good}
    for status in contract.statuses:
        responses[str(status)] = {
            "description": _DETAIL[status],
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
    return responses


def _schema_name(schema: Any) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return cls.__name__.removesuffix("Schema")


def _exact_types(_: Any, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
    """The wire types of our own fields, which the plugin cannot know."""
    if isinstance(field, ingest.MetaField):
        return {"type": ["object", "null"], "additionalProperties": True}
    if isinstance(field, PriceField):
        return {"type": ["object", "null"], "additionalProperties": True}
    if isinstance(field, wire.FlagField):
        return {"type": "boolean"}
    if isinstance(field, wire.InstantField):
        kind = ["string", "null"] if field.allow_none else "string"
        return {"type": kind, "format": "date-time"}
    return {}


@cache
def _version() -> str:
    try:
        return version("stripemeter-server")
    except PackageNotFoundError:
        return "0.1.0"
