"""Error reports: what they name is unsent again, what they may mean is suspect; nothing else."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from metering.catalog.mirror import StripeMeter
from metering.counters import fold
from metering.database import unit_of_work
from metering.stripe import parsing, reports
from metering.stripe.answers import MeterErrors, MeterReport, Sample, ThinEvent
from metering.stripe.models import Push, PushStream, Unsent
from metering.stripe.reports import Effect
from tests.metering.stripe.conftest import AT
from tests.stripe_setup import (
    Connected,
    FakeStripe,
    add_mapping,
    add_meter,
    connect,
    push_all,
)
from tests.support import entry, put

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NOT_FOUND = "meter_event_customer_not_found"


@pytest.fixture
def acme(session: Session) -> Connected:
    return pushed(session)


def pushed(session: Session, *, meters: Sequence[str] = ("api_calls",)) -> Connected:
    """A tenant with 3 units pushed for each of two customers, on each of these meters."""
    made = connect(session, now=AT)
    for meter in meters:
        add_meter(session, made, meter)
        add_mapping(session, made, meter)
        put(
            session,
            made.tenant_id,
            [entry(f"{meter}-{c}", 3, NOON, customer=c, metric=meter) for c in ("cus_1", "cus_2")],
            now=NOON,
        )
    with unit_of_work(session):
        fold.fold(session, made.tenant_id, now=NOON)
    push_all(session, made, FakeStripe(), now=AT)
    return made


def report(
    *named: str,
    code: str = NOT_FOUND,
    count: int | None = None,
    meter_id: str | None = "mtr_api_calls_live",
    start_at: datetime | None = AT - timedelta(minutes=1),
    end_at: datetime | None = AT + timedelta(minutes=10),
) -> MeterReport:
    return MeterReport(
        event=ThinEvent(
            "evt_1", "v1.billing.meter.error_report_triggered", "live", None, AT, meter_id, None
        ),
        meter_id=meter_id,
        summary=None,
        start_at=start_at,
        end_at=end_at,
        errors=(
            MeterErrors(
                code, len(named) if count is None else count, tuple(Sample("no", n) for n in named)
            ),
        ),
    )


def apply(
    session: Session, to: Connected, told: MeterReport, *, mode: str = "live", now: datetime = AT
) -> Effect:
    with unit_of_work(session):
        return reports.apply(session, to.tenant_id, mode, to.account_id, told, now=now)


def identifiers(session: Session, to: Connected) -> list[str]:
    """The tenant's pushes, by meter and customer."""
    rows = session.scalars(
        select(Push.identifier)
        .join(PushStream, PushStream.stream_id == Push.stream_id)
        .where(Push.tenant_id == to.tenant_id, PushStream.tenant_id == to.tenant_id)
        .order_by(PushStream.event_name, PushStream.stripe_customer, Push.claimed_at)
    ).all()
    session.rollback()
    return list(rows)


def states(session: Session, to: Connected) -> list[str]:
    """Their states, in the same order."""
    by_name = dict(
        session.execute(
            select(Push.identifier, Push.state).where(Push.tenant_id == to.tenant_id)
        ).all()
    )
    return [by_name[identifier] for identifier in identifiers(session, to)]


def be(session: Session, to: Connected, identifier: str, state: str) -> None:
    with unit_of_work(session):
        session.execute(
            update(Push)
            .where(Push.tenant_id == to.tenant_id, Push.identifier == identifier)
            .values(state=state)
        )


def unsent_customers(session: Session, to: Connected) -> list[str]:
    found = session.scalars(
        select(Unsent.customer_ref).where(Unsent.tenant_id == to.tenant_id).order_by("customer_ref")
    ).all()
    session.rollback()
    return list(found)


