"""The front page of the sandbox, and the API's own description."""

from typing import Any

from flask import Blueprint, Response, current_app, g, redirect, render_template, request
from flask.typing import ResponseReturnValue

from metering import installation
from webapp import auth, openapi, runtime, wire
from webapp.extensions import db

blueprint = Blueprint("welcome", __name__)


@blueprint.get("/")
def front() -> ResponseReturnValue:
    """To the sandbox's user: what is running and where to look. To others: the console."""
    app_runtime = runtime.current()
    if auth.why_not_open(app_runtime.config, request) is not None:
        return redirect("/console", code=302)
    session = db.session()
    totals = installation.totals(session)
    return render_template(
        "welcome/front.html",
        totals=totals,
        tenants=installation.tenants(session),
        redis_answers=app_runtime.hints.is_answering(),
        workers=app_runtime.hints.workers(),
        address=request.host_url.rstrip("/"),
        now=g.now,
        demo=app_runtime.config.demo_url,
        stand_in=app_runtime.config.stripe_api_base,
    )


@blueprint.get("/openapi.json")
def description() -> Response:
    """The OpenAPI 3.1 document."""
    return wire.answer(_document())


@blueprint.get("/docs")
def reference() -> ResponseReturnValue:
    """The same as a page to read."""
    document = _document()
    # What a newcomer needs first comes first.
    tags: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
        tag: [] for tag in ("Events", "Usage", "Catalogue", "API keys", "Operations")
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method, path, operation))
    return render_template(
        "welcome/reference.html",
        document=document,
        tags=tags,
        schemas=document["components"]["schemas"],
    )


def _document() -> dict[str, Any]:
    extensions = current_app.extensions
    if "stripemeter-openapi" not in extensions:
        extensions["stripemeter-openapi"] = openapi.document(current_app._get_current_object())  # type: ignore[attr-defined]
    document: dict[str, Any] = extensions["stripemeter-openapi"]
    return document
