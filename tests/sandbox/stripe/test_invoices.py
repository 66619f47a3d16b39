"""Invoices of the stand-in: previews, drafts, the hour of grace, and what becomes of them."""

from decimal import Decimal

import pytest
import stripe

from tests.sandbox.stripe.billing import amounts, at

MONTH_ONE, MONTH_TWO = at("2026-02-15 10:23:45"), at("2026-03-15 10:23:45")


@pytest.fixture
def billed(shop):
    """A customer with a graduated price, who has used 1031 units in the first month."""
    price, customer = shop.graduated(shop.meter()), shop.customer()
    subscription = shop.subscribe(customer, price)
    shop.world.advance_to(at("2026-02-01"))
    shop.use(customer, "1031", at("2026-01-31 12:00:00"))
    return customer, subscription


def test_an_invoice_of_stripes_comes_out_line_by_line(shop, billed):
    customer, subscription = billed
    shop.world.advance_to(MONTH_ONE + 3600)
    (invoice,) = shop.invoices(customer)
    assert amounts(invoice) == [0, 900, 112, 0]
    assert (invoice.total, invoice.status, invoice.billing_reason) == (
        1012,
        "paid",
        "subscription_cycle",
    )
    lines = invoice.lines.data
    assert [each.description for each in lines] == [
        "1000 × Usage (Tier 1 at $0.00 / month)",
        "Usage (Tier 1 at $9.00 / month)",
        "31 × Usage (Tier 2 at $0.036 / month)",
        "Usage (Tier 2 at $0.00 / month)",
    ]
    assert [each.quantity_decimal for each in lines] == [1000, 0, 31, 0]
    assert lines[2].pricing.unit_amount_decimal == Decimal("3.6")
    details = lines[0].parent.subscription_item_details
    assert details.subscription_item == subscription["items"].data[0].id
    assert invoice.parent.subscription_details.subscription == subscription.id


def test_the_preview_is_what_the_invoice_becomes(shop, billed):
    _, subscription = billed
    preview = shop.v1.invoices.create_preview({"subscription": subscription.id})
    assert amounts(preview) == [0, 900, 112, 0]
    assert preview.lines.data[0].period.end == MONTH_ONE
    assert shop.v1.invoices.line_items.list(preview.id, {"limit": 2}).has_more
    assert shop.v1.invoices.list().data == []


def test_usage_of_the_last_hour_reaches_its_invoice_during_the_grace(shop, billed):
    customer, _ = billed
    shop.world.advance_to(MONTH_ONE)
    (draft,) = shop.invoices(customer)
    assert (draft.status, draft.automatically_finalizes_at) == ("draft", MONTH_ONE + 3600)
    shop.world.advance_to(MONTH_ONE + 1800)
    shop.use(customer, "969", MONTH_ONE - 1)
    shop.use(customer, "5", MONTH_ONE)
    assert shop.v1.invoices.retrieve(draft.id).total == 1012
    shop.world.advance_to(MONTH_ONE + 3599)
    assert shop.v1.invoices.retrieve(draft.id).status == "draft"
    shop.world.advance_to(MONTH_ONE + 3600)
    final = shop.v1.invoices.retrieve(draft.id)
    assert (final.status, amounts(final)) == ("paid", [0, 900, 3600, 0])
    assert [each.id for each in final.lines.data] == [each.id for each in draft.lines.data]
    shop.world.advance_to(MONTH_TWO + 3600)
    assert amounts(shop.invoices(customer)[1]) == [0, 900]


def test_usage_after_the_grace_is_on_no_invoice(shop, billed):
    customer, _ = billed
    shop.world.advance_to(MONTH_ONE + 3600)
    shop.use(customer, "500", MONTH_ONE - 1)
    shop.world.advance_to(MONTH_TWO + 3600)
    assert [each.total for each in shop.invoices(customer)] == [1012, 900]


def test_what_still_waits_to_be_summarised_counts_when_an_invoice_is_final(shop, billed):
    customer, _ = billed
    assert shop.world.meters.waiting == 1
    shop.world.advance_to(MONTH_ONE + 3600)
    assert shop.invoices(customer)[0].total == 1012


