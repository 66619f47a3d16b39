"""To whom a Stripe account belongs: to one tenant in the whole installation.

Nothing is called, sent or read for an account that is not bound to the tenant in question; and a
tenant never learns whose an account is that is not its own.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from metering import installation
from metering.errors import ConflictError

AUTOMATIC = "the installation's only tenant"


def bind(
    session: Session, tenant_id: str, account_id: str, *, bound_by: str, now: datetime
) -> None:
    """Bind the account to the tenant; again is no mistake.

    Raises: ConflictError if it belongs to another tenant, naming nothing of that one.
    """
    owner = installation.bind_account(session, account_id, tenant_id, bound_by=bound_by, now=now)
    if owner != tenant_id:
        raise ConflictError(_FOREIGN.format(account=account_id), pointer="/stripeAccount")


def tenant_of(session: Session, account_id: str) -> str | None:
    """The tenant that the account belongs to, or None where it is bound to nobody."""
    return installation.tenant_of_account(session, account_id)


def ensure_bound(session: Session, tenant_id: str, account_id: str, *, now: datetime) -> str | None:
    """Bind a free account by itself where there is no other tenant that it could belong to.

    Returns: None once the account is the tenant's; else the sentence that says why it is not.
    """
    owner = tenant_of(session, account_id)
    if owner is None and installation.only_tenant(session) == tenant_id:
        owner = installation.bind_account(
            session, account_id, tenant_id, bound_by=AUTOMATIC, now=now
        )
    if owner == tenant_id:
        return None
    sentence = _FREE if owner is None else _FOREIGN
    return sentence.format(account=account_id)


_FREE = (
    "the Stripe account {account} is not bound to this tenant: an operator binds it with"
    " `stripemeter stripe bind`"
)
_FOREIGN = (
    "the Stripe account {account} cannot be used: it is bound to another tenant of this"
    " installation, and an account belongs to one only"
)