def test_what_a_report_names_is_unsent_again_and_its_stream_waits(
    session: Session, acme: Connected
) -> None:
    first, _ = identifiers(session, acme)
    assert apply(session, acme, report(first)) == Effect(rejected=1)
    assert states(session, acme) == ["rejected", "settled"]
    assert acme.total(session) == 0
    assert unsent_customers(session, acme) == ["cus_1"]
    stream = session.scalars(
        select(PushStream).where(
            PushStream.tenant_id == acme.tenant_id, PushStream.stripe_customer == "cus_1"
        )
    ).one()
    assert stream.blocked_kind == NOT_FOUND
    assert "/v1/customers" in str(stream.blocked_reason)
    assert stream.retry_at == AT + timedelta(hours=1)


def test_what_was_rejected_is_sent_again_once_it_can_be(session: Session, acme: Connected) -> None:
    stripe, (first, _) = FakeStripe(), identifiers(session, acme)
    apply(session, acme, report(first))
    push_all(session, acme, stripe, now=AT + timedelta(minutes=5))
    assert stripe.calls == [], "the stream waits for whoever mends it"
    push_all(session, acme, stripe, now=AT + timedelta(hours=2))
    assert [(claim.stream.stripe_customer, claim.quantity) for claim in stripe.calls] == [
        ("cus_1", Decimal(3))
    ]
    assert acme.total(session) == 3


def test_a_repeated_attempt_is_named_by_its_key(session: Session, acme: Connected) -> None:
    first, _ = identifiers(session, acme)
    assert apply(session, acme, report(f"{first}~2")) == Effect(rejected=1)


@pytest.mark.parametrize("code", [*reports.CAUSES, "a_code_of_next_year"])
def test_every_cause_blocks_and_says_why(session: Session, acme: Connected, code: str) -> None:
    first, _ = identifiers(session, acme)
    apply(session, acme, report(first, code=code))
    blocked = session.execute(
        select(PushStream.blocked_kind, PushStream.blocked_reason).where(
            PushStream.tenant_id == acme.tenant_id, PushStream.stripe_customer == "cus_1"
        )
    ).one()
    assert blocked[0] == code
    assert "Stripe" in blocked[1] or "meter" in blocked[1]


def test_again_it_changes_nothing(session: Session, acme: Connected) -> None:
    first, _ = identifiers(session, acme)
    apply(session, acme, report(first))
    push_all(session, acme, FakeStripe(), now=AT + timedelta(hours=2))
    before = states(session, acme)
    assert before == ["rejected", "settled", "settled"]
    assert apply(session, acme, report(first), now=AT + timedelta(hours=3)) == Effect()
    assert states(session, acme) == before
    assert unsent_customers(session, acme) == []


def test_a_report_that_counts_more_than_it_names_makes_the_others_suspect(
    session: Session, acme: Connected
) -> None:
    first, second = identifiers(session, acme)
    assert apply(session, acme, report(first, count=2)) == Effect(rejected=1, suspect=1)
    assert states(session, acme) == ["rejected", "suspect"]
    lease = session.scalar(
        select(Push.lease_until).where(Push.tenant_id == acme.tenant_id, Push.identifier == second)
    )
    assert lease is not None
    assert lease > AT
    # Until Stripe's own total says otherwise, it is counted as being there.
    assert acme.total(session, "cus_2") == 3
    assert unsent_customers(session, acme) == ["cus_1"]


def test_a_sample_that_stands_twice_is_one(session: Session, acme: Connected) -> None:
    first, _ = identifiers(session, acme)
    assert apply(session, acme, report(first, first, count=2)) == Effect(rejected=1, suspect=1)


@pytest.mark.parametrize("had", ["confirmed", "adopted", "rejected"])
def test_what_is_proven_is_never_touched(session: Session, acme: Connected, had: str) -> None:
    first, second = identifiers(session, acme)
    for identifier in (first, second):
        be(session, acme, identifier, had)
    assert apply(session, acme, report(first, count=9)) == Effect()
    assert states(session, acme) == [had, had]


