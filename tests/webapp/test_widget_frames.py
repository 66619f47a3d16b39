"""The widget's frame over HTTP: it opens once, shows one customer's usage, and ends in time."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from metering.catalog import mappings, metrics
from metering.database import unit_of_work
from metering.tenancy import widgets
from pricing.price import from_config
from tests.support import entry, fold_all, put
from tests.webapp.support import AppMaker, Clock
from tests.webapp.test_health import NOBODY_THERE
from webapp.widget import options

HOST = "https://app.example.com"
NOON = datetime(2026, 11, 12, 12, 0, tzinfo=UTC)
TIERS = {
    "model": "graduated",
    "currency": "usd",
    "tiers": [{"upTo": 100, "unitPrice": "0"}, {"upTo": None, "unitPrice": "0.01"}],
}


@dataclass
class Frame:
    """An open widget: what its script holds."""

    api: FlaskClient
    token_id: str
    secret: str
    document: str
    etag: str

    def get(self, path: str = "/widget/usage", **headers: str) -> TestResponse:
        return self.api.get(path, headers={"X-Widget-Session": self.secret} | headers)

    def poll(self) -> TestResponse:
        answer = self.get(**{"If-None-Match": f'"{self.etag}"'})
        if answer.status_code == 200:
            self.etag = answer.get_etag()[0] or ""
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def api(make_app: AppMaker, clock: Clock) -> FlaskClient:
    return make_app(clock, sandbox=False).test_client()


@pytest.fixture
def use(session: Session, tenant: str, clock: Clock) -> Callable[..., None]:
    """Let a customer use something, and count it."""
    made = iter(range(10_000))

    def add(
        quantity: object, *, customer: str = "c1", metric: str = "api_calls",
        at: datetime | None = None, counted: bool = True, **more: Any,
    ) -> None:  # fmt: skip
        name = f"e{next(made)}"
        event = entry(name, quantity, at or clock.at, customer=customer, metric=metric, **more)
        put(session, tenant, [event], now=clock.at)
        if counted:
            fold_all(session, tenant)

    return add


@pytest.fixture
def priced(session: Session, tenant: str) -> None:
    with unit_of_work(session):
        wanted = {
            "metric": "api_calls",
            "price": from_config(TIERS),
            "effective_from": NOON - timedelta(days=60),
        }
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=NOON)
        told = {"display_name": "API calls", "unit": "calls"}
        metrics.edit(session, tenant, "api_calls", told, now=NOON)


@pytest.fixture
def open_frame(
    api: FlaskClient, session: Session, tenant: str, clock: Clock
) -> Callable[..., Frame]:
    def opened(query: str = "", customer: str = "c1", **wanted: Any) -> Frame:
        with unit_of_work(session):
            given = widgets.Wanted(customer, **{"origins": [HOST]} | wanted)
            made, token = widgets.mint(session, tenant, given, created_by="test", now=clock.at)
            token_id = made.token_id
        answer = api.post("/v1/widget/frames", json={"token": token}, headers={"Origin": HOST})
        document = api.get(answer.get_json()["frameUrl"] + query)
        assert document.status_code == 200, document.text
        body = document.text
        return Frame(api, token_id, secret_of(body), body, etag_of(body))

    return opened


def secret_of(document: str) -> str:
    found = re.search(r"hx-headers='([^']*)'", document)
    assert found is not None
    secret: str = json.loads(found[1])["X-Widget-Session"]
    return secret


def etag_of(document: str) -> str:
    found = re.search(r"""data-etag='"([0-9a-f]+-[0-9.]+)"'""", document)
    assert found is not None
    return found[1]


def frame_url(api: FlaskClient, session: Session, tenant: str, now: datetime, **wanted: Any) -> str:
    with unit_of_work(session):
        given = widgets.Wanted("c1", **{"origins": [HOST]} | wanted)
        _, token = widgets.mint(session, tenant, given, created_by="test", now=now)
    opened = api.post("/v1/widget/frames", json={"token": token}, headers={"Origin": HOST})
    url: str = opened.get_json()["frameUrl"]
    return url


def test_the_frame_opens_once_and_only_on_the_tokens_pages(
    api: FlaskClient, session: Session, tenant: str, use: Any, priced: None
) -> None:
    use(250)
    origins = [HOST, "https://admin.example.com"]
    url = frame_url(api, session, tenant, NOON, origins=origins)
    opened = api.get(url)
    policy = opened.headers["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors https://admin.example.com https://app.example.com")
    assert "unsafe" not in policy
    assert opened.headers["Referrer-Policy"] == "no-referrer"
    assert opened.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in opened.headers
    assert "$1.50" in opened.text
    again = api.get(url)
    assert again.status_code == 401
    assert "$" not in again.text
    assert "data-ended" in again.text


def test_nothing_secret_is_in_an_address_or_a_log(
    open_frame: Any, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use(1)
    with caplog.at_level("DEBUG"):
        frame = open_frame()
        frame.poll()
        frame.get("/widget/activity")
    logged = "".join(json.dumps(vars(each), default=str) for each in caplog.records)
    assert frame.secret not in logged
    assert "smw_" not in logged
    assert "/widget/f/<code>" in logged
    for address in re.findall(r'(?:href|src|hx-get|data-download)="([^"]*)"', frame.document):
        assert frame.secret not in address


def test_a_poll_says_that_nothing_has_changed_until_it_has(
    open_frame: Any, use: Any, priced: None, clock: Clock
) -> None:
    use(250)
    frame = open_frame()
    clock.at += timedelta(seconds=2)
    same = frame.poll()
    assert (same.status_code, same.data) == (304, b"")
    assert float(same.headers["X-Widget-As-Of-Age"]) == 0
    assert same.headers["Cache-Control"] == "no-store"
    use(1, customer="somebody else")
    assert frame.poll().status_code == 304
    use(100)
    changed = frame.poll()
    assert changed.status_code == 200
    assert "$2.50" in changed.text
    assert frame.poll().status_code == 304


def test_a_tag_that_a_proxy_has_weakened_is_known(open_frame: Any, use: Any, priced: None) -> None:
    use(250)
    frame = open_frame()
    assert frame.get(**{"If-None-Match": f'W/"{frame.etag}"'}).status_code == 304


def test_time_alone_changes_only_what_stands_behind_the_hyphen(
    open_frame: Any, use: Any, priced: None, clock: Clock
) -> None:
    use(250)
    frame = open_frame()
    state, first = frame.etag.split("-")
    clock.at += timedelta(minutes=5)
    assert frame.poll().status_code == 200
    assert frame.etag.startswith(f"{state}-")
    assert frame.etag != f"{state}-{first}"
    assert frame.poll().status_code == 304
    use(1)
    assert frame.poll().status_code == 200
    assert not frame.etag.startswith(state)


def test_open_widgets_are_not_all_made_anew_at_once_but_for_a_new_day(
    open_frame: Any, use: Any, clock: Clock
) -> None:
    use(250)
    frames = [open_frame() for _ in range(20)]
    made = []
    for _ in range(10):
        clock.at += timedelta(seconds=30)
        made.append(sum(frame.poll().status_code == 200 for frame in frames))
    assert sum(made) == 20
    assert max(made) < 12
    clock.at = clock.at.replace(hour=23, minute=59, second=59)
    frame = open_frame()
    clock.at += timedelta(seconds=1)
    assert frame.poll().status_code == 200


def test_what_is_not_counted_yet_is_said_and_makes_the_numbers_old(
    open_frame: Any, use: Any, priced: None, clock: Clock, session: Session, tenant: str
) -> None:
    use(250)
    frame = open_frame()
    use(100, counted=False)
    clock.at += timedelta(seconds=9)
    waiting = frame.poll()
    assert waiting.status_code == 200
    assert "1 event is still being counted" in waiting.text
    assert "$1.50" in waiting.text
    assert float(waiting.headers["X-Widget-As-Of-Age"]) >= 9
    fold_all(session, tenant)
    assert "$2.50" in frame.poll().text


def test_an_estimate_and_a_new_period_come_with_time_alone(
    open_frame: Any, use: Any, priced: None, clock: Clock
) -> None:
    use(250)
    frame = open_frame()
    clock.at = datetime(2026, 12, 1, tzinfo=UTC) - timedelta(seconds=1)
    frame = open_frame()
    assert "$1.50" in frame.document
    clock.at += timedelta(seconds=2)
    turned = frame.poll()
    assert turned.status_code == 200
    assert "$1.50" not in turned.text


def test_the_number_shown_is_the_one_of_the_projection(
    open_frame: Any, use: Any, priced: None, client: FlaskClient, tenant: str, clock: Clock,
    make_app: AppMaker,
) -> None:  # fmt: skip
    for quantity in ("10.5", "333.25", "0.000000000001"):
        use(Decimal(quantity))
    open_api = make_app(clock).test_client()
    asked = {"tenantId": tenant, "customerRef": "c1"}
    said = open_api.post("/v1/usage/projection", json=asked).get_json()
    assert f"${said['total']}" in open_frame().document


def test_a_token_for_some_metrics_shows_no_others(open_frame: Any, use: Any, priced: None) -> None:
    use(250)
    use(7341, metric="hidden_metric")
    frame = open_frame(metrics=["api_calls"])
    for text in (
        frame.document, frame.get("/widget/activity").text, frame.get("/widget/statement").text,
    ):  # fmt: skip
        assert "7,341" not in text
        assert "7341" not in text
        assert "hidden_metric" not in text


def test_a_token_for_some_metrics_does_not_tell_when_others_are_used(
    open_frame: Any, use: Any, priced: None
) -> None:
    use(250)
    use(1, metric="hidden_metric")
    frame = open_frame(metrics=["api_calls"])
    assert frame.poll().status_code == 304
    for counted in (False, True):
        use(1, metric="hidden_metric", counted=counted)
        assert frame.poll().status_code == 304
    use(1)
    assert frame.poll().status_code == 200


def test_the_statement_does_not_say_what_the_operator_tries(
    open_frame: Any, use: Any, session: Session, tenant: str
) -> None:
    """Why there is no price names test prices, Stripe's objects and commands to type."""
    use(250)
    with unit_of_work(session):
        wanted = {
            "metric": "api_calls",
            "price": from_config(TIERS),
            "effective_from": NOON - timedelta(days=60),
            "is_shadow": True,
        }
        mappings.create(session, tenant, mappings.id_of(None), wanted, now=NOON)
    [metric] = [
        row
        for row in csv.DictReader(io.StringIO(open_frame().get("/widget/statement").text))
        if row["row"] == "metric"
    ]
    assert (metric["amount"], metric["note"]) == ("", "no price")


