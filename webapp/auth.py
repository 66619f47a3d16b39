"""Who is asking, and the tenant wall.

A caller is known by an API key, by a console session, or — in the sandbox, under all of its
conditions — is whoever sits at this machine. Whatever a request names must belong to the
caller's tenant.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Request, g, request
from sqlalchemy.orm import Session

from metering import installation
from metering.errors import ForbiddenError, InvalidInputError
from metering.tenancy import keys, scopes, tenants
from webapp import runtime
from webapp.config import Config
from webapp.extensions import db
from webapp.problems import ProblemError

SESSION_COOKIE = "stripemeter_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")
FILE_TYPES = ("text/csv", "application/x-ndjson", "application/ndjson")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Principal:
    """The caller. `tenant_id` None: the sandbox's own user, to whom every tenant belongs."""

    tenant_id: str | None
    scopes: frozenset[str]
    actor: str
    session_token: str | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes


def principal(*, forms: bool = False) -> Principal:
    """The caller of this request. Raises ProblemError 401 or 403 if nobody may be.

    forms: the sandbox takes a form's body too, if the browser says that our own page sent it.
    """
    if "principal" not in g:
        g.principal = _from_key() or _from_session() or _from_sandbox(forms=forms)
        # The look-up's transaction ends here: a body that trickles in must not keep one open.
        db.session().rollback()
        g.tenant_id = g.principal.tenant_id
    caller: Principal = g.principal
    return caller


def tenant(named: str | None) -> str:
    """The tenant a request is about: the one it names, if the caller may name it.

    Raises: ForbiddenError for another tenant, InvalidInputError where none is named and the
            caller has none.
    """
    caller = principal()
    if named is not None:
        tenants.check_id(named)
    if caller.tenant_id is None:
        if named is None:
            raise InvalidInputError("tenantId is required", pointer="/tenantId")
        g.tenant_id = named
    elif named not in (None, caller.tenant_id):
        raise ForbiddenError("this key belongs to another tenant", pointer="/tenantId")
    else:
        g.tenant_id = caller.tenant_id
    tenant_id: str = g.tenant_id
    return tenant_id


def ensure_tenant(session: Session, tenant_id: str) -> None:
    """In the sandbox a tenant is made by being named; elsewhere the operator makes it."""
    if principal().tenant_id is None:
        lateness = runtime.current().config.lateness_seconds
        tenants.ensure(session, tenant_id, mode="test", now=g.now, lateness_seconds=lateness)


def csrf_token(session_token: str) -> str:
    """The form token of a session: derived, so that it needs no row of its own."""
    return hmac.new(session_token.encode(), b"csrf", hashlib.sha256).hexdigest()


def _from_key() -> Principal | None:
    token = _presented_key()
    if token is None:
        return None
    key_id = keys.key_id_of(token)
    candidates = installation.keys_by_id(db.session(), key_id) if key_id else []
    key = keys.matching(candidates, token, now=g.now)
    if key is None:
        raise ProblemError(
            401,
            "This API key is unknown, has expired or was revoked.",
            headers={"WWW-Authenticate": 'Bearer realm="stripemeter", error="invalid_token"'},
        )
    return Principal(key.tenant_id, frozenset(key.scopes), f"key:{key.key_id}")


def _presented_key() -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-api-key") or None


def _from_session() -> Principal | None:
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        return None
    found = installation.console_session(db.session(), token, now=g.now)
    if found is None:
        return None
    if request.method not in SAFE_METHODS and not _has_csrf_token(request, token):
        raise ProblemError(403, "The form's token is missing or old: reload the page.")
    return Principal(found.tenant_id, scopes.role(found.role), f"console:{found.role}", token)


def _has_csrf_token(asked: Request, session_token: str) -> bool:
    given = asked.headers.get(CSRF_HEADER) or asked.form.get(CSRF_FIELD) or ""
    return hmac.compare_digest(given.encode(), csrf_token(session_token).encode())


def _from_sandbox(*, forms: bool) -> Principal:
    config = runtime.current().config
    reason = why_not_open(config, request, forms=forms)
    if reason is not None:
        raise ProblemError(
            401,
            "Send an API key as `Authorization: Bearer sm_…` or `x-api-key: sm_…`. "
            f"{reason}".strip(),
            headers={"WWW-Authenticate": 'Bearer realm="stripemeter"'},
        )
    return Principal(None, scopes.ALL, "sandbox")


def why_not_open(
    config: Config, asked: Request, *, forms: bool = False, from_any_port: bool = False
) -> str | None:
    """Why this request may not do without a key; None if it may.

    from_any_port: pages may ask that another server on this machine has made.

    Every condition shuts out somebody: other machines, pages of other sites (`Origin`), names
    rebound to this machine (`Host`), forms that a page can post without asking (JSON and files of
    usage only), and a sandbox that could bill real people.
    """
    if not config.sandbox:
        return ""
    if config.stripe_live_key is not None:
        return "The sandbox is open without one only while no live Stripe key is configured."
    if not _is_loopback(config.bind_host) or not _is_loopback(asked.remote_addr or ""):
        return "The sandbox is open without one only on this machine."
    if (urlsplit(f"//{asked.host}").hostname or "") not in LOCAL_HOSTS:
        return "The sandbox is open without one only at localhost."
    origin = asked.headers.get("Origin")
    is_ours = origin in (None, f"{asked.scheme}://{asked.host}")
    if not is_ours and not (from_any_port and urlsplit(origin or "").hostname in LOCAL_HOSTS):
        return "The sandbox is not open to pages of another origin."
    # Browsers name the page that a form was sent from; an origin that is named was found our own.
    form_of_ours = forms and origin is not None
    takes = asked.is_json or _is_file(asked) or form_of_ours or _has_no_body(asked)
    if asked.method not in SAFE_METHODS and not takes:
        return "The sandbox takes only JSON bodies, CSV and NDJSON without one."
    return None


def _is_file(asked: Request) -> bool:
    """Types that no form can have, and for which a browser asks before another site's page may
    send them: they shut out whom JSON shuts out."""
    return asked.mimetype in FILE_TYPES


def _has_no_body(asked: Request) -> bool:
    return not asked.content_length and not asked.headers.get("Transfer-Encoding")


@lru_cache(maxsize=256)
def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
