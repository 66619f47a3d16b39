"""Past weeks, weighed by the hours of a period, against the same worked out without SQL."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy.orm import Session

from metering.counters import weeks
from metering.counters.weeks import PastWeek
from pricing.projection import hours_of_week
from tests.support import entry, fold_all, put

NOW = datetime(2026, 4, 16, 10, 20, tzinfo=UTC)
FULL_HOUR = datetime(2026, 4, 16, 10, tzinfo=UTC)
START, END = (int(datetime(2026, month, 1, tzinfo=UTC).timestamp()) for month in (4, 5))
BEHIND = hours_of_week(START, int(NOW.timestamp()))
AHEAD = hours_of_week(int(NOW.timestamp()), END)
Events = list[tuple[datetime, Decimal]]


def used(session: Session, tenant: str, events: Events, *, metric: str = "api_calls") -> None:
    rows = [
        entry(f"{metric}/{i}", quantity, at, metric=metric)
        for i, (at, quantity) in enumerate(events)
    ]
    put(session, tenant, rows, now=NOW)
    fold_all(session, tenant)


def asked(session: Session, tenant: str, **metrics: str) -> dict[str, list[PastWeek]]:
    """Of api_calls by its sum, where no other metrics are named with their aggregations."""
    metrics = metrics or {"api_calls": "sum"}
    found = weeks.of_customer(
        session, tenant, "cus_1", metrics, behind=BEHIND, ahead=AHEAD, now=NOW
    )
    session.rollback()
    return found


def worked_out(events: Events, known: int, aggregation: str) -> list[PastWeek]:
    """The same in plain Python."""
    sums: dict[int, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
    for at, quantity in events:
        hour = at.replace(minute=0, second=0, microsecond=0)
        age = FULL_HOUR - hour
        if not timedelta(0) < age <= timedelta(weeks=known):
            continue
        week = (age - timedelta(seconds=1)) // timedelta(weeks=1)
        index = int(hour.timestamp()) // 3600 % 168
        amount = quantity if aggregation == "sum" else Decimal(1)
        sums[week][0] += amount
        sums[week][1] += amount * BEHIND[index] / 3600
        sums[week][2] += amount * AHEAD[index] / 3600
    return [PastWeek(*sums[week]) for week in range(known)]


def rounded(found: list[PastWeek]) -> list[list[Decimal]]:
    tiny = Decimal("1e-9")
    return [[getattr(w, name).quantize(tiny) for name in w.__dataclass_fields__] for w in found]


@pytest.mark.parametrize(("reach", "known"), [(70, 8), (56, 8), (41, 5), (28, 4)])
def test_the_weeks_are_those_that_a_plain_count_finds(
    session: Session, tenant: str, reach: int, known: int
) -> None:
    random = Random(reach)
    first = FULL_HOUR - timedelta(days=reach)
    events = [(first, Decimal("1.5"))] + [
        (first + timedelta(minutes=random.randrange(reach * 1440)), Decimal(random.randrange(99)))
        for _ in range(300)
    ]
    # Of the hour that is not over nobody knows yet what it brings.
    events.append((FULL_HOUR + timedelta(minutes=5), Decimal(1000)))
    used(session, tenant, events)
    for aggregation in ("sum", "count"):
        found = asked(session, tenant, api_calls=aggregation)["api_calls"]
        assert len(found) == known
        assert rounded(found) == rounded(worked_out(events, known, aggregation))


def test_less_than_four_weeks_are_no_history(session: Session, tenant: str) -> None:
    used(session, tenant, [(FULL_HOUR - timedelta(days=28, hours=-1), Decimal(1))])
    assert asked(session, tenant) == {}


def test_what_was_always_zero_is_no_history(session: Session, tenant: str) -> None:
    events = [(FULL_HOUR - timedelta(weeks=n), Decimal(0)) for n in range(1, 6)]
    used(session, tenant, events)
    assert asked(session, tenant) == {}
    # Counted, the same events are one a week.
    [*found] = asked(session, tenant, api_calls="count")["api_calls"]
    assert [week.whole for week in found] == [1] * 5


def test_a_week_without_usage_counts_as_zero(session: Session, tenant: str) -> None:
    used(session, tenant, [(FULL_HOUR - timedelta(days=d), Decimal(d)) for d in (1, 34)])
    found = asked(session, tenant)["api_calls"]
    # The first of them lies within a fifth week, which is not known as a whole.
    assert [week.whole for week in found] == [1, 0, 0, 0]


def test_metrics_and_customers_are_kept_apart(session: Session, tenant: str) -> None:
    used(session, tenant, [(FULL_HOUR - timedelta(days=d), Decimal(1)) for d in range(1, 57)])
    used(session, tenant, [(FULL_HOUR - timedelta(days=1), Decimal(1))], metric="young")
    found = asked(session, tenant, api_calls="sum", young="sum", unknown="count")
    assert set(found) == {"api_calls"}
    assert [week.whole for week in found["api_calls"]] == [7] * 8
    nobody = weeks.of_customer(
        session, tenant, "cus_2", {"api_calls": "sum"}, behind=BEHIND, ahead=AHEAD, now=NOW
    )
    assert nobody == {}
    none_asked = weeks.of_customer(
        session, tenant, "cus_1", {}, behind=BEHIND, ahead=AHEAD, now=NOW
    )
    assert none_asked == {}
