"""/v1/adjustments: proposing, deciding, taking back; by two people at once too."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import mappings, metrics
from metering.catalog.models import BillingPeriod
from metering.database import unit_of_work
from pricing.price import from_config
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock, assert_problem

URL = "/v1/adjustments"
NOW = datetime(2026, 12, 5, 12, tzinfo=UTC)
NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
JANUARY = datetime(2027, 1, 1, tzinfo=UTC)
LISTED = {
    "id", "tenantId", "metric", "customerRef", "periodStart", "periodEnd", "periodState", "kind",
    "delta", "reason", "status", "disposition", "note", "origin", "events", "quantity", "carried",
    "carriedTo", "arrivedOn", "createdAt", "createdBy", "decidedAt", "decidedBy",
}  # fmt: skip


class Books:
    """A tenant whose November is closed, with usage in it, and events that came after."""

    def __init__(self, session: Session, api: FlaskClient, tenant: str) -> None:
        self.session, self.api, self.tenant = session, api, tenant
        price = from_config({"model": "per_unit", "currency": "usd", "unitPrice": "0.5"})
        with unit_of_work(session):
            metrics.edit(session, tenant, "api_calls", {}, now=NOVEMBER)
            mappings.create(
                session, tenant, mappings.id_of(None),
                {"metric": "api_calls", "effective_from": NOVEMBER - timedelta(40), "price": price,
                 "currency": "usd"},
                now=NOVEMBER - timedelta(41),
            )  # fmt: skip
            for start, end in ((NOVEMBER, DECEMBER), (DECEMBER, JANUARY)):
                session.add(
                    BillingPeriod(
                        tenant_id=tenant, mode="test", customer_ref="cus_1", metric="api_calls",
                        item_id="si_1", start_at=start, end_at=end,
                        closes_at=end + timedelta(days=2),
                    )
                )  # fmt: skip
        self.use("early", 100, NOVEMBER + timedelta(days=3), at=NOVEMBER + timedelta(days=3))
        self.write("SET closed_at = closes_at WHERE tenant_id = :t AND closes_at < '2026-12-05Z'")

    def use(self, key: str, quantity: object, ts: datetime, *, at: datetime = NOW) -> None:
        put(self.session, self.tenant, [entry(key, quantity, ts)], now=at)
        fold_all(self.session, self.tenant)

    def finalize(self) -> None:
        self.write(
            "SET final_at = closed_at, invoice_id = 'in_1'"
            " WHERE tenant_id = :t AND closed_at IS NOT NULL"
        )

    def write(self, change: str) -> None:
        with unit_of_work(self.session):
            self.session.execute(text(f"UPDATE billing_periods {change}"), {"t": self.tenant})

    def late(self, *quantities: int) -> str:
        """Events of November that came after it was closed; the id of what they propose."""
        for number, quantity in enumerate(quantities):
            self.use(f"late-{number}", quantity, NOVEMBER + timedelta(days=4, hours=number))
        [found] = self.list(status="pending", kind="events")
        return str(found["id"])

    def delta(self, delta: str, **more: Any) -> str:
        made = self.api.post(URL, json=self.wanted(delta) | more)
        assert made.status_code == 201, made.text
        return str(made.get_json()["id"])

    def wanted(self, delta: str) -> dict[str, Any]:
        return {
            "tenantId": self.tenant, "customerRef": "cus_1", "metric": "api_calls",
            "delta": delta, "reason": "credit", "periodStart": "2026-11-10T00:00:00Z",
        }  # fmt: skip

    def list(self, **query: Any) -> list[dict[str, Any]]:
        answer = self.api.get(URL, query_string={"tenantId": self.tenant} | query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.get_json()["adjustments"]
        return found

    def read(self, known: str) -> dict[str, Any]:
        answer = self.api.get(f"{URL}/{known}", query_string={"tenantId": self.tenant})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()
        return found

    def decide(self, known: str, how: str, **body: Any) -> Any:
        return self.api.post(f"{URL}/{known}/{how}", json={"tenantId": self.tenant} | body)

    def total(self, start: datetime = NOVEMBER) -> Decimal:
        asked = {"tenantId": self.tenant, "customerRef": "cus_1", "periodStart": start.isoformat()}
        [line] = self.api.post("/v1/usage/projection", json=asked).get_json()["lineItems"] or [{}]
        return Decimal(line.get("quantity", "0"))


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture(scope="module")
def api(make_app: AppMaker, clock: Clock) -> FlaskClient:
    return make_app(clock, sandbox=True).test_client()


@pytest.fixture
def books(session: Session, api: FlaskClient, tenant: str) -> Books:
    return Books(session, api, tenant)


def test_late_events_wait_and_count_once_approved(books: Books) -> None:
    known = books.late(20, 4)
    [listed] = books.list()
    assert listed.keys() == LISTED
    assert (listed["events"], listed["quantity"], listed["status"]) == (2, "24", "pending")
    assert (listed["kind"], listed["origin"], listed["reason"]) == ("events", "set_aside", "late")
    assert (listed["periodStart"], listed["periodEnd"]) == (
        "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z",
    )  # fmt: skip
    assert (listed["periodState"], listed["arrivedOn"]) == ("closed", "2026-12-05T00:00:00Z")
    told = books.read(known)
    assert told["effect"] == {"without": "100", "applied": "124", "difference": "24"}
    money = told["money"]
    assert (money["without"], money["applied"], money["difference"]) == ("50.00", "62.00", "12.00")
    assert (money["differenceMinor"], money["currency"]) == (1200, "usd")
    assert told["carryForward"]["effect"] == {"without": "0", "applied": "24", "difference": "24"}
    assert [event["id"] for event in told["firstEvents"]] == ["late-0", "late-1"]
    assert {event["status"] for event in told["firstEvents"]} == {"set_aside"}
    assert [step["action"] for step in told["steps"]] == ["propose"]
    assert books.total() == 100

    approved = books.decide(known, "approve", note="the collector was down").get_json()
    assert approved.keys() == LISTED
    assert (approved["status"], approved["disposition"]) == ("approved", "apply")
    assert (approved["decidedBy"], approved["decidedAt"]) == ("sandbox", "2026-12-05T12:00:00Z")
    assert books.total() == 124
    told = books.read(known)
    assert told["effect"]["difference"] == "24"
    assert {event["status"] for event in told["firstEvents"]} == {"counted"}
    assert told["steps"][1] == {
        "action": "approve", "disposition": "apply", "actor": "sandbox",
        "note": "the collector was down", "at": "2026-12-05T12:00:00Z",
    }  # fmt: skip

    assert "approved by sandbox" in assert_problem(books.decide(known, "approve"), 409)
    assert books.decide(known, "revert").get_json()["status"] == "reverted"
    assert books.total() == 100
    assert_problem(books.decide(known, "revert"), 409)
    assert_problem(books.decide(known, "decline"), 409)


def test_a_delta_is_created_once_for_a_key(books: Books) -> None:
    wanted, named = books.wanted("-20"), {"Idempotency-Key": f"k-{books.tenant}"}
    first = books.api.post(URL, json=wanted, headers=named)
    again = books.api.post(URL, json=wanted, headers=named)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.get_json() == again.get_json()
    assert_problem(books.api.post(URL, json=wanted | {"delta": "-21"}, headers=named), 422)
    [made] = books.list()
    assert (made["delta"], made["quantity"], made["events"]) == ("-20", "-20", 0)
    assert (made["createdBy"], made["origin"], made["kind"]) == ("sandbox", "manual", "delta")
    books.decide(made["id"], "approve")
    assert books.total() == 80


def test_a_delta_is_taken_exactly_or_refused(books: Books) -> None:
    exact = "12345678901234567890.123456789012"
    assert books.read(books.delta(exact))["delta"] == exact
    for wrong in ("0", "abc", True, "1e400", "NaN", None, "0.0000000000001"):
        answer = books.api.post(URL, json=books.wanted("1") | {"delta": wrong})
        assert_problem(answer, 422, pointer="/delta")
    answer = books.api.post(URL, json=books.wanted("1") | {"metric": "nobody had"})
    assert_problem(answer, 404)
    ahead = books.wanted("1") | {"periodStart": "2027-02-01T00:00:00Z"}
    assert_problem(books.api.post(URL, json=ahead), 422, pointer="/periodStart")


def test_a_final_invoice_takes_nothing_more_but_the_current_period_does(books: Books) -> None:
    known = books.late(20)
    books.finalize()
    detail = assert_problem(books.decide(known, "approve"), 409, pointer="/disposition")
    assert "in_1" in detail
    assert "carry_forward" in detail
    carried = books.decide(known, "approve", disposition="carry_forward").get_json()
    assert carried["carried"] == "20"
    assert carried["carriedTo"] == {"start": "2026-12-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}
    assert (books.total(), books.total(DECEMBER)) == (100, 20)
    forward = books.read(known)["carryForward"]
    assert forward["effect"] == {"without": "0", "applied": "20", "difference": "20"}
    assert forward["money"]["difference"] == "10.00"
    books.decide(known, "revert")
    assert (books.total(), books.total(DECEMBER)) == (100, 0)


@pytest.mark.parametrize("disposition", ["invoice_item", "credit_note", "write_off"])
def test_what_is_settled_outside_changes_no_total(books: Books, disposition: str) -> None:
    known = books.late(20)
    decided = books.decide(known, "approve", disposition=disposition).get_json()
    assert (decided["status"], decided["disposition"]) == ("approved", disposition)
    assert (books.total(), books.total(DECEMBER)) == (100, 0)


def test_no_approval_makes_a_total_negative(books: Books) -> None:
    known = books.delta("-101")
    assert "less than nothing" in assert_problem(books.decide(known, "approve"), 409)
    assert books.read(known)["status"] == "pending"
    assert books.total() == 100


def test_a_voided_event_can_leave_less_than_nothing_which_bills_as_nothing(books: Books) -> None:
    books.decide(books.delta("-20"), "approve")
    voided = books.api.post(
        "/v1/events/void", json={"tenantId": books.tenant, "id": "early", "reason": "a test run"}
    )
    assert voided.get_json()["total"] == "-20"
    asked = {
        "tenantId": books.tenant,
        "customerRef": "cus_1",
        "periodStart": "2026-11-01T00:00:00Z",
    }
    found = books.api.post("/v1/usage/projection", json=asked).get_json()
    [line] = found["lineItems"]
    assert (line["quantity"], line["total"], line["adjustments"]) == ("-20", "0.00", "-20")
    assert found["total"] == "0.00"
    assert any("below zero" in warning for warning in found["warnings"])


def test_declined_may_be_approved_after_all(books: Books) -> None:
    known = books.late(20)
    assert books.decide(known, "decline", note="no").get_json()["status"] == "declined"
    assert books.total() == 100
    assert_problem(books.decide(known, "decline"), 409)
    books.decide(known, "approve")
    assert books.total() == 120
    actions = [step["action"] for step in books.read(known)["steps"]]
    assert actions == ["propose", "decline", "approve"]


def test_the_list_is_filtered_and_paged(books: Books) -> None:
    ids = [books.delta(str(n)) for n in (1, 2, 3)]
    books.decide(ids[0], "decline")
    late = books.late(7)
    assert {each["id"] for each in books.list()} == {*ids, late}
    for query, wanted in (
        ({"status": "declined"}, {ids[0]}),
        ({"kind": "events"}, {late}),
        ({"reason": "credit", "status": "pending"}, set(ids[1:])),
        ({"customerRef": "cus_2"}, set()),
        ({"metric": "api_calls", "customerRef": "cus_1"}, {*ids, late}),
        ({"periodStart": "2026-11-01T00:00:00Z"}, {*ids, late}),
        ({"periodStart": "2026-12-01T00:00:00Z"}, set()),
    ):
        assert {each["id"] for each in books.list(**query)} == wanted, query
    seen, cursor = [], None
    while True:
        query = {"tenantId": books.tenant, "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = books.api.get(URL, query_string=query).get_json()
        seen += [each["id"] for each in page["adjustments"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted([*ids, late])
    assert_problem(books.api.get(URL, query_string={"tenantId": books.tenant, "cursor": "x"}), 422)


def test_the_file_holds_all_of_them(books: Books) -> None:
    ids = {books.delta(str(n), note="=cmd()") for n in (1, -2)}
    query = {"tenantId": books.tenant, "format": "csv", "limit": 1}
    answer = books.api.get(URL, query_string=query)
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["id"] for row in rows} == ids
    assert sorted(row["delta"] for row in rows) == ["-2", "1"]
    assert {row["note"] for row in rows} == {"'=cmd()"}


def test_events_of_an_adjustment_are_paged(books: Books) -> None:
    known = books.late(1, 2, 3)
    url, query = f"{URL}/{known}/events", {"tenantId": books.tenant, "limit": 2}
    first = books.api.get(url, query_string=query).get_json()
    rest = books.api.get(url, query_string=query | {"cursor": first["nextCursor"]}).get_json()
    assert [each["id"] for each in first["events"] + rest["events"]] == [
        "late-0", "late-1", "late-2",
    ]  # fmt: skip
    assert rest["nextCursor"] is None


@pytest.mark.parametrize("aggregation", ["sum", "count", "max", "last", "unique"])
def test_the_effect_is_by_the_metrics_own_aggregation(books: Books, aggregation: str) -> None:
    changes = {"aggregation": aggregation, "unique_enabled": True}
    with unit_of_work(books.session):
        metrics.edit(books.session, books.tenant, "api_calls", changes, now=NOW)
    late = NOVEMBER + timedelta(days=2)
    for number, quantity in enumerate((250, 7)):
        events = [entry(f"l{number}", quantity, late, resource=f"r{number}")]
        put(books.session, books.tenant, events, now=NOW)
    fold_all(books.session, books.tenant)
    [found] = books.list(status="pending")
    differences = {"sum": "257", "count": "2", "max": "150", "last": "0", "unique": "2"}
    assert books.read(found["id"])["effect"]["difference"] == differences[aggregation]
    before = books.total()
    books.decide(found["id"], "approve")
    assert books.total() - before == Decimal(differences[aggregation])


@pytest.mark.parametrize("how", ["approve", "revert"])
def test_of_two_people_at_once_one_wins(books: Books, api: FlaskClient, how: str) -> None:
    known = books.late(20)
    if how == "revert":
        books.decide(known, "approve")
    people = 4
    barrier = Barrier(people)

    def press(_: int) -> int:
        client = api.application.test_client()
        barrier.wait()
        body = {"tenantId": books.tenant}
        return int(client.post(f"{URL}/{known}/{how}", json=body).status_code)

    with ThreadPoolExecutor(people) as pool:
        answers = sorted(pool.map(press, range(people)))
    assert answers == [200, *[409] * (people - 1)]
    assert books.total() == (120 if how == "approve" else 100)
    assert len([s for s in books.read(known)["steps"] if s["action"] == how]) == 1


def test_an_id_that_is_none_is_not_found(books: Books) -> None:
    for known in ("adj_nothing", "x" * 100, "%00", "é"):
        answer = books.api.get(f"{URL}/{known}", query_string={"tenantId": books.tenant})
        assert_problem(answer, 404)