def test_a_negative_total_bills_nothing(shop, billed):
    customer, _ = billed
    shop.use(customer, "-2000", at("2026-01-31 13:00:00"))
    shop.world.advance_to(MONTH_ONE + 3600)
    assert amounts(shop.invoices(customer)[0]) == [0, 900]


def test_an_advance_of_three_months_makes_three_invoices(shop, billed):
    customer, _ = billed
    shop.world.advance_to(at("2026-04-20"))
    invoices = shop.invoices(customer)
    assert [each.created for each in invoices] == [MONTH_ONE, MONTH_TWO, at("2026-04-15 10:23:45")]
    assert {each.status for each in invoices} == {"paid"}
    told = [each for each in shop.events() if each[0].startswith("invoice.")]
    assert told[:4] == [
        ("invoice.created", MONTH_ONE),
        ("invoice.finalized", MONTH_ONE + 3600),
        ("invoice.paid", MONTH_ONE + 3600),
        ("invoice.payment_succeeded", MONTH_ONE + 3600),
    ]
    assert len(told) == 12


def test_a_held_draft_waits_until_it_is_let_go(shop, billed):
    customer, _ = billed
    shop.world.advance_to(MONTH_ONE)
    (draft,) = shop.invoices(customer)
    shop.v1.invoices.update(draft.id, {"auto_advance": False})
    shop.world.advance_to(MONTH_ONE + 86400)
    assert shop.v1.invoices.retrieve(draft.id).status == "draft"
    shop.use(customer, "1000", MONTH_ONE - 1)
    final = shop.v1.invoices.finalize_invoice(draft.id)
    assert final.total == 900 + 3712
    with pytest.raises(stripe.InvalidRequestError, match="already finalized"):
        shop.v1.invoices.finalize_invoice(draft.id)


def test_lists_are_paged_and_filtered(shop, billed):
    _, subscription = billed
    shop.world.advance_to(at("2026-04-20"))
    first = shop.v1.invoices.list({"limit": 2, "subscription": subscription.id})
    assert (len(first.data), first.has_more) == (2, True)
    assert len(list(first.auto_paging_iter())) == 3
    assert shop.v1.invoices.list({"status": "draft"}).data == []
    assert len(shop.v1.invoices.list({"created": {"gte": MONTH_TWO}}).data) == 2
    lines = shop.v1.invoices.line_items.list(first.data[1].id, {"limit": 1})
    assert [each.amount for each in lines.auto_paging_iter()] == [0, 900]


def test_an_invoice_to_be_sent_stays_open_until_it_is_paid_or_voided(shop):
    customer = shop.customer()
    price = shop.price(unit_amount=1500, recurring={"interval": "month"})
    shop.subscribe(customer, price, collection_method="send_invoice", days_until_due=30)
    (first,) = shop.invoices(customer)
    assert (first.status, first.amount_remaining) == ("open", 1500)
    paid = shop.v1.invoices.pay(first.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid) == ("paid", 1500)
    shop.world.advance_to(MONTH_ONE + 3600)
    second = shop.invoices(customer)[1]
    assert shop.v1.invoices.void_invoice(second.id).status == "void"
    shop.world.advance_to(MONTH_TWO + 3600)
    third = shop.invoices(customer)[2]
    assert shop.v1.invoices.mark_uncollectible(third.id).status == "uncollectible"


def test_an_invoice_item_is_on_the_next_invoice(shop, billed):
    customer, subscription = billed
    item = shop.v1.invoice_items.create(
        {
            "customer": customer.id,
            "amount": -212,
            "currency": "usd",
            "description": "Late usage",
            "subscription": subscription.id,
        }
    )
    preview = shop.v1.invoices.create_preview({"subscription": subscription.id})
    assert amounts(preview) == [0, 900, 112, 0, -212]
    shop.world.advance_to(MONTH_ONE + 3600)
    (invoice,) = shop.invoices(customer)
    assert invoice.total == 800
    assert invoice.lines.data[4].parent.invoice_item_details.invoice_item == item.id
    assert shop.v1.invoice_items.list({"pending": True}).data == []
    shop.world.advance_to(MONTH_TWO + 3600)
    assert amounts(shop.invoices(customer)[1]) == [0, 900]