@pytest.mark.parametrize("had", ["claimed", "ambiguous", "suspect"])
def test_what_is_open_or_suspect_is_rejected_where_it_is_named(
    session: Session, acme: Connected, had: str
) -> None:
    first, _ = identifiers(session, acme)
    be(session, acme, first, had)
    assert apply(session, acme, report(first)) == Effect(rejected=1)
    assert states(session, acme) == ["rejected", "settled"]


def test_only_the_window_is_suspect(session: Session, acme: Connected) -> None:
    long_ago = report(count=5, start_at=AT - timedelta(days=2), end_at=AT - timedelta(days=1))
    assert apply(session, acme, long_ago) == Effect()
    later = report(count=5, start_at=AT + timedelta(hours=1), end_at=AT + timedelta(hours=2))
    assert apply(session, acme, later) == Effect()
    unsaid = report(count=5, start_at=None, end_at=None)
    assert apply(session, acme, unsaid, now=AT) == Effect(suspect=2)


def test_only_the_reports_own_meter_is_suspect(session: Session) -> None:
    acme = pushed(session, meters=("api_calls", "tokens"))
    told = report(count=5, meter_id="mtr_tokens_live")
    assert apply(session, acme, told) == Effect(suspect=2)
    assert states(session, acme) == ["settled", "settled", "suspect", "suspect"]


def test_a_meter_that_nobody_knows_may_be_that_of_any_stream(session: Session) -> None:
    acme = pushed(session, meters=("api_calls", "tokens"))
    assert apply(session, acme, report(count=5, meter_id="mtr_of_yesterday")) == Effect(suspect=4)


def test_without_a_meter_the_streams_without_one_are_suspect(session: Session) -> None:
    acme = pushed(session, meters=("api_calls", "tokens"))
    with unit_of_work(session):
        session.execute(
            update(StripeMeter)
            .where(StripeMeter.tenant_id == acme.tenant_id, StripeMeter.event_name == "tokens")
            .values(is_active=False)
        )
    told = report(code="no_meter", count=5, meter_id=None)
    assert apply(session, acme, told) == Effect(suspect=2)
    assert states(session, acme) == ["settled", "settled", "suspect", "suspect"]


def test_a_report_reaches_no_other_tenant_account_or_mode(
    session: Session, acme: Connected
) -> None:
    other = pushed(session)
    first, _ = identifiers(session, acme)
    # Named by another tenant's account: nothing of acme's is reopened, suspected or revealed.
    assert apply(session, other, report(first)) == Effect()
    assert apply(session, other, report(first, count=9)) == Effect(suspect=2)
    assert states(session, acme) == ["settled", "settled"]
    # By another account of the same tenant, and in the other mode.
    elsewhere = Connected(acme.tenant_id, "acct_elsewhere")
    assert apply(session, elsewhere, report(first, count=9)) == Effect()
    assert apply(session, acme, report(first, count=9), mode="test") == Effect()
    assert states(session, acme) == ["settled", "settled"]


def test_a_report_is_read_as_stripe_sends_it(session: Session, acme: Connected) -> None:
    first, _ = identifiers(session, acme)
    told = parsing.meter_report(
        {
            "id": "evt_1",
            "object": "v2.core.event",
            "type": "v1.billing.meter.error_report_triggered",
            "livemode": True,
            "created": "2026-11-10T12:40:00.000Z",
            "related_object": {"id": "mtr_api_calls_live", "type": "billing.meter", "url": "/x"},
            "data": {
                "developer_message_summary": "There is 1 invalid event",
                "validation_start": "2026-11-10T12:30:00.000Z",
                "validation_end": "2026-11-10T12:40:00.000Z",
                "reason": {
                    "error_count": 1,
                    "error_types": [
                        {
                            "code": NOT_FOUND,
                            "error_count": 1,
                            "sample_errors": [
                                {"error_message": "no", "request": {"identifier": first}}
                            ],
                        }
                    ],
                },
            },
        }
    )
    assert apply(session, acme, told) == Effect(rejected=1)
