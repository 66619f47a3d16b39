"""Everything that looks across tenants, in one place.

A test walks the statements of the product and allows one without a tenant only here:

- a Stripe account tells whose it is;
- a webhook whose handling failed or was never begun is found by the sweep;
- the push job asks which tenants have something to tell Stripe;
- a credential is found by its public part or its hash, before anyone knows whose it is;
- the sweep and the fold jobs ask which tenants have work, and which back-tests and backfills wait;
- `/metrics` sums up, never by tenant;
- the operator's command line lists tenants;
- the clock asks which tenants have a period to close, and tells all of them how late is late;
- what has outlived its use is deleted.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import and_, delete, select, text
from sqlalchemy.orm import Session

from metering.catalog.models import Metric
from metering.ledger.models import KeyedRequest
from metering.tenancy import widgets
from metering.tenancy.keys import digest
from metering.tenancy.models import (
    ApiKey,
    ConsoleLink,
    ConsoleSession,
    Tenant,
    WidgetFrame,
    WidgetToken,
)

SHARDS = 8
KEYED_REQUESTS_KEPT = timedelta(days=30)
# Stripe delivers again for three days by itself, and by hand for thirty.
WEBHOOKS_KEPT = timedelta(days=35)
# A file that broke off can be continued for so long.
UPLOADS_KEPT = timedelta(days=7)
# Those that have ended stay listed for a while: somebody may ask who could see what.
WIDGET_TOKENS_KEPT = timedelta(days=7)


def shard_of(tenant_id: str) -> int:
    """The fold shard that serves a tenant; the same in every process and for ever."""
    return zlib.crc32(tenant_id.encode()) % SHARDS


def keys_by_id(session: Session, key_id: str) -> Sequence[ApiKey]:
    """The API keys with this public part."""
    return session.scalars(select(ApiKey).where(ApiKey.key_id == key_id)).all()


def console_link(session: Session, token: str) -> ConsoleLink | None:
    """The link with this secret, whatever has become of it."""
    return session.scalar(select(ConsoleLink).where(ConsoleLink.token_sha256 == digest(token)))


def console_session(session: Session, token: str, *, now: datetime) -> ConsoleSession | None:
    """The living session with this secret."""
    return session.scalar(
        select(ConsoleSession).where(
            ConsoleSession.token_sha256 == digest(token), ConsoleSession.expires_at > now
        )
    )


def widget_token(session: Session, secret: str, *, now: datetime) -> WidgetToken | None:
    """The living token with this secret."""
    return session.scalar(
        select(WidgetToken).where(WidgetToken.token_sha256 == digest(secret), *widgets.lives(now))
    )


def widget_frame(session: Session, code: str, *, now: datetime) -> WidgetFrame | None:
    """The frame with this code, spent or not, while its token lives."""
    return session.scalar(
        select(WidgetFrame)
        .join(
            WidgetToken,
            and_(
                WidgetToken.tenant_id == WidgetFrame.tenant_id,
                WidgetToken.token_id == WidgetFrame.token_id,
            ),
        )
        .where(WidgetFrame.code_sha256 == digest(code), *widgets.lives(now))
    )


@dataclass(frozen=True)
class WidgetSession:
    """Whose usage an open widget shows, and for how long it may.

    metrics: only these; None: all.  origin: of the page that it stands in.
    """

    tenant_id: str
    token_id: str
    customer_ref: str
    metrics: Sequence[str] | None
    origins: Sequence[str]
    origin: str
    ends_at: datetime


# Text, for it is asked at every look at every open widget. LATERAL with OFFSET 0: the token by its
# key, whatever the planner believes of tables that have filled since it last counted.
_WIDGET_SESSION = """
WITH f AS MATERIALIZED (
    SELECT tenant_id, token_id, origin FROM widget_frames WHERE secret_sha256 = %(secret)s
)
SELECT f.tenant_id, f.token_id, t.customer_ref, t.metrics, t.origins, f.origin,
       t.expires_at AS ends_at
