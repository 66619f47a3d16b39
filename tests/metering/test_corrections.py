"""What counts follows from the ledger, where its events stand, and what was decided of them."""

import itertools
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from metering.catalog import metrics
from metering.catalog.models import BillingPeriod
from metering.catalog.period import Span, span_at
from metering.catalog.schedules import PlannedPeriod
from metering.counters import adjustments, deciding, fold, periods, standing, voids
from metering.counters.adjustments import Wanted
from metering.database import unit_of_work
from metering.errors import ConflictError, DomainError
from metering.ledger.models import Event
from metering.tenancy import tenants
from tests.metering.test_fold import BALANCE
from tests.support import entry, fold_all, put, scalar

METRIC, NOW = "api_calls", datetime(2026, 12, 20, 12, 30, tzinfo=UTC)
EDGES = [
    datetime(2026, 11, 15, 10, 23, 45, tzinfo=UTC),
    datetime(2026, 12, 15, 10, 23, 45, tzinfo=UTC),
    datetime(2026, 12, 1, tzinfo=UTC),
]
CUSTOMERS = ("cus_0", "cus_1")


class Life:
    """A tenant whose usage comes late and is corrected."""

    def __init__(self, session: Session, data: st.DataObject) -> None:
        self.session, self.data = session, data
        self.tenant = f"corrected-{uuid.uuid4()}"
        self.chance = random.Random(data.draw(st.integers(0, 10**6)))
        self.made: list[str] = []
        with unit_of_work(session):
            tenants.create(session, self.tenant, mode="test", now=EDGES[0])
            changes = {
                "unique_enabled": True,
                "late_policy": "age",
                "lateness_seconds": 20 * 86_400,
            }
            metrics.edit(session, self.tenant, METRIC, changes, now=EDGES[0])

    # ---- what may happen

    def use(self) -> None:
        """Some events, many of them at the edges of periods; some are late, some share a hour."""
        whenever = datetime(2026, 11, 1, tzinfo=UTC)
        batch = []
        for _ in range(self.chance.randrange(1, 12)):
            key = f"k{len(self.made):04d}"
            self.made.append(key)
            around = self.chance.choice(EDGES) + timedelta(minutes=self.chance.randrange(-50, 50))
            ts = self.chance.choice(
                [around, whenever + timedelta(seconds=self.chance.randrange(48 * 86_400))]
            )
            batch.append(
                entry(
                    key,
                    self.chance.choice(["0", "1", "2.5", "7", "100.000000000001"]),
                    ts,
                    metric=METRIC,
                    customer=self.chance.choice(CUSTOMERS),
                    resource=self.chance.choice([None, "r1", "r2", "r3"]),
                )
            )
        put(self.session, self.tenant, batch, now=NOW - timedelta(days=self.chance.randrange(12)))

    def fold(self) -> None:
        with unit_of_work(self.session):
            fold.fold(self.session, self.tenant, now=NOW, limit=self.chance.randrange(1, 20))

    def plan(self) -> None:
        edges = sorted(self.chance.sample(EDGES, self.chance.randrange(len(EDGES) + 1)))
        wanted = [
            PlannedPeriod(start, end, "si_1", "test") for start, end in itertools.pairwise(edges)
        ]
        customer = self.chance.choice(CUSTOMERS)
        with unit_of_work(self.session):
            periods.replan(self.session, self.tenant, customer, METRIC, wanted, now=EDGES[0])

    def close(self) -> None:
        with unit_of_work(self.session):
            self.session.execute(
                text(
                    "UPDATE billing_periods SET closes_at = end_at, closed_at = end_at"
                    " WHERE tenant_id = :t AND customer_ref = :c"
                ),
                {"t": self.tenant, "c": self.chance.choice(CUSTOMERS)},
            )

    def void(self) -> None:
        if self.made:
            self._try(voids.void, self.chance.choice(self.made), reason="sent twice")

    def restore(self) -> None:
        if self.made:
            self._try(voids.restore, self.chance.choice(self.made), reason="it was right")

    def add(self) -> None:
        wanted = Wanted(
            self.chance.choice(CUSTOMERS),
            METRIC,
            Decimal(self.chance.choice(["5", "-3", "0.25", "-0.5"])),
            "correction",
            instant=NOW - timedelta(days=self.chance.randrange(45)),
        )
        with unit_of_work(self.session):
            made = adjustments.create(
                self.session, self.tenant, adjustments.id_of(None), wanted, actor="me", now=NOW
            )
            known = made.adjustment_id
        self._try(deciding.approve, known, disposition=self._disposition())

    def approve(self) -> None:
        self._to_some(deciding.approve, disposition=self._disposition())

    def decline(self) -> None:
        self._to_some(deciding.decline)

    def revert(self) -> None:
        self._to_some(deciding.revert)

    def _disposition(self) -> str:
        return self.chance.choice(["apply", "apply", "carry_forward", "write_off"])

    def _to_some(self, decide: Any, **how: Any) -> None:
        known = self.session.execute(
            text("SELECT adjustment_id FROM adjustments WHERE tenant_id = :t ORDER BY created_at,"
                 " metric, customer_ref, period_start, arrived_on, delta, adjustment_id"),
            {"t": self.tenant},
        ).scalars().all()  # fmt: skip
        self.session.rollback()
        if known:
            self._try(decide, self.chance.choice(known), **how)

    def _try(self, act: Any, on: str, **how: Any) -> None:
        before = self.counted()
        try:
            with unit_of_work(self.session):
                act(self.session, self.tenant, on, actor="me", now=NOW, **how)
        except (ConflictError, DomainError):
            assert self.counted() == before

    # ---- what must be

    def rows(self) -> dict[str, Sequence[BillingPeriod]]:
        return {
            customer: self.session.query(BillingPeriod)
            .filter_by(tenant_id=self.tenant, customer_ref=customer, metric=METRIC)
            .all()
            for customer in CUSTOMERS
        }

    def counting(self) -> list[Event]:
        """The events that count, by the ledger and four lists of exceptions; in no SQL."""
        events = self.session.query(Event).filter_by(tenant_id=self.tenant).all()

        def keys(sql: str) -> set[str]:
            return set(self.session.execute(text(sql), {"t": self.tenant}).scalars())

        out = keys("SELECT idempotency_key FROM unfolded WHERE tenant_id = :t")
        out |= keys("SELECT idempotency_key FROM voids WHERE tenant_id = :t")
        out |= keys(
            "SELECT idempotency_key FROM set_aside s WHERE tenant_id = :t AND adjustment_id NOT IN"
            " (SELECT adjustment_id FROM adjustments WHERE tenant_id = :t"
            "  AND status = 'approved' AND disposition = 'apply')"
        )
        return [event for event in events if event.idempotency_key not in out]

    def expected(self) -> dict[tuple[str, Span], tuple[Any, ...]]:
        rows = self.rows()
        groups: dict[tuple[str, Span], list[Event]] = {}
        for event in self.counting():
            span = span_at(rows[event.customer_ref], event.occurred_at)
            groups.setdefault((event.customer_ref, span), []).append(event)
        deltas: dict[tuple[str, Span], Decimal] = {}
        for row in self.session.execute(
            text(
                "SELECT customer_ref, segment_start, coalesce(carried, delta) AS delta"
                " FROM adjustments WHERE tenant_id = :t AND status = 'approved'"
                " AND disposition IN ('apply', 'carry_forward') AND segment_start IS NOT NULL"
            ),
            {"t": self.tenant},
        ):
            key = row.customer_ref, span_at(rows[row.customer_ref], row.segment_start)
            deltas[key] = deltas.get(key, Decimal(0)) + row.delta
        found = {}
        for key in groups.keys() | deltas.keys():
            events = groups.get(key, [])
            latest = max(events, key=lambda e: (e.occurred_at, e.idempotency_key), default=None)
            found[key] = (
                sum((e.quantity for e in events), Decimal(0)),
                len(events),
                max((e.quantity for e in events), default=None),
                latest and latest.quantity,
                len({e.resource_id for e in events if e.resource_id is not None}),
                deltas.get(key, Decimal(0)),
            )
        self.session.rollback()
        return found

    def shown(self) -> dict[tuple[str, Span], tuple[Any, ...]]:
        rows = self.session.execute(
            text(
                "SELECT customer_ref, period_start, period_end, sum_value, event_count, max_value,"
                " last_value, unique_count, delta FROM used_counters WHERE tenant_id = :t"
            ),
            {"t": self.tenant},
        ).all()
        self.session.rollback()
        utc = [(r[0], Span(r[1].astimezone(UTC), r[2].astimezone(UTC)), *r[3:]) for r in rows]
        # A period in which everything is void shows nothing, as if there were none.
        return {(r[0], r[1]): tuple(r[2:]) for r in utc if any(v for v in r[2:]) or r[3]}

    def segments_add_up(self) -> bool:
        sql = (
            "SELECT (SELECT coalesce(sum(sum_value + delta), 0) FROM used_segments"
            "        WHERE tenant_id = :t)"
            " - (SELECT coalesce(sum(sum_value + delta), 0) FROM used_counters"
            "    WHERE tenant_id = :t)"
            " + (SELECT coalesce(sum(event_count), 0) FROM used_segments WHERE tenant_id = :t)"
            " - (SELECT coalesce(sum(event_count), 0) FROM used_counters WHERE tenant_id = :t)"
        )
        return bool(scalar(self.session, sql, t=self.tenant) == 0)

    def counted(self) -> Any:
        """The counters themselves, which no decision touches."""
        rows = self.session.execute(
            text("SELECT to_jsonb(c) FROM counters c WHERE tenant_id = :t ORDER BY c::text"),
            {"t": self.tenant},
        ).scalars()
        found = list(rows)
        self.session.rollback()
        return found

    def statuses_agree(self) -> bool:
        events = self.session.query(Event).filter_by(tenant_id=self.tenant).all()
        told = standing.of_events(self.session, self.tenant, events)
        counting = {event.idempotency_key for event in self.counting()}
        self.session.rollback()
        return {key for key, status in told.items() if status == "counted"} == counting