def test_an_invoice_by_hand(shop):
    customer = shop.customer()
    shop.v1.invoice_items.create({"customer": customer.id, "amount": 700, "currency": "usd"})
    made = shop.v1.invoices.create(
        {"customer": customer.id, "pending_invoice_items_behavior": "include"}
    )
    assert (made.status, made.total, made.auto_advance) == ("draft", 700, False)
    assert shop.v1.invoices.pay(made.id).amount_paid == 700


def test_coupons_and_taxes(shop):
    customer = shop.customer()
    price = shop.price(unit_amount=1000, recurring={"interval": "month"})
    coupon = shop.v1.coupons.create({"percent_off": 25, "duration": "once"})
    rate = shop.v1.tax_rates.create({"display_name": "VAT", "inclusive": False, "percentage": 19})
    shop.subscribe(customer, price, discounts=[{"coupon": coupon.id}], default_tax_rates=[rate.id])
    shop.world.advance_to(MONTH_ONE + 3600)
    first, second = shop.invoices(customer)
    assert (first.subtotal, first.total, second.total) == (1000, 893, 1190)
    assert first.total_taxes[0].amount == 143


def test_credits_pay_for_metered_lines(shop, billed):
    customer, _ = billed
    grant = shop.v1.billing.credit_grants.create(
        {
            "customer": customer.id,
            "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": 1000}},
            "applicability_config": {"scope": {"price_type": "metered"}},
        }
    )
    shop.world.advance_to(MONTH_ONE + 3600)
    (invoice,) = shop.invoices(customer)
    assert (invoice.subtotal, invoice.total, invoice.amount_due) == (1012, 12, 12)
    summary = shop.v1.billing.credit_balance_summary.retrieve(
        {
            "customer": customer.id,
            "filter": {"type": "credit_grant", "credit_grant": grant.id},
        }
    )
    assert summary.balances[0].available_balance.monetary.value == 0
    shop.world.observers.clear()  # the specification's pattern for this list's URL is another's
    kinds = [
        each.type
        for each in shop.v1.billing.credit_balance_transactions.list({"customer": customer.id})
    ]
    assert kinds == ["debit", "debit", "credit"]


def test_an_alert_is_told_once(shop):
    meter, customer = shop.meter(), shop.customer()
    alert = shop.v1.billing.alerts.create(
        {
            "alert_type": "usage_threshold",
            "title": "Much",
            "usage_threshold": {"gte": 10, "meter": meter.id, "recurrence": "one_time"},
        }
    )
    for hour in (1, 2, 3):
        shop.world.advance_to(at("2026-01-15 10:23:45") + hour * 3600)
        shop.use(customer, "6", shop.world.now())
    shop.world.advance_to(at("2026-01-16"))
    assert [kind for kind, _ in shop.events()].count("billing.alert.triggered") == 1
    assert shop.v1.billing.alerts.deactivate(alert.id).status == "inactive"


def test_a_credit_note_of_a_paid_invoice_goes_to_the_balance(shop, billed):
    customer, _ = billed
    shop.world.advance_to(MONTH_ONE + 3600)
    (invoice,) = shop.invoices(customer)
    shop.world.observers.clear()  # credit notes are not in the cut of the specification
    note = shop.v1.credit_notes.create({"invoice": invoice.id, "amount": 112})
    assert (note.amount, note.type) == (112, "post_payment")
    assert shop.v1.customers.retrieve(customer.id).balance == -112
    shop.world.advance_to(MONTH_TWO + 3600)
    assert shop.invoices(customer)[1].amount_due == 788


def test_nothing_of_our_own_leaves(shop, billed):
    customer, _ = billed
    shop.world.advance_to(MONTH_ONE)
    assert '"_' not in str(shop.invoices(customer)[0])
    event = shop.v1.events.list({"type": "invoice.created"}).data[0]
    assert '"_' not in str(event)
