"""POST /v1/widget/frames: a page's script gives a token and gets a frame that opens once."""

from typing import Any

from flask import Blueprint, Response, g, request
from sqlalchemy.orm import Session

from metering import installation
from metering.database import unit_of_work
from metering.tenancy import tenants, widgets
from metering.tenancy.models import WidgetToken
from webapp import auth, runtime, wire
from webapp.endpoint import Contract, endpoint
from webapp.extensions import db
from webapp.problems import ProblemError
from webapp.widget import door
from webapp.widget.schemas import CodeSchema, ExchangeSchema, OpenedSchema, RenewedSchema

blueprint = Blueprint("widget_frames", __name__)


@blueprint.post("/v1/widget/frames")
@endpoint(
    Contract(
        summary="Open a widget",
        scope=None,
        why_open="the token is the credential; the browser's Origin must be among the token's",
        body=ExchangeSchema,
        answer=OpenedSchema,
        answer_status=201,
        statuses=(400, 401, 403, 415, 422, 503),
        tag="Widget",
    )
)
def open_widget(body: dict[str, Any]) -> Response:
    """Called by widget.js. The frame's address works once, for 30 seconds."""
    origin = door.page_origin()
    with unit_of_work(db.session()) as session:
        opened = widgets.exchange(session, _token(session, body, origin), origin, now=g.now)
    answer = {
        "frameUrl": f"/widget/f/{opened.code}",
        "code": opened.code,
        "codeExpiresInSeconds": int(widgets.CODE_LIFETIME.total_seconds()),
        "expiresInSeconds": door.seconds_until(opened.token_ends_at),
    }
    return wire.answer(answer, 201)


def _token(session: Session, body: dict[str, Any], origin: str) -> WidgetToken:
    """The token that is given; in the sandbox one is made for whoever is named."""
    secret = body.get("token")
    if secret is not None:
        token = installation.widget_token(session, secret, now=g.now)
        if token is None:
            raise door.unknown_token()
        return token
    tenant_id, customer_ref = body.get("tenant_id"), body.get("customer_ref")
    if tenant_id is None or customer_ref is None:
        raise ProblemError(422, "token: is required", errors=[("/token", "is required")])
    reason = auth.why_not_open(runtime.current().config, request, from_any_port=True)
    if reason is not None:
        raise ProblemError(
            401,
            "Without a token a widget opens in the sandbox only, on the machine that it runs on:"
            f" have your backend make one. {reason}".strip(),
        )
    lateness = runtime.current().config.lateness_seconds
    tenants.ensure(
        session, tenants.check_id(tenant_id), mode="test", now=g.now, lateness_seconds=lateness
    )
    wanted = widgets.Wanted(customer_ref, origins=[origin])
    token, _ = widgets.mint(session, tenant_id, wanted, created_by="sandbox", now=g.now)
    return token


@blueprint.post("/widget/session")
@endpoint(
    Contract(
        summary="Renew an open widget",
        scope=None,
        why_open="the code is the credential: it works once, for 30 seconds",
        body=CodeSchema,
        answer=RenewedSchema,
        statuses=(400, 401, 415, 422, 503),
        tag="Widget",
    )
)
def renew(body: dict[str, Any]) -> Response:
    """Called by the frame, with a code that its page has got for a new token."""
    opened = door.spend(body["code"])
    if opened is None:
        raise door.unknown_code()
    seconds = door.seconds_until(opened.session.ends_at)
    return door.private(wire.answer({"session": opened.secret, "expiresInSeconds": seconds}))


@blueprint.after_request
def open_to_pages(response: Response) -> Response:
    if request.path == "/v1/widget/frames":
        door.open_to_pages(response)
    return response