def test_a_frame_shows_its_customer_and_nobody_else(open_frame: Any, use: Any) -> None:
    use(7341, customer="c2", resource="r-of-c2")
    frame = open_frame()
    for path in ("/widget/usage", "/widget/activity", "/widget/statement"):
        answer = frame.get(path)
        assert answer.status_code == 200
        for text in ("7,341", "7341", "c2"):
            assert text not in answer.text


def test_the_meta_of_an_event_is_never_shown(open_frame: Any, use: Any) -> None:
    use(3, meta='{"secret": "planted-meta"}')
    frame = open_frame()
    listed = frame.get("/widget/activity")
    assert "planted-meta" not in frame.document + listed.text + frame.get("/widget/statement").text
    assert "api_calls" in listed.text
    assert listed.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/widget/usage", "/widget/activity", "/widget/statement"])
def test_without_a_living_session_nothing_is_shown(
    api: FlaskClient, open_frame: Any, use: Any, session: Session, tenant: str, clock: Clock,
    path: str, key: str,
) -> None:  # fmt: skip
    use(7341)
    frame = open_frame()
    assert frame.get(path).status_code == 200
    forged = frame.secret[:-1] + ("A" if frame.secret[-1] != "A" else "B")
    for headers in (
        {}, {"X-Widget-Session": ""}, {"X-Widget-Session": forged}, {"X-Widget-Session": "\xff"},
        {"Authorization": f"Bearer {key}"}, {"X-Widget-Session": key},
    ):  # fmt: skip
        refused = api.get(path, headers=headers)
        assert refused.status_code == 401, headers
        assert "7,341" not in refused.text
    with unit_of_work(session):
        widgets.revoke(session, tenant, frame.token_id, now=clock.at)
    assert frame.get(path).status_code == 401


