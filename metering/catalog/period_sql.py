"""Which billing period an instant lies in, in SQL: the one place where statements draw periods.

`metering.catalog.period.span_at` says the same in Python. Both look-ups go by the primary key of
`billing_periods`, once for each row that they are made for, and a tenant without billing periods
is spared them. They are subqueries in a select list: the planner can make no join of those, and so
no join that reads the table whole.

Each function takes SQL expressions and returns one. `begun` is to be computed in a materialized
part of the statement: what stands in its name elsewhere is copied to wherever it is used.
"""

_SOME = "EXISTS (SELECT 1 FROM billing_periods WHERE tenant_id = %(tenant_id)s)"


def month(instant: str) -> str:
    """The start of the UTC month that holds the instant, as in `catalog.period.calendar_month`."""
    return f"date_trunc('month', {instant} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"


def month_after(instant: str) -> str:
    """The end of the UTC month that holds the instant."""
    first = f"date_trunc('month', {instant} AT TIME ZONE 'UTC')"
    return f"({first} + interval '1 month') AT TIME ZONE 'UTC'"


def begun(customer_ref: str, metric: str, instant: str) -> str:
    """The latest row of `billing_periods` that has begun by the instant, over or not, or NULL."""
    return f"""
        CASE WHEN {_SOME} THEN (
            SELECT b FROM billing_periods b
            WHERE b.tenant_id = %(tenant_id)s AND b.customer_ref = {customer_ref}
              AND b.metric = {metric} AND b.start_at <= {instant}
            ORDER BY b.start_at DESC LIMIT 1) END
    """


def is_held(begun: str, instant: str) -> str:
    """Whether a row holds the instant; not true where it is billed by the calendar month."""
    return f"({begun}).end_at > {instant}"


def start(begun: str, instant: str) -> str:
    """The start of the instant's period."""
    return f"""
        CASE WHEN ({begun}).end_at > {instant} THEN ({begun}).start_at
             ELSE greatest({month(instant)}, ({begun}).end_at) END
    """


def end(begun: str, customer_ref: str, metric: str, instant: str) -> str:
    """The end of the instant's period."""
    return f"""
        CASE WHEN ({begun}).end_at > {instant} THEN ({begun}).end_at
             ELSE least({month_after(instant)}, CASE WHEN {_SOME} THEN (
                 SELECT n.start_at FROM billing_periods n
                 WHERE n.tenant_id = %(tenant_id)s AND n.customer_ref = {customer_ref}
                   AND n.metric = {metric} AND n.start_at > {instant}
                 ORDER BY n.start_at LIMIT 1) END) END
    """
