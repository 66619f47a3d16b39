"""Back-tests: every customer priced exactly once, whatever crashes; bounded, cancelled, refused."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering import installation
from metering.billing import backtest, outcomes, question
from metering.billing.question import Wanted
from metering.catalog import metrics
from metering.counters import adjustments, deciding, voids
from metering.database import unit_of_work
from metering.errors import ConflictError, DomainError, InvalidInputError, NotFoundError
from pricing import PricingError
from pricing.backtest import Summary
from tests.backtests import BASELINE, CANDIDATE, MONTHS, answered, ask, results, some_usage, use
from tests.support import entry, fold_all, put


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "CHUNK_CUSTOMERS", 7)


def advance(session: Session, tenant: str, backtest_id: str, now: datetime) -> bool:
    with unit_of_work(session):
        return backtest.advance(session, tenant, backtest_id, now=now)


def finish(session: Session, tenant: str, backtest_id: str, now: datetime) -> None:
    with unit_of_work(session):
        assert backtest.begin(session, tenant, backtest_id, now=now)
    while advance(session, tenant, backtest_id, now):
        pass


@pytest.mark.parametrize("customers", [0, 1, 6, 7, 8, 30])
def test_every_customer_is_priced_once(
    session: Session, tenant: str, now: datetime, customers: int
) -> None:
    usage = some_usage(customers)
    use(session, tenant, usage)
    asked = ask(session, tenant, now)
    finish(session, tenant, asked.id, now)
    expected = answered(usage)
    assert results(session, tenant, asked.id) == expected
    found = backtest.get(session, tenant, asked.id)
    assert (found.state, found.ended_at, found.error) == ("done", now, None)
    assert found.customers_done == found.customers_total == len({ref for ref, _ in usage})
    summary = backtest.summary(found)
    assert summary.before == sum(before for before, _, _ in expected.values())
    assert summary.after == sum(after for _, after, _ in expected.values())
    assert summary.customers == len(expected)
    assert not advance(session, tenant, asked.id, now)


def test_a_crash_between_two_chunks_or_within_one_changes_nothing(
    session: Session, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = some_usage(30)
    use(session, tenant, usage)
    asked = ask(session, tenant, now)
    assert advance(session, tenant, asked.id, now)  # and here the job is killed
    real, calls = Summary.add, 0

    def crashing(self: Summary, outcome: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        real(self, outcome)

    with monkeypatch.context() as patched:
        patched.setattr(Summary, "add", crashing)
        with pytest.raises(KeyboardInterrupt):  # its results are written, not yet committed
            advance(session, tenant, asked.id, now)
    assert len(results(session, tenant, asked.id)) == 7
    finish(session, tenant, asked.id, now)
    expected = answered(usage)
    assert results(session, tenant, asked.id) == expected
    whole = Summary()
    for ref, (before, after, periods) in expected.items():
        whole.add(backtest.Outcome(ref, before, after, periods))
    assert backtest.summary(backtest.get(session, tenant, asked.id)) == whole


def test_two_jobs_at_once_do_not_wait_for_each_other(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, some_usage(30))
    asked = ask(session, tenant, now)
    with Session(session.get_bind()) as other:
        assert backtest.advance(other, tenant, asked.id, now=now)
        assert not advance(session, tenant, asked.id, now)
        other.rollback()
    assert advance(session, tenant, asked.id, now)


def test_only_the_months_and_metrics_asked_for_are_priced(
    session: Session, tenant: str, stranger: str, now: datetime
) -> None:
    usage = some_usage(9, months=("2026-04", *MONTHS, "2026-08"))
    use(session, tenant, usage)
    use(session, tenant, {("cus_000001", "2026-05"): Decimal(5)}, metric="storage")
    use(session, stranger, {("cus_000001", "2026-05"): Decimal(5)})
    months = ("2026-07", "2026-05", "2026-05")
    asked = ask(session, tenant, now, months=months)
    finish(session, tenant, asked.id, now)
    assert results(session, tenant, asked.id) == answered(usage, months)


@pytest.mark.parametrize(
    ("aggregation", "units"), [("sum", 9), ("count", 2), ("max", 4.5), ("last", 4.5), ("unique", 1)]
)
def test_a_metric_is_read_by_its_own_aggregation(
    session: Session, tenant: str, now: datetime, aggregation: str, units: float
) -> None:
    use(session, tenant, {("c", "2026-05"): Decimal(9)}, aggregation=aggregation)
    with unit_of_work(session):
        metrics.edit(session, tenant, "api_calls", {}, now=now).unique_filled_to = None
    dollar = BASELINE | {"unitPrice": 1}
    asked = ask(session, tenant, now, wanted=[Wanted("api_calls", dollar, CANDIDATE)])
    with unit_of_work(session):  # the question stays as it was asked
        metrics.edit(session, tenant, "api_calls", {"aggregation": "count"}, now=now)
    finish(session, tenant, asked.id, now)
    assert results(session, tenant, asked.id)["c"][0] == units * 100


def test_several_metrics_are_summed_by_customer(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, {("a", "2026-05"): Decimal(100), ("b", "2026-06"): Decimal(1)})
    use(session, tenant, {("a", "2026-05"): Decimal(3)}, metric="storage")
    fee = {"model": "flat", "currency": "usd", "flatPrice": 7}
    wanted = [Wanted("api_calls", BASELINE, CANDIDATE), Wanted("storage", fee, BASELINE)]
    asked = ask(session, tenant, now, wanted=wanted)
    finish(session, tenant, asked.id, now)
    assert results(session, tenant, asked.id) == {"a": (800, 123, 2), "b": (1, 1, 1)}


def test_the_most_affected_come_first_in_either_direction(
    session: Session, tenant: str, now: datetime
) -> None:
    usage = some_usage(60)
    use(session, tenant, usage)
    asked = ask(session, tenant, now)
    finish(session, tenant, asked.id, now)
    changes = {ref: after - before for ref, (before, after, _) in answered(usage).items()}
    ranked = sorted((ref for ref in changes if changes[ref]), key=lambda r: (-abs(changes[r]), r))
    top = outcomes.most_affected(session, tenant, asked.id)
    assert [row.customer_ref for row in top] == ranked[:20]
    for order, key in (
        ("customer", lambda ref: ref),
        ("decrease", lambda ref: (changes[ref], ref)),
        ("increase", lambda ref: (-changes[ref], [-ord(c) for c in ref])),
    ):
        seen: list[str] = []
        after = None
        while page := outcomes.page(session, tenant, asked.id, order=order, after=after, limit=11):
            seen += [row.customer_ref for row in page]
            after = outcomes.place(page[-1], order)
        assert seen == sorted(changes, key=key), order
    assert [r.customer_ref for r in outcomes.every(session, tenant, asked.id, size=7)] == sorted(
        changes
    )


def test_a_cancelled_one_stops_and_leaves_nothing(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, some_usage(30))
    asked = ask(session, tenant, now)
    advance(session, tenant, asked.id, now)
    with unit_of_work(session):
        assert backtest.cancel(session, tenant, asked.id, now=now)
        assert not backtest.begin(session, tenant, asked.id, now=now)
    assert not advance(session, tenant, asked.id, now)
    assert not results(session, tenant, asked.id)
    assert backtest.get(session, tenant, asked.id).state == "cancelled"
    with unit_of_work(session):
        assert not backtest.cancel(session, tenant, asked.id, now=now)
        backtest.forget(session, tenant, asked.id)
    with pytest.raises(NotFoundError):
        backtest.cancel(session, tenant, asked.id, now=now)


def test_a_quantity_without_a_price_ends_it_and_is_named(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, some_usage(10) | {("zoo", "2026-05"): Decimal("1" * 119 + ".001")})
    asked = ask(session, tenant, now)
    finish(session, tenant, asked.id, now)
    found = backtest.get(session, tenant, asked.id)
    assert found.state == "failed"
    assert found.error is not None
    assert found.error.startswith("api_calls of zoo: 1.111111e+118 units have no price")
    assert not results(session, tenant, asked.id)


def test_a_total_below_zero_is_priced_as_nothing(
    session: Session, tenant: str, now: datetime
) -> None:
    put(session, tenant, [entry("k", 100, "2026-05-10T12:00:00Z", customer="ann")], now=now)
    fold_all(session, tenant)
    month = datetime(2026, 5, 20, tzinfo=UTC)
    wanted = adjustments.Wanted("ann", "api_calls", Decimal(-20), "credit", month)
    with unit_of_work(session):
        made = adjustments.create(
            session, tenant, adjustments.id_of(None), wanted, actor="me", now=now
        )
        deciding.approve(session, tenant, made.adjustment_id, actor="me", now=now)
        voids.void(session, tenant, "k", reason="twice", actor="me", now=now)
    asked = ask(session, tenant, now)
    finish(session, tenant, asked.id, now)
    assert backtest.get(session, tenant, asked.id).state == "done"
    assert results(session, tenant, asked.id) == answered({("ann", "2026-05"): Decimal(0)})


def test_one_that_never_gets_on_is_given_up(session: Session, tenant: str, now: datetime) -> None:
    asked = ask(session, tenant, now) if use(session, tenant, some_usage(1)) is None else None
    assert asked is not None
    for _ in range(backtest.MAX_ATTEMPTS):
        with unit_of_work(session):
            assert backtest.begin(session, tenant, asked.id, now=now)
    with unit_of_work(session):
        assert not backtest.begin(session, tenant, asked.id, now=now)
    assert backtest.get(session, tenant, asked.id).state == "failed"


def test_the_sweep_finds_those_that_no_job_has_touched(
    session: Session, tenant: str, now: datetime
) -> None:
    use(session, tenant, some_usage(30))
    waiting, done = ask(session, tenant, now), ask(session, tenant, now)
    finish(session, tenant, done.id, now)

    def found(at: datetime) -> list[str]:
        listed = installation.backtests_waiting(session, untouched_since=at)
        return [each for tenant_id, each in listed if tenant_id == tenant]

    assert found(now) == [waiting.id]
    assert found(now - timedelta(seconds=1)) == []
    advance(session, tenant, waiting.id, now + timedelta(seconds=9))
    assert found(now + timedelta(seconds=8)) == []


EURO = BASELINE | {"currency": "eur"}


@pytest.mark.parametrize(
    ("wanted", "months", "error", "at"),
    [
        ([Wanted("api_calls", BASELINE, EURO)], MONTHS, PricingError, "metrics/0/candidate"),
        (
            [Wanted("api_calls", BASELINE, BASELINE), Wanted("storage", EURO, EURO)],
            MONTHS, PricingError, "metrics/1/candidate",
        ),
        ([Wanted("api_calls", {"model": "x"}, BASELINE)], MONTHS, PricingError,
         "metrics/0/baseline"),
        ([Wanted("api_calls", BASELINE, BASELINE)] * 2, MONTHS, InvalidInputError, "/metrics"),
        ([], MONTHS, InvalidInputError, "/metrics"),
        ([Wanted("unseen", BASELINE, BASELINE)], MONTHS, NotFoundError, "unseen"),
        ([Wanted("api_calls", BASELINE, BASELINE)], [], InvalidInputError, "/months"),
        ([Wanted("api_calls", BASELINE, BASELINE)], ["2026-13"], InvalidInputError, "/months/0"),
        ([Wanted("api_calls", BASELINE, BASELINE)], [f"20{y}-{m:02d}" for y in range(10, 14)
         for m in range(1, 13)], InvalidInputError, "/months"),
        ([Wanted("counting", BASELINE, BASELINE)], MONTHS, ConflictError, "unique counts"),
    ],
)  # fmt: skip
def test_what_has_no_answer_is_refused(
    session: Session, tenant: str, now: datetime, wanted: list, months: list, error: type, at: str
) -> None:
    for metric, aggregation in (("api_calls", "sum"), ("storage", "sum"), ("counting", "unique")):
        use(session, tenant, {}, metric=metric, aggregation=aggregation)
    with pytest.raises(error) as refused:
        ask(session, tenant, now, wanted=wanted, months=months)
    raised = refused.value
    shown = [str(raised)]
    if isinstance(raised, DomainError):
        shown.append(raised.pointer or "")
    assert any(at in part for part in shown)
    assert (
        session.execute(
            text("SELECT count(*) FROM backtests WHERE tenant_id = :t"), {"t": tenant}
        ).scalar()
        == 0
    )


def test_a_tenants_back_tests_are_bounded(
    session: Session, tenant: str, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(session, tenant, {})
    monkeypatch.setattr(backtest, "MAX_UNENDED", 1)
    monkeypatch.setattr(backtest, "MAX_KEPT", 2)
    for _ in range(2):
        asked = ask(session, tenant, now)
        with pytest.raises(ConflictError, match="wait or run"):
            ask(session, tenant, now)
        finish(session, tenant, asked.id, now)
    with pytest.raises(ConflictError, match="are kept"):
        ask(session, tenant, now)


def test_a_question_is_read_as_it_was_asked(session: Session, tenant: str, now: datetime) -> None:
    use(session, tenant, {})
    asked = question.freeze(
        session, tenant, [Wanted("api_calls", BASELINE, CANDIDATE)], ["2026-07", "2026-05"]
    )
    assert question.read(asked.text()) == asked
    since, until = datetime.fromisoformat("2026-05-01T00:00:00Z"), now.replace(year=2026, month=11)
    assert question.months_between(since, until)[:2] == ["2026-05", "2026-06"]
    assert question.months_between(since + timedelta(1), since.replace(month=7)) == ["2026-06"]