def test_nobody_without_a_session_makes_locales_be_read(
    api: FlaskClient, broken: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are some 190 MB, for as long as the process lives."""
    read: list[str] = []
    house = options._locale
    monkeypatch.setattr(options, "_locale", lambda tag: read.append(tag) or house(tag))
    for path in ("f/code", "usage", "activity", "statement"):
        assert api.get(f"/widget/{path}?locale=yav&theme=dark").status_code == 401
    assert 'data-theme="dark"' in api.get("/widget/f/code?locale=yav&theme=dark").text
    assert broken.get("/widget/f/code?locale=yav").status_code == 503
    assert set(read) <= {""}


def test_a_session_ends_when_its_token_expires(open_frame: Any, clock: Clock) -> None:
    frame = open_frame()
    clock.at += timedelta(seconds=899)
    assert frame.get().status_code == 200
    clock.at += timedelta(seconds=1)
    assert frame.get().status_code == 401


def test_an_open_frame_goes_on_under_another_token(
    api: FlaskClient, session: Session, tenant: str, open_frame: Any, use: Any, clock: Clock
) -> None:
    use(5)
    frame = open_frame()
    clock.at += timedelta(seconds=800)
    code = frame_url(api, session, tenant, clock.at).removeprefix("/widget/f/")
    renewed = api.post("/widget/session", json={"code": code}).get_json()
    assert renewed["expiresInSeconds"] == 900
    clock.at += timedelta(seconds=800)
    assert frame.get().status_code == 401
    frame.secret = renewed["session"]
    assert frame.get().status_code == 200


def test_the_statement_adds_up_to_what_is_shown(
    open_frame: Any, use: Any, priced: None, clock: Clock
) -> None:
    for day in (1, 3, 3, 11):
        use(Decimal("77.5"), at=datetime(2026, 11, day, 8, tzinfo=UTC))
    use(4, metric="unpriced")
    frame = open_frame()
    answer = frame.get("/widget/statement")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-2026-11-01.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    of_calls = [row for row in rows if row["metric"] == "api_calls"]
    days = [row for row in of_calls if row["row"] == "day"]
    [metric] = [row for row in of_calls if row["row"] == "metric"]
    [total] = [row for row in rows if row["row"] == "total"]
    assert len(days) == 12
    assert sum(Decimal(row["quantity"]) for row in days) == Decimal(metric["quantity"]) == 310
    amount = sum(Decimal(row["amount"]) for row in days)
    assert amount == Decimal(metric["amount"]) == Decimal(total["amount"]) == Decimal("2.10")
    assert "$2.10" in frame.document
    [unpriced] = [row for row in rows if (row["row"], row["metric"]) == ("metric", "unpriced")]
    assert unpriced["amount"] == ""
    assert "no price" in unpriced["note"]


def test_names_cannot_become_markup_or_formulas(
    open_frame: Any, use: Any, session: Session, tenant: str
) -> None:
    evil = "=1+1<script>alert(1)</script>"
    use(3)
    with unit_of_work(session):
        told = {"display_name": evil, "unit": "<b>u"}
        metrics.edit(session, tenant, "api_calls", told, now=NOON)
    frame = open_frame()
    for text in (frame.document, frame.get().text, frame.get("/widget/activity").text):
        assert "<script>alert" not in text
        assert "<b>u" not in text
    assert "'=1+1<script>" in frame.get("/widget/statement").text


@pytest.mark.parametrize(
    "query",
    [
        "?theme=dark&compact=1&locale=de-DE&dir=rtl&accent=ff0000&radius=12",
        '?theme="><script>&locale=../../etc&dir=x&accent=red;}&radius=1e9&compact=maybe',
        "?locale=xx-YY&accent=%00&radius=-1",
        "?locale=&theme=&accent=&radius=",
        "?locale=" + "a" * 300,
    ],
)
def test_no_option_can_break_the_frame(open_frame: Any, use: Any, query: str) -> None:
    use(3)
    document = open_frame(query).document
    assert "<script>" not in document
    assert "red;" not in document


def test_a_locale_writes_money_its_own_way(open_frame: Any, use: Any, priced: None) -> None:
    use(123_556)
    assert "$1,234.56" in open_frame("?locale=en-US").document
    assert "1.234,56\xa0$" in open_frame("?locale=de-DE").document.replace("&nbsp;", "\xa0")


def test_the_hosts_colour_and_corners_are_a_stylesheet(api: FlaskClient) -> None:
    sheet = api.get("/widget/brand/0b62c4/12.css")
    assert sheet.mimetype == "text/css"
    assert "immutable" in sheet.headers["Cache-Control"]
    assert "12px" in sheet.text
    wrong = api.get("/widget/brand/red;}/1e9.css")
    assert (wrong.status_code, wrong.text.strip()) == (200, "")


def test_the_script_has_one_address_and_is_asked_for_again(api: FlaskClient) -> None:
    found = api.get("/widget.js", headers={"Accept-Encoding": "gzip"}, buffered=True)
    assert found.mimetype in ("text/javascript", "application/javascript")
    assert found.headers["Cache-Control"] == "public, max-age=300"
    assert found.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert found.headers["Content-Encoding"] == "gzip"
    again = api.get("/widget.js", headers={"If-None-Match": found.headers["ETag"]}, buffered=True)
    assert again.status_code == 304
    plain = api.get("/widget.js", buffered=True)
    assert "Content-Encoding" not in plain.headers
    assert "StripeMeterWidget" in plain.text
    assert "Accept-Encoding" in plain.headers["Vary"]


@pytest.fixture
def broken(make_app: AppMaker, clock: Clock) -> FlaskClient:
    """An app without a database."""
    return make_app(clock, sandbox=False, database_url=NOBODY_THERE).test_client()


def test_a_frame_that_cannot_be_made_says_so_on_a_page(broken: FlaskClient) -> None:
    answer = broken.get("/widget/f/code")
    assert answer.status_code == 503
    assert answer.mimetype == "text/html"
    assert "cannot be shown just now" in answer.text
    assert "$" not in answer.text


def test_a_customer_without_usage_is_told_so(open_frame: Any) -> None:
    document = open_frame().document
    assert "$0.00" not in document
    assert "othing used" in document or "o usage" in document
