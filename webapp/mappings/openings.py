"""A mapping and Stripe: what is asked before it is made, and what follows once it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import g
from sqlalchemy.orm import Session

from metering.catalog import places
from metering.catalog.models import MetricMapping
from metering.database import after_commit, unit_of_work
from metering.stripe import opening, readiness, schedules, unsent
from metering.stripe.faults import StripeFault
from metering.stripe.opening import Question, Totals
from metering.stripe.readiness import Standings
from metering.tenancy import tenants
from webapp import auth, runtime, stripe_access
from webapp.extensions import db
from webapp.problems import ProblemError

# What a change must name to be judged anew: one whose meter is broken may still be ended.
JUDGED = {
    *places.NAMES, "stripe_account", "shadow_stripe_account", "effective_from", "is_active",
    "is_shadow",
}  # fmt: skip
Opening = tuple[Sequence[Question], Totals]


def asked(tenant_id: str, wanted: Mapping[str, Any]) -> Opening:
    """What Stripe has of a new mapping's past. No transaction is open while it is asked.

    Raises: ProblemError 503 if Stripe does not answer.
    """
    config = runtime.current().config
    if not ("effective_from" in wanted and any(wanted.get(name) for name in places.NAMES)):
        return (), {}
    with unit_of_work(db.session()) as session:
        auth.ensure_tenant(session, tenant_id)
        why_not = _why_not(session, tenant_id)
        questions = opening.questions(
            session,
            tenant_id,
            wanted,
            default_account=config.stripe_account,
            modes=[mode for mode in ("live", "test") if why_not(mode) is None],
            now=g.now,
        )
    if not questions:
        return (), {}
    try:
        return questions, opening.ask(stripe_access.driver(config), questions)
    except StripeFault as fault:
        detail = f"what Stripe has of the time since effectiveFrom cannot be read: {fault.message}"
        raise ProblemError(503, detail, headers={"Retry-After": "10"}) from None


def check(session: Session, mapping: MetricMapping) -> None:
    """Refuse a mapping for what we know of Stripe."""
    own = runtime.current().config.stripe_account
    readiness.refuse(session, mapping, default_account=own, now=g.now)


def follow(session: Session, mapping: MetricMapping) -> None:
    """Let billing periods and pushes follow a mapping that was made, changed or ended."""
    hints = runtime.current().hints
    if not places.leads_somewhere(mapping):
        return
    tenant_id, metric = mapping.tenant_id, mapping.metric
    more = schedules.apply_for_metric(session, tenant_id, metric, now=g.now)
    unsent.mark_metric(session, tenant_id, metric, since=mapping.effective_from, now=g.now)
    if more is not None:
        after_commit(session, lambda: hints.apply_metric(tenant_id, metric, more))
    after_commit(session, lambda: hints.push(tenant_id))


def standings(session: Session, tenant_id: str, shown: Sequence[MetricMapping]) -> Standings:
    """How these mappings fare. shown: at least one."""
    return Standings(
        session,
        shown,
        default_account=runtime.current().config.stripe_account,
        why_not=_why_not(session, tenant_id),
        now=g.now,
    )


def _why_not(session: Session, tenant_id: str) -> Callable[[str], str | None]:
    config, tenant_mode = runtime.current().config, tenants.get(session, tenant_id).mode
    return lambda mode: stripe_access.why_not(config, mode, tenant_mode=tenant_mode)