STEPS = (
    "use", "use", "fold", "fold", "plan", "close", "void", "void", "restore", "add", "approve",
    "approve", "decline", "revert",
)  # fmt: skip


@settings(
    max_examples=35,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_what_counts_is_what_the_ledger_and_the_decisions_say(
    engine: Engine, data: st.DataObject
) -> None:
    """Any events, folds, plans, closings, voids and decisions, in any order: all aggregations."""
    with Session(engine) as session:
        life = Life(session, data)
        for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=22)):
            counted = life.counted()
            getattr(life, step)()
            if step in ("approve", "decline", "revert", "restore", "close", "use"):
                assert life.counted() == counted
            assert scalar(session, BALANCE, t=life.tenant) == 0
        assert life.shown() == _worth_showing(life.expected())
        fold_all(session, life.tenant)
        assert life.shown() == _worth_showing(life.expected())
        assert life.segments_add_up()
        assert life.statuses_agree()
        loose = "SELECT count(*) FROM set_aside WHERE tenant_id = :t AND adjustment_id IS NULL"
        assert scalar(session, loose, t=life.tenant) == 0


def _worth_showing(found: dict[Any, tuple[Any, ...]]) -> dict[Any, tuple[Any, ...]]:
    return {key: values for key, values in found.items() if any(values) or values[1]}
