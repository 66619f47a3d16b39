"""Which customers have usage: read from the counters, which know each from its first event."""

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from metering.counters.models import Counter

# A loose index scan over the union of counters and customers: one descent of
# each per customer.
_LISTED = """
WITH RECURSIVE listed AS (
    SELECT CAST(:after AS text) COLLATE "C" AS customer_ref, 0 AS n
    UNION ALL
    SELECT least(
        (SELECT c.customer_ref FROM counters c
         WHERE c.tenant_id = :tenant_id AND c.customer_ref > listed.customer_ref
         ORDER BY c.customer_ref LIMIT 1),
        (SELECT k.customer_ref FROM customers k
         WHERE k.tenant_id = :tenant_id AND k.customer_ref > listed.customer_ref
         ORDER BY k.customer_ref LIMIT 1)
    ), n + 1
    FROM listed WHERE n <= :most AND listed.customer_ref IS NOT NULL
)
SELECT customer_ref FROM listed WHERE n > 0 AND customer_ref IS NOT NULL ORDER BY n LIMIT :most
"""


def refs(session: Session, tenant_id: str, *, after: str, limit: int) -> list[str]:
    """The next `limit` customer refs beyond `after`, in byte order."""
    parameters = {"tenant_id": tenant_id, "after": after, "most": limit}
    return list(session.execute(text(_LISTED), parameters).scalars())


def has_usage(session: Session, tenant_id: str, customer_ref: str) -> bool:
    """True if anything of the customer was ever counted."""
    statement = select(Counter.tenant_id).where(
        Counter.tenant_id == tenant_id, Counter.customer_ref == customer_ref
    )
    return session.execute(statement.limit(1)).first() is not None