FROM f
CROSS JOIN LATERAL (
    SELECT customer_ref, metrics, origins, expires_at, revoked_at FROM widget_tokens
    WHERE tenant_id = f.tenant_id AND token_id = f.token_id OFFSET 0
) AS t
WHERE t.revoked_at IS NULL AND t.expires_at > %(now)s
"""


def widget_session(session: Session, secret: str, *, now: datetime) -> WidgetSession | None:
    """The session with this secret, while its token lives."""
    found = session.connection().exec_driver_sql(
        _WIDGET_SESSION, {"secret": digest(secret), "now": now}
    )
    row = found.first()
    return None if row is None else WidgetSession(*row)


def tenants(session: Session) -> Sequence[Tenant]:
    """All tenants by id."""
    return session.scalars(select(Tenant).order_by(Tenant.tenant_id)).all()


# A loose index scan: one descent of the primary key per tenant, however long the queue is.
_WITH_WORK = """
WITH RECURSIVE busy AS (
    (SELECT tenant_id FROM unfolded ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT u.tenant_id FROM unfolded u WHERE u.tenant_id > busy.tenant_id
            ORDER BY u.tenant_id LIMIT 1)
    FROM busy WHERE busy.tenant_id IS NOT NULL
)
SELECT tenant_id FROM busy WHERE tenant_id IS NOT NULL
"""


def tenants_with_work(session: Session, shard: int | None = None) -> list[str]:
    """The tenants (of one shard) that have unfolded events."""
    busy = session.execute(text(_WITH_WORK)).scalars()
    return [tenant for tenant in busy if shard is None or shard_of(tenant) == shard]


def waiting_since(session: Session) -> dict[str, datetime]:
    """By tenant with unfolded events, when the oldest of them was recorded."""
    since = {}
    for tenant_id in tenants_with_work(session):
        oldest = session.execute(text(_OLDEST), {"tenant_id": tenant_id}).scalar()
        if oldest is not None:
            since[tenant_id] = oldest
    return since


def metrics_to_fill(session: Session) -> list[tuple[str, str]]:
    """(tenant, metric) pairs whose unique counts are still being completed from the ledger."""
    statement = select(Metric.tenant_id, Metric.metric).where(Metric.unique_filled_to.is_not(None))
    return [(tenant_id, metric) for tenant_id, metric in session.execute(statement)]


_BACKTESTS_WAITING = """
SELECT tenant_id, id FROM backtests WHERE ended_at IS NULL AND updated_at <= :untouched_since
"""


def backtests_waiting(session: Session, *, untouched_since: datetime) -> list[tuple[str, str]]:
    """(tenant, id) of the back-tests that have not ended and that no job has touched since."""
    waiting = session.execute(text(_BACKTESTS_WAITING), {"untouched_since": untouched_since})
    return [(tenant_id, backtest_id) for tenant_id, backtest_id in waiting]


_BACKFILLS_WAITING = """
SELECT tenant_id, backfill_id FROM backfills
WHERE state IN ('waiting', 'running') AND touched_at <= :untouched_since
"""


def backfills_waiting(session: Session, *, untouched_since: datetime) -> list[tuple[str, str]]:
    """(tenant, id) of the files of past usage that are still to be read and that no job has
    touched since."""
    waiting = session.execute(text(_BACKFILLS_WAITING), {"untouched_since": untouched_since})
    return [(tenant_id, backfill_id) for tenant_id, backfill_id in waiting]


_WEBHOOKS_WAITING = """
SELECT tenant_id, mode, event_id FROM webhook_deliveries
WHERE handled_at IS NULL AND due_at <= :due_before ORDER BY due_at LIMIT :most
"""


def webhooks_waiting(
    session: Session, *, due_before: datetime, most: int
) -> list[tuple[str, str, str]]:
    """(tenant, mode, event) of Stripe's events that should have been handled by then."""
    parameters = {"due_before": due_before, "most": most}
    waiting = session.execute(text(_WEBHOOKS_WAITING), parameters)
    return [(row.tenant_id, row.mode, row.event_id) for row in waiting]


