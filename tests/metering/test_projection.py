"""A projection of some of the metrics only, and from when on its guess is worth showing."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.billing import projection
from metering.billing.projection import Projection
from metering.catalog import mappings
from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from pricing.price import from_config
from tests.support import entry, fold_all, put

START = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 12, 12, tzinfo=UTC)


def priced(session: Session, tenant: str, metric: str, each: str, currency: str = "usd") -> None:
    price = from_config({"model": "per_unit", "currency": currency, "unitPrice": each})
    wanted = {"metric": metric, "effective_from": START, "price": price, "currency": currency}
    with unit_of_work(session):
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=START)


def projected(session: Session, tenant: str, now: datetime = NOW) -> Projection:
    found = projection.project(session, tenant, "cus_1", None, now=now)
    session.rollback()
    return found


@pytest.fixture
def three(session: Session, tenant: str) -> str:
    """Three metrics, one of which has a period of its own, and one another currency."""
    with unit_of_work(session):
        session.add(
            BillingPeriod(
                tenant_id=tenant, customer_ref="cus_1", metric="b", item_id="si_1", mode="test",
                start_at=datetime(2026, 11, 10, 9, tzinfo=UTC),
                end_at=datetime(2026, 12, 10, 9, tzinfo=UTC),
            )
        )  # fmt: skip
    put(session, tenant, [entry(m, 5, NOW, metric=m) for m in "abc"], now=NOW)
    fold_all(session, tenant)
    for metric, each, currency in (("a", "1", "usd"), ("b", "10", "usd"), ("c", "100", "eur")):
        priced(session, tenant, metric, each, currency)
    put(session, tenant, [entry(f"{m}/later", 1, NOW, metric=m) for m in "ab"], now=NOW)
    return tenant


def test_what_is_left_has_its_own_totals_backlog_and_period(session: Session, three: str) -> None:
    whole = projected(session, three)
    assert whole.totals is None
    assert whole.usage.backlog.events == 2
    usd = projection.narrowed(whole, {"a", "b"})
    assert [line.usage.metric for line in usd.lines] == ["a", "b"]
    assert [metric.metric for metric in usd.usage.metrics] == ["a", "b"]
    assert usd.totals is not None
    assert usd.totals.current == 5500
    assert usd.usage.as_of == whole.usage.as_of
    only = projection.narrowed(whole, ["b"])
    assert only.span == only.usage.span == only.lines[0].usage.span
    assert only.span.start_at == datetime(2026, 11, 10, 9, tzinfo=UTC)
    assert only.usage.backlog.by_metric == {"b": 1}
    assert only.usage.backlog.latest_at == NOW


def test_nothing_is_left_of_metrics_that_are_not_there(session: Session, three: str) -> None:
    nothing = projection.narrowed(projected(session, three), ["d"])
    assert (list(nothing.lines), nothing.totals, nothing.latest_period) == ([], None, None)
    assert nothing.usage.backlog.events == 0
    assert nothing.usage.backlog.latest_at is None
    # Which period is shown does not tell what else was used: it is that of whoever uses nothing.
    with unit_of_work(session):
        session.execute(text("DELETE FROM counters WHERE tenant_id = :t"), {"t": three})
    idle = projected(session, three)
    assert not idle.lines
    assert nothing.span == idle.span


def test_an_even_pace_of_less_than_a_day_is_early(session: Session, tenant: str) -> None:
    put(session, tenant, [entry("a", 5, START)], now=START)
    fold_all(session, tenant)
    for after, is_early in ((0, True), (23 * 3600, True), (24 * 3600, False), (10**6, False)):
        now = START + timedelta(seconds=after)
        [line] = projected(session, tenant, now).lines
        assert line.basis == "even_pace"
        assert projection.is_early(line, now) is is_early


def test_what_is_known_or_follows_from_past_weeks_is_never_early(
    session: Session, tenant: str
) -> None:
    past = [START - timedelta(weeks=n) + timedelta(minutes=1) for n in range(1, 7)]
    put(session, tenant, [entry(f"{at}", 5, at) for at in [*past, START]], now=START)
    fold_all(session, tenant)
    with unit_of_work(session):
        mappings.create(
            session, tenant, mappings.id_of(None),
            {"metric": "api_calls", "effective_from": START, "aggregation": "max"}, now=START,
        )  # fmt: skip
    now = START + timedelta(hours=1)
    [line] = projected(session, tenant, now).lines
    assert line.basis == "none"
    assert not projection.is_early(line, now)
    with unit_of_work(session):
        found = mappings.listed(session, tenant, limit=1)[0]
        found.aggregation = "sum"
    [line] = projected(session, tenant, now).lines
    assert (line.basis, line.usage.value) == ("weekly_profile", Decimal(5))
    assert not projection.is_early(line, now)
