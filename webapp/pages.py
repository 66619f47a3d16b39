"""What pages for signed-in people share: who is there, and how a page goes out."""

from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Response, g, make_response, render_template, request

from webapp import auth
from webapp.problems import ProblemError

# Whose the sandbox's pages are where nobody says.
SANDBOX_TENANT = "demo"


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page. csrf: the form token of a session, None in the sandbox.

    in_query: what links within the page must carry: the sandbox's user belongs to every tenant,
    so that its pages name the one they are about.
    """

    tenant_id: str
    actor: str
    csrf: str | None
    scopes: frozenset[str]
    in_query: dict[str, str]

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def link(self, path: str, query: str = "") -> str:
        """An address within the pages."""
        parts = [part for part in (urlencode(self.in_query), query) if part]
        return f"{path}?{'&'.join(parts)}" if parts else path


def visitor(scope: str) -> Visitor:
    """The person, if they may. Raises: ProblemError 401 or 403, ForbiddenError for a foreign
    tenant."""
    caller = auth.principal(forms=True)
    if not caller.may(scope):
        raise ProblemError(403, f"Your role lacks the scope {scope}.")
    named = request.args.get("tenantId")
    in_sandbox = caller.tenant_id is None
    tenant_id = auth.tenant(named or (SANDBOX_TENANT if in_sandbox else None))
    return Visitor(
        tenant_id=tenant_id,
        actor=caller.actor,
        csrf=auth.csrf_token(caller.session_token) if caller.session_token else None,
        scopes=caller.scopes,
        in_query={"tenantId": tenant_id} if in_sandbox else {},
    )


def render(template: str, status: int = 200, **context: object) -> Response:
    """A page that is not kept: it shows a tenant's own."""
    response = make_response(render_template(template, **context), status)
    response.headers["Cache-Control"] = "no-store"
    # Forms must be able to say which page they were sent from; other sites learn nothing.
    response.headers["Referrer-Policy"] = "same-origin"
    # The same address is a whole page to a person and a part of one to a script.
    response.vary.add("HX-Request")
    return response


def is_partial() -> bool:
    """True if a script of ours asks, to put the answer into the page."""
    return request.headers.get("HX-Request") == "true"


def refused(error: ProblemError) -> Response:
    """A refusal as a page: what happened and what to do."""
    return render("refused.html", error.status, error=error, request_id=g.get("request_id"))