def accounts_of(session: Session, tenant_id: str) -> set[str]:
    """The Stripe accounts that belong to the tenant."""
    found = session.execute(text(_ACCOUNTS), {"tenant_id": tenant_id}).scalars()
    return set(found)


_ACCOUNTS = "SELECT account_id FROM account_bindings WHERE tenant_id = :tenant_id"


def bindings(session: Session) -> list[tuple[str, str]]:
    """(tenant, account) of every Stripe account that is bound."""
    return [(row.tenant_id, row.account_id) for row in session.execute(text(_BINDINGS))]


_BINDINGS = "SELECT tenant_id, account_id FROM account_bindings ORDER BY tenant_id, account_id"


def tenant_of_account(session: Session, account_id: str) -> str | None:
    """The one tenant that a Stripe account belongs to, if it is bound."""
    return session.execute(text(_ACCOUNT), {"account_id": account_id}).scalar()


_ACCOUNT = "SELECT tenant_id FROM account_bindings WHERE account_id = :account_id"


def bind_account(
    session: Session, account_id: str, tenant_id: str, *, bound_by: str, now: datetime
) -> str:
    """Bind an account that is free. Returns: the tenant it now belongs to, whoever bound it."""
    parameters = {
        "account_id": account_id,
        "tenant_id": tenant_id,
        "bound_by": bound_by,
        "now": now,
    }
    session.execute(text(_BIND), parameters)
    return tenant_of_account(session, account_id) or tenant_id


_BIND = """
INSERT INTO account_bindings (account_id, tenant_id, bound_at, bound_by)
VALUES (:account_id, :tenant_id, :now, :bound_by)
ON CONFLICT (account_id) DO NOTHING
"""


def only_tenant(session: Session) -> str | None:
    """The installation's tenant, where it has exactly one."""
    found = session.execute(text(_FIRST_TWO)).scalars().all()
    return found[0] if len(found) == 1 else None


_FIRST_TWO = "SELECT tenant_id FROM tenants ORDER BY tenant_id LIMIT 2"

# A loose index scan again: the first due row of each tenant, however many are not due.
_WITH_PUSHES = """
WITH RECURSIVE busy AS (
    (SELECT tenant_id FROM {table} {only} ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT t.tenant_id FROM {table} t
            WHERE t.tenant_id > busy.tenant_id {and_only} ORDER BY t.tenant_id LIMIT 1)
    FROM busy WHERE busy.tenant_id IS NOT NULL
)
SELECT busy.tenant_id FROM busy
WHERE busy.tenant_id IS NOT NULL AND EXISTS (
    SELECT 1 FROM {table} t WHERE t.tenant_id = busy.tenant_id AND t.{due} <= :now {and_only})
"""
_OPEN = "state IN ('claimed', 'ambiguous', 'suspect')"
_PUSH_WORK = (
    _WITH_PUSHES.format(table="unsent", due="due_at", only="", and_only=""),
    _WITH_PUSHES.format(table="held", due="retry_at", only="", and_only=""),
    _WITH_PUSHES.format(
        table="pushes", due="lease_until", only=f"WHERE {_OPEN}", and_only=f"AND {_OPEN}"
    ),
)


def tenants_with_pushes(session: Session, *, now: datetime) -> list[str]:
    """The tenants that have something to tell Stripe, or to find out about what they told it."""
    busy: set[str] = set()
    for statement in _PUSH_WORK:
        busy.update(session.execute(text(statement), {"now": now}).scalars())
    return sorted(busy)


_CLOSING = _WITH_PUSHES.format(
    table="billing_periods",
    due="closes_at",
    only="WHERE closed_at IS NULL",
    and_only="AND closed_at IS NULL",
)
# A row for each tenant and month, and none of them closes unless it is told to.
_CLOSING_CALENDAR = """
SELECT DISTINCT tenant_id FROM periods WHERE closed_at IS NULL AND closes_at <= :now
"""


def tenants_with_closings(session: Session, *, due_at: datetime) -> list[str]:
    """The tenants of which a period that was to close by then is not closed."""
    due: set[str] = set()
    for statement in (_CLOSING, _CLOSING_CALENDAR):
        due.update(session.execute(text(statement), {"now": due_at}).scalars())
    return sorted(due)


