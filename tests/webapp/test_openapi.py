"""The document that the server serves of itself is valid, and what it says is what happens."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import jsonschema
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.backtests import BASELINE, CANDIDATE
from tests.webapp.support import TS, event, ingest
from webapp import create_app, openapi
from webapp.config import Config

DOCUMENT = openapi.document(
    create_app(Config(database_url="postgresql+psycopg://", redis_url="redis://"))
)
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
for_each = pytest.mark.parametrize(("path", "method"), OPERATIONS)


def test_the_document_is_the_servers_own(client: FlaskClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.mimetype == "application/json"
    assert answer.get_json() == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_the_document_is_valid(described: Any) -> None:
    described.validate()
    identifiers = [DOCUMENT["paths"][path][method]["operationId"] for path, method in OPERATIONS]
    assert len(identifiers) == len(set(identifiers))


def test_every_component_is_a_good_json_schema() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert len(schemas) > 20
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", name
        required = set(schema.get("required", []))
        assert required <= set(schema["properties"]), name


def references(value: object) -> Iterable[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_names_on_the_wire_are_camel_case() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        for name in schema["properties"]:
            assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name), name


@for_each
def test_every_operation_is_described(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["summary"]
    assert operation["tags"]
    for status, response in operation["responses"].items():
        assert response["description"]
        if status >= "400":
            assert list(response["content"]) == ["application/problem+json"]
    if operation.get("security"):
        assert {"401", "403"} <= operation["responses"].keys()


def test_the_reference_page_shows_every_operation(client: FlaskClient) -> None:
    page = client.get("/docs").get_data(as_text=True)
    for path, _ in OPERATIONS:
        assert path in page


class Here:
    """The app as a browser on this machine reaches it; Werkzeug's plain client has no address."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return self.app.wsgi_app(environ | {"REMOTE_ADDR": "127.0.0.1"}, start)


@pytest.fixture(scope="module")
def described(app: Flask) -> Any:
    """The document as schemathesis reads it; requests go without a key."""
    generation = GenerationConfig(with_security_parameters=False)
    config = SchemathesisConfig(
        projects=ProjectsConfig(default=ProjectConfig(generation=generation))
    )
    ingest(app.test_client(), [event("t", ts=TS, idempotencyKey="k")])
    app.test_client().put("/v1/metrics/api_calls", json={"tenantId": "t"})
    return schemathesis.openapi.from_wsgi("/openapi.json", Here(app), config=config)


# What a schema cannot say of a value; without it nearly every request would end at the door.
HELP = {
    "tenantId": "t",
    "scopes": ["events:read"],
    "since": "-PT24H",
    "until": "now",
    "timezone": "UTC",
    "stripeCustomerId": "cus_1",
    "shadowStripeCustomerId": "cus_2",
    "stripeAccount": "acct_1",
    "usageItems": [{"metric": "m", "quantity": 1.5, "priceConfig": BASELINE}],
    "prices": [BASELINE, CANDIDATE],
    "currency": "usd",
    "aggregation": "count",
    "priceConfig": {"model": "per_unit", "currency": "usd", "unitPrice": 0.01},
    "delta": "-20",
    "active": False,
    "shadow": False,
}
REPRICED = [{"metric": "api_calls", "baseline": BASELINE, "candidate": CANDIDATE}]
DROPPED = (
    "cursor",
    "periodStart",
    "periodEnd",
    "startTime",
    "endTime",
    "step",
    "stripePrice",
    "effectiveUntil",
)
# What nobody can guess: it must be there before it can be read, ended or, by its id, edited.
REACHED_BY_NAME = [
    (path, m)
    for path, m in OPERATIONS
    if ("{" in path and m in ("get", "delete")) or path.endswith("_id}")
]

BY_ID = ("/rotate", "/duplicate", "/retry", "/approve", "/decline", "/revert")
# Nobody can guess a signature, a token or a code: each guess is refused, and
# only what was voided can be restored
# (tests/webapp/test_stripe_webhooks.py, tests/webapp/test_widget_tokens.py).
PROVEN = [
    ("/v1/stripe/webhook", "post"),
    ("/v1/widget/frames", "post"),
    ("/widget/session", "post"),
    ("/v1/events/restore", "post"),
]


def helped(case: Case) -> Case:
    """The case with a tenant, and with values whose form no schema can give."""
    operation = DOCUMENT["paths"][case.path][case.method.lower()]
    asks = any(parameter["in"] == "query" for parameter in operation["parameters"])
    for part in (case.query if asks else None, case.body):
        if isinstance(part, dict) and "events" not in part:
            part["tenantId"] = "t"
            part |= {name: value for name, value in HELP.items() if name in part}
            if case.path.endswith("/walk"):
                part["id"] = "k"
            if "backtests" in case.path and "metrics" in part:
                part |= {"metrics": REPRICED}
            if "adjustments" in case.path and "delta" in part:
                part["metric"] = "api_calls"
            if case.path.endswith("/void"):
                part["id"] = "k"
            for name in DROPPED:
                part.pop(name, None)
    return case


def try_out(described: Any, path: str, method: str, mode: GenerationMode, checks: list) -> int:
    """Send what the document allows (or forbids) and check the answers; how many were 2xx."""
    good, cases = 0, described[path][method.upper()].as_strategy(generation_mode=mode)

    @settings(
        derandomize=True, database=None, deadline=None, max_examples=30,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases.map(helped) if mode is GenerationMode.POSITIVE else cases)
    def conforms(case: Case) -> None:
        nonlocal good
        answer = case.call()
        case.validate_response(answer, checks=checks)
        good += answer.status_code < 300

    conforms()
    return good


@for_each
def test_what_the_document_allows_is_answered_as_it_says(
    described: Any, path: str, method: str
) -> None:
    good = try_out(
        described, path, method, GenerationMode.POSITIVE,
        [not_a_server_error, status_code_conformance, content_type_conformance,
         response_schema_conformance],
    )  # fmt: skip
    by_id = (path, method) in REACHED_BY_NAME or path.endswith(BY_ID)
    assert good or by_id or (path, method) in PROVEN


@for_each
def test_what_the_document_forbids_is_no_error_of_ours(
    described: Any, path: str, method: str
) -> None:
    operation = DOCUMENT["paths"][path][method]
    if not operation["parameters"] and "requestBody" not in operation:
        # Nothing can be asked wrongly.
        assert path.startswith(("/health", "/metrics")) or path.endswith("/statement/key")
        return
    try_out(described, path, method, GenerationMode.NEGATIVE, [not_a_server_error])
