"""Whatever happens to a customer: the number shown is the number billed, by day and in the file,
and a widget that is told that nothing has changed shows what it would be shown."""

import csv
import io
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from metering.catalog import mappings, metrics
from metering.catalog.models import BillingPeriod
from metering.counters import adjustments, deciding, unique, voids
from metering.counters.adjustments import Wanted
from metering.database import unit_of_work
from metering.errors import DomainError
from metering.tenancy import tenants
from pricing.price import Price
from tests.pricing.strategies import QUANTITIES, prices
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock
from tests.webapp.test_widget_frames import secret_of

START = datetime(2026, 11, 17, 9, 30, 11, tzinfo=UTC)
ORIGIN = {"Origin": "http://localhost:8000"}
NAMES = ("calls", "seats", "people")
PRICES = prices()


@dataclass
class Life:
    """One customer, its tenant, and one widget that stays open.

    shown: what it last got, by its ETag.
    """

    session: Session
    api: FlaskClient
    clock: Clock
    only: list[str] | None
    tenant: str = field(default_factory=lambda: f"life-{uuid.uuid4()}")
    secret: str = ""
    etag: str = ""
    shown: str = ""
    at: datetime = START
    mapped: list[str] = field(default_factory=list)
    ids: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        with unit_of_work(self.session):
            tenants.create(self.session, self.tenant, mode="test", now=START)
        self.open()

    def open(self) -> None:
        asked: dict[str, Any] = {"tenantId": self.tenant, "customerRef": "c1"}
        made = self.api.post(
            "/v1/widget/tokens",
            json=asked | {"ttlSeconds": 86_400} | ({"metrics": self.only} if self.only else {}),
        )
        given = self.api.post(
            "/v1/widget/frames", json={"token": made.get_json()["token"]}, headers=ORIGIN
        )
        self.secret = secret_of(self.api.get(given.get_json()["frameUrl"]).text)

    def get(self, path: str, **headers: str) -> Any:
        answer = self.api.get(path, headers={"X-Widget-Session": self.secret} | headers)
        if answer.status_code == 401:
            self.open()
            answer = self.api.get(path, headers={"X-Widget-Session": self.secret} | headers)
        return answer

    # ---- what may happen

    def use(self, metric: str, back: timedelta, quantity: Decimal, resource: str) -> None:
        made = entry(
            f"e{next(self.ids)}", quantity, self.clock.at - back, metric=metric, customer="c1",
            resource=resource,
        )  # fmt: skip
        put(self.session, self.tenant, [made], now=self.clock.at)

    def use_elsewhere(self, metric: str, back: timedelta) -> None:
        made = entry(f"e{next(self.ids)}", 1, self.clock.at - back, metric=metric, customer="c2")
        put(self.session, self.tenant, [made], now=self.clock.at)

    def fold(self) -> None:
        fold_all(self.session, self.tenant)
        for name in NAMES:
            more = True
            while more:
                with unit_of_work(self.session):
                    more = unique.fill(self.session, self.tenant, name, now=self.clock.at)

    def wait(self, length: timedelta) -> None:
        self.clock.at += length

    def change(self, metric: str, changes: dict[str, Any]) -> None:
        with unit_of_work(self.session):
            metrics.edit(self.session, self.tenant, metric, changes, now=self.clock.at)

    def price(self, metric: str, price: Price, since: timedelta, more: dict[str, Any]) -> None:
        wanted = {"metric": metric, "price": price, "effective_from": self.clock.at + since} | more
        name = mappings.id_of(None)
        with unit_of_work(self.session):
            mappings.create(self.session, self.tenant, name, wanted, now=self.clock.at)
        self.mapped.append(name)

    def end(self) -> None:
        if self.mapped:
            with unit_of_work(self.session):
                mappings.end(self.session, self.tenant, self.mapped.pop(), now=self.clock.at)

    def bill(self, metric: str, since: timedelta, length: timedelta) -> None:
        start_at, end_at = self.clock.at + since, self.clock.at + since + length
        known = self.session.query(BillingPeriod).filter_by(tenant_id=self.tenant, metric=metric)
        taken = [(row.start_at, row.end_at) for row in known]
        self.session.rollback()
        if any(start < end_at and start_at < end for start, end in taken):
            return
        with unit_of_work(self.session):
            self.session.add(
                BillingPeriod(
                    tenant_id=self.tenant, mode="test", customer_ref="c1", metric=metric,
                    item_id="si_1", start_at=start_at, end_at=end_at,
                )
            )  # fmt: skip

    def void(self, chosen: int) -> None:
        self.said_of_event(voids.void, chosen)

    def restore(self, chosen: int) -> None:
        self.said_of_event(voids.restore, chosen)

    def said_of_event(self, act: Any, chosen: int) -> None:
        keys = self.session.scalars(
            text("SELECT idempotency_key FROM events WHERE tenant_id = :t ORDER BY 1"),
            {"t": self.tenant},
        ).all()
        key = keys[chosen % len(keys)]
        with unit_of_work(self.session):
            act(self.session, self.tenant, key, reason="r", actor="me", now=self.clock.at)

    def adjust(self, metric: str, back: timedelta, delta: Decimal) -> None:
        wanted = Wanted("c1", metric, delta, "credit", self.clock.at - back)
        with unit_of_work(self.session):
            adjustments.create(
                self.session, self.tenant, adjustments.id_of(None), wanted, actor="me",
                now=self.clock.at,
            )  # fmt: skip

    def approve(self, chosen: int, disposition: str) -> None:
        self.decide(deciding.approve, chosen, disposition=disposition)

    def revert(self, chosen: int) -> None:
        self.decide(deciding.revert, chosen)

    def decide(self, take: Any, chosen: int, **how: str) -> None:
        """One of those of which it can be."""
        status = "approved" if take is deciding.revert else "pending"
        wanted = adjustments.Filter(status=status, limit=100)
        found = [one.adjustment_id for one in adjustments.page(self.session, self.tenant, wanted)]
        self.session.rollback()
        if found:
            known = found[chosen % len(found)]
            with unit_of_work(self.session):
                take(self.session, self.tenant, known, actor="me", now=self.clock.at, **how)

    # ---- what must hold

    def look(self) -> None:
        """A poll, and what it would have shown without its ETag."""
        polled = self.get("/widget/usage", **{"If-None-Match": self.etag})
        fresh = self.get("/widget/usage")
        assert fresh.status_code == 200
        if polled.status_code == 304:
            if self.clock.at == self.at:
                assert fresh.text == self.shown
            assert numbers(fresh.text) == numbers(self.shown)
        else:
            assert polled.text == fresh.text
        self.etag, self.shown, self.at = fresh.headers["ETag"], fresh.text, self.clock.at

    def check_money(self) -> None:
        asked = {"tenantId": self.tenant, "customerRef": "c1"}
        billed = self.api.post("/v1/usage/projection", json=asked).get_json()
        lines = {
            each["metric"]: each
            for each in billed["lineItems"]
            if self.only is None or each["metric"] in self.only
        }
        file = self.get("/widget/statement")
        rows = list(csv.DictReader(io.StringIO(file.text)))
        of_metrics = {row["metric"]: row for row in rows if row["row"] == "metric"}
        assert of_metrics.keys() == lines.keys()
        for name, line in lines.items():
            assert of_metrics[name]["amount"] == (line["total"] or "")
            assert Decimal(of_metrics[name]["quantity"]) == Decimal(line["quantity"])
            days = [row for row in rows if (row["row"], row["metric"]) == ("day", name)]
            if days and line["total"] is not None:
                assert sum(Decimal(row["amount"]) for row in days) == Decimal(line["total"])
            for day, following in pairwise(days):
                assert day["end"] == following["start"]
        totals = {row["currency"].lower(): row["amount"] for row in rows if row["row"] == "total"}
        sums: dict[str, Decimal] = {}
        for line in lines.values():
            if line["total"] is not None:
                code = line["currency"]
                sums[code] = sums.get(code, Decimal(0)) + Decimal(line["total"])
        assert {code: Decimal(amount) for code, amount in totals.items()} == sums
        if self.only is None and billed["total"] is not None:
            assert totals[billed["currency"]] == billed["total"]
        shown = numbers(self.shown)[0]
        assert sorted(map(digits, shown)) == sorted(map(digits, totals.values()))