_LATENESS = """
UPDATE tenants SET lateness_seconds = :seconds WHERE lateness_seconds <> :seconds
"""


def set_lateness(session: Session, seconds: int) -> int:
    """How late usage may be, of metrics that are made from now on. Returns: tenants changed."""
    result = session.execute(text(_LATENESS), {"seconds": seconds})
    return int(result.rowcount)  # type: ignore[attr-defined]


def connected_tenants(session: Session) -> list[str]:
    """The tenants that have a Stripe account."""
    return list(session.execute(text(_CONNECTED)).scalars())


_CONNECTED = "SELECT DISTINCT tenant_id FROM account_bindings ORDER BY tenant_id"


@dataclass(frozen=True)
class Totals:
    """The installation's running totals and its backlog, in events and seconds.

    pending_adjustments: those that nobody has decided on.
    """

    folded: int
    folds: int
    fold_seconds: Decimal
    set_aside: int
    dead_letters: int
    reaggregations: int
    unfolded: int
    unfolded_is_lower_bound: bool
    oldest_unfolded_at: datetime | None
    periods_closed: int = 0
    pending_adjustments: int = 0


_TOTALS = """
SELECT coalesce(sum(folded), 0)::bigint, coalesce(sum(folds), 0)::bigint,
       coalesce(sum(fold_seconds), 0), coalesce(sum(set_aside), 0)::bigint,
       coalesce(sum(dead_letters), 0)::bigint, coalesce(sum(reaggregations), 0)::bigint,
       coalesce(sum(periods_closed), 0)::bigint
FROM tenant_locks
"""
COUNTED_TO = 1_000_000
# A range of an index for each tenant: what was decided long ago is not read.
_PENDING = """
SELECT count(*) FROM tenants t CROSS JOIN LATERAL (
    SELECT 1 FROM adjustments a
    WHERE a.tenant_id = t.tenant_id AND a.status = 'pending' LIMIT :most
) AS waiting
"""
_BACKLOG = "SELECT count(*) FROM (SELECT 1 FROM unfolded LIMIT :most) AS few"
_OLDEST = "SELECT min(recorded_at) FROM unfolded WHERE tenant_id = :tenant_id"


def totals(session: Session) -> Totals:
    """Sum up over all tenants, for `/metrics`; the backlog is counted to a million."""
    sums = session.execute(text(_TOTALS)).one()
    backlog = session.execute(text(_BACKLOG), {"most": COUNTED_TO}).scalar_one()
    return Totals(
        folded=sums[0],
        folds=sums[1],
        fold_seconds=sums[2],
        set_aside=sums[3],
        dead_letters=sums[4],
        reaggregations=sums[5],
        periods_closed=sums[6],
        pending_adjustments=session.execute(text(_PENDING), {"most": COUNTED_TO}).scalar_one(),
        unfolded=backlog,
        unfolded_is_lower_bound=backlog == COUNTED_TO,
        oldest_unfolded_at=min(waiting_since(session).values(), default=None),
    )


@dataclass(frozen=True)
class StripeTotals:
    """The installation's running totals and its backlog towards Stripe, by mode.

    pushes: calls and verdicts ever, by (mode, outcome).
    unsent: segments of which Stripe may not have heard all; of more than `UNSENT_COUNTED_TO` in
            both modes, and then `oldest_unsent_at` is the oldest of those that were counted.
    halted: accounts to which nothing is sent; that Stripe asks for a little patience is no halt.
    held:   customers' metrics that have nowhere to go; counted to `UNSENT_COUNTED_TO`.
    """

    pushes: dict[tuple[str, str], int]
    unsent: dict[str, int]
    oldest_unsent_at: dict[str, datetime]
    halted: dict[str, int]
    held: dict[str, int]


