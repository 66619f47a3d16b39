"""An account is read whole once, then by its events; no webhook is needed for either."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobs import catalogue
from jobs.runtime import config, hints
from metering.catalog.mirror import StripeInvoice, StripeMeter, StripePrice, SubscriptionItem
from metering.stripe.models import Connection
from tests.jobs.account import MIRRORS, Account, opened
from tests.stripe_world import LIVE_KEY

AT = datetime(2026, 10, 15, 10, tzinfo=UTC)


@pytest.fixture
def account(
    session: Session, process_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    with opened(session, AT, monkeypatch) as made:
        yield made


def subscribed(account: Account) -> Any:
    return account.subscribe(account.customer("aurora"), account.price(account.meter()))


def test_all_of_an_account_is_read(account: Account) -> None:
    subscription = subscribed(account)
    account.go_to(AT + timedelta(days=32))
    account.read()
    assert [len(account.mirrored(model)) for model in MIRRORS] == [1, 1, 1, 1, 1]
    [item] = account.mirrored(SubscriptionItem)
    assert (item.subscription_id, item.anchor_at.astimezone(UTC)) == (subscription.id, AT)
    [price] = account.mirrored(StripePrice)
    assert price.definition["tiers"][1]["unitPrice"] == "0.036"
    [invoice] = account.mirrored(StripeInvoice)
    assert invoice.status == "paid"


def test_what_has_happened_since_is_heard_without_a_webhook(account: Account) -> None:
    account.read()
    assert account.mirrored(StripeMeter) == []
    account.go_to(AT + timedelta(minutes=1))
    subscription = subscribed(account)
    account.hear()
    [item] = account.mirrored(SubscriptionItem)
    assert (item.subscription_id, item.status) == (subscription.id, "active")
    [price] = account.mirrored(StripePrice)
    assert price.definition["tiers"][1]["unitPrice"] == "0.036"
    account.go_to(AT + timedelta(days=1))
    account.v1.subscriptions.cancel(subscription.id)
    account.hear()
    [item] = account.mirrored(SubscriptionItem)
    assert item.ended_at.astimezone(UTC) == AT + timedelta(days=1)


def test_events_are_asked_for_after_the_last_one_and_each_is_handled_once(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[str] = []

    def handle(tenant_id: str, mode: str, event_id: str) -> bool:
        handled.append(event_id)
        return True

    monkeypatch.setattr(hints(), "handle_webhook", handle)
    asked: list[str | None] = []

    def watch(method: str, path: str, params: Any, status: int, answer: Any) -> None:
        if path == "/v1/events":
            asked.append(params.get("ending_before"))

    account.world.observers.append(watch)
    account.read()
    # More than a page of them.
    for number in range(120):
        account.go_to(AT + timedelta(seconds=number // 60))  # or Stripe's limit is in the way
        account.customer(f"ref_{number}")
    account.hear()
    account.hear()
    assert (len(handled), len(set(handled))) == (120, 120)
    # The newest is the last that was read: after it nothing has happened yet.
    newest = account.v1.events.list({"limit": 1}).data[0].id
    assert asked[-2] == newest
    account.customer("one_more")
    account.hear()
    assert len(handled) == 121


def test_a_listing_marks_what_has_gone_and_is_due_once_a_day(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = account.meter()
    looked: list[bool] = []

    def look(tenant_id: str, mode: str, account_id: str, *, whole: bool) -> None:
        if account_id == account.acme.account_id:
            looked.append(whole)

    monkeypatch.setattr(hints(), "look_at_stripe", look)
    monkeypatch.setenv("STRIPE_LIVE_KEY", LIVE_KEY)
    config.cache_clear()
    catalogue.look()
    account.read()
    catalogue.look()
    account.partition.remove("billing.meter", meter.id)
    account.go_to(AT + catalogue.LISTED_EVERY)
    catalogue.look()
    assert looked == [True, False, True]
    account.read()
    assert [each.is_active for each in account.mirrored(StripeMeter)] == [False]


def test_a_key_that_is_revoked_while_an_account_is_read_halts_it(account: Account) -> None:
    account.world.revoke_key(LIVE_KEY)
    account.read()
    account.hear()
    [connection] = account.mirrored(Connection)
    assert connection.halted_kind == "auth"
    assert LIVE_KEY not in connection.halted_reason