def digits(amount: str) -> str:
    """An amount without what a locale adds to it."""
    return ("-" if "\u2212" in amount or "-" in amount else "") + re.sub("[^0-9.]", "", amount)


def numbers(html: str) -> tuple[list[str], list[str], list[str]]:
    """What it costs so far, what each metric costs, and how much of it was used."""
    return (
        re.findall(r"<strong[^>]*>([^<]*)</strong>", html),
        re.findall(r'<p class="cost[^"]*">([^<]*)</p>', html),
        re.findall(r'<p class="used"><b>([^<]*)</b>', html),
    )


BACK = st.one_of(
    st.integers(0, 100 * 86_400).map(lambda n: timedelta(seconds=n)),
    st.integers(0, 3 * 86_400).map(lambda n: timedelta(seconds=n)),
    st.just(timedelta(0)),
)
NAME = st.sampled_from(NAMES)
CHOSEN = st.integers(0, 30)
HAPPENS = st.one_of(
    st.tuples(st.just("use"), NAME, BACK, QUANTITIES, st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("use"), NAME, BACK, QUANTITIES, st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("use_elsewhere"), NAME, BACK),
    st.tuples(st.just("fold")),
    st.tuples(st.just("fold")),
    st.tuples(
        st.just("wait"),
        (st.integers(1, 400) | st.integers(1, 40 * 86_400)).map(lambda n: timedelta(seconds=n)),
    ),
    st.tuples(
        st.just("change"),
        NAME,
        st.one_of(
            st.builds(
                lambda each, carry: {"aggregation": each, "carry_over": carry and each == "last"},
                st.sampled_from(["sum", "count", "max", "last", "unique"]),
                st.booleans(),
            ),
            st.sampled_from([
                {"display_name": "Calls <of> {API}"}, {"unit": "calls"},
                {"late_policy": "age", "lateness_seconds": 0},
                {"late_policy": "period"}, {"lateness_seconds": 3600},
            ]),
        ),
    ),
    st.tuples(
        st.just("price"),
        NAME,
        PRICES,
        st.integers(-90 * 24, 10 * 24).map(lambda n: timedelta(hours=n)),
        st.sampled_from([{}, {}, {"customer_ref": "c1"}, {"is_shadow": True}]),
    ),
    st.tuples(st.just("end")),
    st.tuples(st.just("void"), CHOSEN),
    st.tuples(st.just("void"), CHOSEN),
    st.tuples(st.just("restore"), CHOSEN),
    st.tuples(st.just("adjust"), NAME, BACK, QUANTITIES | QUANTITIES.map(Decimal.__neg__)),
    st.tuples(
        st.just("approve"),
        CHOSEN,
        st.sampled_from(["apply", "apply", "apply", "carry_forward", "write_off"]),
    ),
    st.tuples(st.just("revert"), CHOSEN),
    st.tuples(
        st.just("bill"),
        NAME,
        st.integers(-40 * 86_400, 86_400).map(lambda n: timedelta(seconds=n)),
        st.integers(60, 60 * 86_400).map(lambda n: timedelta(seconds=n)),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(START)


@pytest.fixture(scope="module")
def api(make_app: AppMaker, clock: Clock) -> FlaskClient:
    return make_app(clock, sandbox=True).test_client()


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(HAPPENS, min_size=3, max_size=25), st.none() | st.sets(NAME, min_size=1).map(sorted)
)
def test_what_is_shown_is_what_is_billed_in_any_life(
    session: Session, api: FlaskClient, clock: Clock, happens: Any, only: Any
) -> None:
    clock.at = START
    life = Life(session, api, clock, only)
    life.use("calls", timedelta(0), Decimal("120.5"), "a")
    life.look()
    for name, *given_to in happens:
        try:
            getattr(life, name)(*given_to)
        except DomainError:
            session.rollback()
        life.look()
        life.check_money()
