"""How a mapping stands with Stripe: what is refused when it is made, and how it fares since."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from metering.catalog import mappings, places
from metering.catalog.models import MetricMapping
from metering.errors import ConflictError, InvalidInputError
from metering.stripe import accounts
from metering.stripe.destinations import Atlas
from metering.stripe.models import Connection

STATES = (
    "off",
    "no_key",
    "unbound",
    "unmapped_meter",
    "meter_refused",
    "ready",
    "sending",
    "halted",
)
# A meter that would lose what is sent to it, or count it: the mapping is refused with the reason.
REFUSED = ("meter_window", "meter_formula", "meter_inactive")
_OF_OBSTACLES = {
    "no_account": "unbound",
    "unbound": "unbound",
    "no_meter": "unmapped_meter",
    **dict.fromkeys(REFUSED, "meter_refused"),
}

# Why a mode cannot be called at all; None: it can.
WhyNot = Callable[[str], str | None]


@dataclass(frozen=True)
class Standing:
    """state: one of STATES.  reason: the sentence."""

    state: str
    reason: str


def refuse(
    session: Session, mapping: MetricMapping, *, default_account: str | None, now: datetime
) -> None:
    """Refuse a mapping that was just made or changed, for what we know of Stripe.

    Raises: ConflictError for a foreign account, and for a meter that would lose what is sent.
            InvalidInputError for a beginning within an hour: usage goes out by the hour.
    """
    for name, pointer in (
        ("stripe_account", "/stripeAccount"),
        ("shadow_stripe_account", "/shadowStripeAccount"),
    ):
        account_id = getattr(mapping, name)
        if account_id is not None:
            _refuse_foreign(session, mapping.tenant_id, account_id, pointer, now)
    if default_account is not None:
        accounts.ensure_bound(session, mapping.tenant_id, default_account, now=now)
    if not places.leads_somewhere(mapping):
        return
    if mapping.effective_from != mappings.next_full_hour(mapping.effective_from):
        raise InvalidInputError(
            "must be a full hour in UTC where usage goes to Stripe", pointer="/effectiveFrom"
        )
    atlas = _atlas(session, mapping, default_account)
    for mode in _modes(mapping):
        if not atlas.leads_anywhere(mode, mapping) or (mode == "live" and atlas.is_test_tenant):
            continue
        obstacle = atlas.obstacle(mode, mapping)
        if obstacle is not None and obstacle.kind in REFUSED:
            raise ConflictError(obstacle.reason, pointer="/meterEventName")


class Standings:
    """How these mappings fare, from what was read for all of them at once."""

    def __init__(
        self,
        session: Session,
        shown: Sequence[MetricMapping],
        *,
        default_account: str | None,
        why_not: WhyNot,
        now: datetime,
    ) -> None:
        """shown: mappings of one tenant, at least one."""
        tenant_id = shown[0].tenant_id
        self._why_not = why_not
        self._atlas = Atlas(
            session,
            tenant_id,
            [each.customer_ref for each in shown if each.customer_ref is not None],
            [each.metric for each in shown],
            default_account=default_account,
        )
        halted = session.scalars(
            select(Connection).where(
                Connection.tenant_id == tenant_id, Connection.halted_until > now
            )
        )
        self._halted = {(row.mode, row.account_id): row.halted_reason for row in halted}

    def of(self, mapping: MetricMapping, mode: str) -> Standing:
        """How the mapping fares in a mode."""
        atlas = self._atlas
        if not (mapping.is_active if mode == "live" else mapping.is_shadow):
            return Standing("off", f"{'active' if mode == 'live' else 'shadow'} is false")
        if mode == "live" and atlas.is_test_tenant:
            return Standing("off", "a test tenant has no live destination")
        if not atlas.leads_anywhere(mode, mapping):
            return Standing("off", "the mapping names no meter or price of Stripe: it only prices")
        no_key = self._why_not(mode)
        if no_key is not None:
            return Standing("no_key", no_key)
        obstacle = atlas.obstacle(mode, mapping)
        if obstacle is not None:
            return Standing(_OF_OBSTACLES.get(obstacle.kind, "meter_refused"), obstacle.reason)
        account_id = atlas.account(mode, mapping.customer_ref or "", mapping) or ""
        if (mode, account_id) in self._halted:
            return Standing("halted", self._halted[mode, account_id] or "Stripe does not answer")
        if mapping.pushed_at is not None:
            return Standing("sending", "usage goes to Stripe")
        return Standing("ready", "usage will go to Stripe as soon as there is some")

    def warnings(self, mapping: MetricMapping) -> list[str]:
        """What people should know of a mapping, and what is not in its way."""
        found = []
        if mapping.is_shadow and not self._atlas.leads_anywhere("test", mapping):
            found.append("shadow is true, but the mapping names no meter that a test could go to")
        for mode in _modes(mapping):
            account_id = self._atlas.account(mode, mapping.customer_ref or "", mapping)
            if account_id and self._atlas.is_contradictory(mode, account_id, mapping):
                found.append("meterId and meterEventName name two different meters")
                break
        return found


def _refuse_foreign(
    session: Session, tenant_id: str, account_id: str, pointer: str, now: datetime
) -> None:
    """A free account may be named before it is bound; nothing is sent there until it is."""
    refused = accounts.ensure_bound(session, tenant_id, account_id, now=now)
    if refused is not None and accounts.tenant_of(session, account_id) is not None:
        raise ConflictError(refused, pointer=pointer)


def _modes(mapping: MetricMapping) -> list[str]:
    flags = (("live", mapping.is_active), ("test", mapping.is_shadow))
    return [mode for mode, is_on in flags if is_on]


def _atlas(session: Session, mapping: MetricMapping, default_account: str | None) -> Atlas:
    refs = [] if mapping.customer_ref is None else [mapping.customer_ref]
    return Atlas(
        session, mapping.tenant_id, refs, [mapping.metric], default_account=default_account
    )
