"""A mark that changes with what a customer is shown: whoever has it already need not ask again.

It is made of the versions of the rows that a projection and its days are made of, not of what
they say: a version is where a row lies and which transaction wrote it (`ctid`, `xmin`), and each
change makes another. So the mark costs a look at the rows and none at their meaning. It may change
where nothing that is shown does; it does not stay where something has.

What changes by itself as time passes is not in it, but for the billing periods that have begun.
Nor is what other customers use: not the tenant's `as_of`, and not that its backlog is too long to
be searched to the end.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from metering.catalog.period import calendar_month
from metering.counters.backlog import BACKLOG_SEARCHED
from metering.ledger.read import at_key


def of_customer(
    session: Session,
    tenant_id: str,
    customer_ref: str,
    metrics: Sequence[str] | None = None,
    *,
    now: datetime,
) -> str:
    """32 hex digits; the same only while nothing was written that the customer's numbers,
    days, prices and names are made of, and no billing period began or ended.

    metrics: only of these, with every billing period of the customer's; None: of all. Whoever may
    not see what another metric counts is not to see that it counts either.
    """
    parameters = {
        "tenant_id": tenant_id,
        "customer_ref": customer_ref,
        "metrics": None if metrics is None else list(metrics),
        "now": now,
        "most": BACKLOG_SEARCHED,
    }
    connection = session.connection()
    connection.exec_driver_sql(_PLAN)
    seen = connection.exec_driver_sql(_SEEN, parameters).one()
    shown = repr((calendar_month(now).start_at, tuple(seen)))
    return hashlib.sha256(shown.encode()).hexdigest()[:32]


# To plan the statement takes longer than to run it: once for a connection will do, as long as the
# transactions of these end with a commit, for at a rollback the driver forgets what it prepared.
# The plan must hold however the tables grow: the oldest of a backlog are found in the index's
# order, not by sorting all of it, and nothing is read anew for each row of something else, whatever
# the planner was last told of a table's size.
_PLAN = """
SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_nestloop', 'off', true)
"""
_PLAN_AS_USUAL = """
set_config('plan_cache_mode', 'auto', true), set_config('enable_sort', 'on', true),
set_config('enable_bitmapscan', 'on', true), set_config('enable_nestloop', 'on', true)
"""


def _versions(rows: str) -> str:
    """How many rows there are, and all of their versions as one number.

    Exclusive-or, for rows come in any order; each place holds one row, so that no two cancel out.
    A greatest `xmin` would not do: transactions do not commit in the order of their numbers.
    """
    return f"(SELECT count(*), bit_xor(hashtidextended(ctid, xmin::text::bigint)) FROM {rows})"


_ASKED = "(%(metrics)s::text[] IS NULL OR {0} = ANY(%(metrics)s))"
# Whatever changes a counter's segments or members changes its row, and whatever is decided makes
# the corrected one anew. The backlog is searched as far
# as `counters.backlog` does; what is set aside in a period that is long over is not shown. Whose
# an item is decides who pays its price. LATERAL with OFFSET 0: each row by its key.
_SEEN = f"""
WITH counted AS MATERIALIZED (
    SELECT c.metric, c.ctid, c.xmin FROM counters c
    WHERE c.tenant_id = %(tenant_id)s AND c.customer_ref = %(customer_ref)s
      AND {_ASKED.format("c.metric")}
), corrected AS MATERIALIZED (
    SELECT k.metric, k.ctid, k.xmin FROM corrected_counters k
    WHERE k.tenant_id = %(tenant_id)s AND k.customer_ref = %(customer_ref)s
      AND {_ASKED.format("k.metric")}
), billed AS MATERIALIZED (
    SELECT b.metric, b.item_id, b.start_at, b.end_at, b.ctid, b.xmin FROM billing_periods b
    WHERE b.tenant_id = %(tenant_id)s AND b.customer_ref = %(customer_ref)s
), aside AS MATERIALIZED (
    SELECT s.metric, s.ctid, s.xmin FROM set_aside s
    WHERE s.tenant_id = %(tenant_id)s AND s.customer_ref = %(customer_ref)s
      AND {_ASKED.format("s.metric")}
      AND s.period_start >= least(%(now)s::timestamptz - interval '63 days',
                                  (SELECT min(start_at) FROM billed WHERE end_at > %(now)s))
), adjusted AS MATERIALIZED (
    SELECT j.ctid, j.xmin FROM adjustments j
    WHERE j.tenant_id = %(tenant_id)s AND j.customer_ref = %(customer_ref)s
      AND {_ASKED.format("j.metric")}
), used AS MATERIALIZED (
    SELECT metric FROM counted UNION SELECT metric FROM corrected UNION
    SELECT metric FROM billed UNION SELECT metric FROM aside
), mapped AS MATERIALIZED (
    SELECT m.metric, array_remove(ARRAY[m.price_id, m.shadow_price_id], NULL) AS price_ids,
           array_remove(ARRAY[m.subscription_item_id, m.shadow_subscription_item_id], NULL)
               AS item_ids,
           m.ctid, m.xmin
    FROM mappings m
    WHERE m.tenant_id = %(tenant_id)s AND m.metric = ANY(ARRAY(TABLE used))
      AND (m.customer_ref IS NULL OR m.customer_ref = %(customer_ref)s)
), owned AS (
    SELECT DISTINCT b.item_id, b.customer_ref
    FROM mapped m
    CROSS JOIN LATERAL (
        SELECT item_id, customer_ref FROM billing_periods
        WHERE tenant_id = %(tenant_id)s AND item_id = ANY(m.item_ids) AND metric = m.metric
        OFFSET 0
    ) AS b
    WHERE cardinality(m.item_ids) > 0
), items AS MATERIALIZED (
    SELECT i.price_id, i.past_prices, i.ctid, i.xmin
    FROM (SELECT DISTINCT item_id FROM billed) AS b
    CROSS JOIN LATERAL (
        SELECT price_id, past_prices, ctid, xmin FROM subscription_items
        WHERE tenant_id = %(tenant_id)s AND item_id = b.item_id OFFSET 0
    ) AS i
), named AS MATERIALIZED (
    SELECT unnest(price_ids) AS price_id FROM mapped
    UNION ALL SELECT price_id FROM items
    UNION ALL SELECT past ->> 'price_id' FROM items, jsonb_array_elements(past_prices) AS past
), waiting AS (
    SELECT u.ctid, u.xmin
    FROM (SELECT idempotency_key, ctid, xmin FROM unfolded
          WHERE tenant_id = %(tenant_id)s ORDER BY recorded_at LIMIT %(most)s) AS u
    CROSS JOIN LATERAL (
        SELECT customer_ref, metric FROM events
        WHERE tenant_id = %(tenant_id)s AND {at_key("u.idempotency_key")}
    ) AS e
    WHERE e.customer_ref = %(customer_ref)s AND {_ASKED.format("e.metric")}
)
SELECT *
FROM {_versions("counted")} AS counters,
     {_versions("corrected")} AS corrected,
     {_versions("billed")} AS periods,
     {_versions("aside")} AS set_aside,
     {_versions("adjusted")} AS adjusted,
     {_versions("waiting")} AS unfolded,
     {_versions("mapped")} AS mappings,
     {_versions("items")} AS items,
     {_versions("metrics WHERE tenant_id = %(tenant_id)s AND metric = ANY(ARRAY(TABLE used))")}
         AS metrics,
     {_versions("stripe_prices WHERE tenant_id = %(tenant_id)s AND price_id IN (TABLE named)")}
         AS prices,
     {_versions("customers WHERE tenant_id = %(tenant_id)s AND customer_ref = %(customer_ref)s")}
         AS customer,
     {_versions("tenants WHERE tenant_id = %(tenant_id)s")} AS tenant,
     (SELECT bit_xor(hashtextextended(item_id || ' ' || customer_ref, 0)) FROM owned) AS owners,
     (SELECT count(*) FILTER (WHERE start_at <= %(now)s), count(*) FILTER (WHERE end_at <= %(now)s)
      FROM billed) AS begun,
     (SELECT {_PLAN_AS_USUAL}) AS planning
"""