UNSENT_COUNTED_TO = 100_000
_PUSHES = "SELECT mode, outcome, sum(total)::bigint AS total FROM push_totals GROUP BY 1, 2"
_UNSENT = """
SELECT mode, count(*) AS segments, min(changed_at) AS oldest_at
FROM (SELECT mode, changed_at FROM unsent LIMIT :most) AS few GROUP BY 1
"""
_HALTED = """
SELECT mode, count(*) AS accounts FROM stripe_connections
WHERE halted_kind IS NOT NULL AND halted_kind <> 'rate_limited' GROUP BY 1
"""
_HELD = """
SELECT mode, count(*) AS metrics FROM (SELECT mode FROM held LIMIT :most) AS few GROUP BY 1
"""


def stripe_totals(session: Session) -> StripeTotals:
    """Sum up over all tenants, for `/metrics`: a row for each tenant and account, and so many of
    what is unsent or held."""
    pushes = session.execute(text(_PUSHES)).all()
    unsent = session.execute(text(_UNSENT), {"most": UNSENT_COUNTED_TO}).all()
    halted = session.execute(text(_HALTED)).all()
    held = session.execute(text(_HELD), {"most": UNSENT_COUNTED_TO}).all()
    return StripeTotals(
        pushes={(row.mode, row.outcome): row.total for row in pushes},
        unsent={row.mode: row.segments for row in unsent},
        oldest_unsent_at={row.mode: row.oldest_at for row in unsent},
        halted={row.mode: row.accounts for row in halted},
        held={row.mode: row.metrics for row in held},
    )


# A sender that is only slow goes on all the same: its next part says that it is receiving again.
_BROKEN_OFF = """
UPDATE backfills SET state = 'incomplete', touched_at = :now,
    error = 'The upload stopped after ' || bytes_received || ' bytes. Nothing of the file was read:'
        || ' send the rest with offset=' || bytes_received || ', or the whole file again.'
WHERE state = 'receiving' AND touched_at <= :untouched_since
"""


def note_broken_uploads(session: Session, *, untouched_since: datetime, now: datetime) -> None:
    """Say of files that have not grown since that they broke off: their web may have died."""
    session.execute(text(_BROKEN_OFF), {"untouched_since": untouched_since, "now": now})


_NEVER_WHOLE = """
UPDATE backfills SET state = 'failed', finished_at = :now, touched_at = :now,
    error = 'The file never came whole, and what had come was deleted. Send it again.'
WHERE state IN ('receiving', 'incomplete') AND touched_at < :before
"""
# So many at a time, for each is a megabyte.
_LEFT_OVER = """
DELETE FROM backfill_parts WHERE ctid = ANY (ARRAY(
    SELECT p.ctid FROM backfills b JOIN backfill_parts p USING (tenant_id, backfill_id)
    WHERE b.state = 'failed' LIMIT 2000))
"""
_OLD_WEBHOOKS = "DELETE FROM webhook_deliveries WHERE received_at < :before"


def prune(session: Session, *, now: datetime) -> None:
    """Delete what has outlived its use: old request names, spent links, ended sessions,
    old webhooks, widget tokens and what they opened, files that never came whole.

    A request name may go after 30 days: its events keep their own keys for ever.
    """
    old = now - KEYED_REQUESTS_KEPT
    session.execute(delete(KeyedRequest).where(KeyedRequest.recorded_at < old))
    session.execute(text(_NEVER_WHOLE), {"before": now - UPLOADS_KEPT, "now": now})
    session.execute(text(_LEFT_OVER))
    session.execute(text(_OLD_WEBHOOKS), {"before": now - WEBHOOKS_KEPT})
    session.execute(delete(ConsoleLink).where(ConsoleLink.expires_at < now - timedelta(days=1)))
    session.execute(delete(ConsoleSession).where(ConsoleSession.expires_at < now))
    # A token lives for a day at most, and what it opened ends with it: every look of every
    # customer's makes a row, and a week of those would be most of the database.
    spent = now - timedelta(seconds=widgets.LONGEST_TTL)
    session.execute(delete(WidgetFrame).where(WidgetFrame.made_at < spent))
    ended = now - WIDGET_TOKENS_KEPT
    session.execute(delete(WidgetToken).where(WidgetToken.expires_at < ended))
