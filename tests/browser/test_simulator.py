"""The simulator as finance uses it: build, validate, compare, paste, save, share."""

import json
import re
import time
from datetime import datetime
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Tabs, faults, overflow

COMPARISON = (
    "/simulator?currency=usd&quantity=60000"
    "&a-name=Today&a-model=graduated&a-0-to=10000&a-0-unit=0.01&a-1-to=50000&a-1-unit=0.008"
    "&a-2-unit=0.005&b-name=New&b-model=flat&b-fee=413"
    "&c-name=Volume&c-model=volume&c-0-to=20000&c-0-unit=0.009&c-1-unit=0.007"
)
STRIPE = {
    "id": "price_1",
    "object": "price",
    "billing_scheme": "tiered",
    "currency": "eur",
    "tiers_mode": "graduated",
    "unit_amount": None,
    "unit_amount_decimal": None,
    "nickname": "From Stripe",
    "recurring": {"interval": "month", "usage_type": "metered", "meter": "mtr_1"},
    "tiers": [
        {"up_to": 1000, "unit_amount": 0, "flat_amount": 900},
        {"up_to": None, "unit_amount_decimal": "3.6", "flat_amount": 0},
    ],
}


def answer(page: Page) -> Any:
    return page.locator("#answer")


def test_a_price_is_built_by_hand(page: Page, sandbox_address: str) -> None:
    page.goto(f"{sandbox_address}/simulator")
    expect(answer(page)).to_have_text("25,000 units cost $220.00.")
    page.get_by_label("Quantity", exact=True).fill("70,000")
    expect(answer(page)).to_have_text("70,000 units cost $520.00.")
    page.get_by_role("button", name="+ Add a tier").click()
    page.get_by_label("Tier 3 up to").fill("60000")
    page.get_by_label("Tier 3 price per unit").fill("0.006")
    # 10,000 x 0.01 + 40,000 x 0.008 + 10,000 x 0.006 + 10,000 x 0.005
    expect(answer(page)).to_have_text("70,000 units cost $530.00.")
    page.get_by_role("button", name="Remove tier 1").click()
    # 50,000 x 0.008 + 10,000 x 0.006 + 10,000 x 0.005
    expect(answer(page)).to_have_text("70,000 units cost $510.00.")
    rows = page.locator(".invoice tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("50,000 × $0.008")
    expect(page.locator(".rates")).to_contain_text("next unit costs $0.005")
    expect(page.locator(".plot canvas")).to_have_count(1)


def test_the_plot_stays_when_something_changes(page: Page, sandbox_address: str) -> None:
    page.goto(sandbox_address + COMPARISON)
    expect(page.locator(".plot canvas")).to_have_count(1)
    page.get_by_label("Quantity", exact=True).fill("1000")
    expect(answer(page)).to_contain_text("At 1,000 units")
    expect(page.locator(".plot canvas")).to_have_count(1)


def test_what_is_typed_is_the_address(page: Page, sandbox_address: str) -> None:
    page.goto(f"{sandbox_address}/simulator")
    page.get_by_label("Quantity", exact=True).fill("12345")
    expect(answer(page)).to_contain_text("12,345 units")
    page.reload()
    expect(answer(page)).to_contain_text("12,345 units")
    expect(page.get_by_label("Quantity", exact=True)).to_have_value("12345")


def test_a_mistake_stands_beside_its_field_and_loses_nothing(
    page: Page, sandbox_address: str
) -> None:
    page.goto(f"{sandbox_address}/simulator")
    bound = page.get_by_label("Tier 2 up to")
    bound.fill("5000")
    beside = page.locator("#error-a-1-to")
    expect(beside).to_contain_text("overlaps", ignore_case=True)
    expect(bound).to_be_focused()
    expect(bound).to_have_attribute("aria-invalid", "true")
    expect(answer(page)).to_contain_text("no price is complete")
    bound.fill("50000")
    expect(beside).to_be_empty()
    expect(bound).not_to_have_attribute("aria-invalid", "true")
    unit = page.get_by_label("Tier 1 price per unit")
    for typed, said in (
        ("-1", "negative"),
        ("1.0000000000001", "12 decimals"),
        ("ten", "not a plain decimal number"),
        ("1e30", "less than"),
    ):
        unit.fill(typed)
        expect(page.locator("#error-a-0-unit")).to_contain_text(said)
        expect(unit).to_have_value(typed)
    page.get_by_label("Quantity", exact=True).fill("-5")
    expect(page.locator("#error-quantity")).to_contain_text("negative")


def test_a_button_pressed_right_after_typing_is_not_lost(page: Page, sandbox_address: str) -> None:
    """However slow its answer is: what was typed asks for new results in the meantime."""

    def slowly(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page.goto(f"{sandbox_address}/simulator")
    page.route(re.compile(r"do=copy"), slowly)
    page.get_by_label("Quantity", exact=True).fill("70,000")
    page.get_by_role("button", name="Duplicate").click()
    expect(page.locator(".price")).to_have_count(2)
    expect(answer(page)).to_contain_text("70,000 units")


def test_prices_are_compared_and_their_crossing_is_named(page: Page, sandbox_address: str) -> None:
    page.goto(
        f"{sandbox_address}/simulator?currency=usd&quantity=25000&a-name=Rate&a-model=per_unit&a-unit=0.01"
    )
    page.get_by_role("button", name="+ Compare with another price").click()
    page.locator("#b-model").select_option("flat")
    page.get_by_label("Fee per period").fill("413")
    page.locator("#b-name").fill("Fee")
    expect(page.get_by_text("Fee is cheaper than Rate above 41,300.")).to_be_visible()
    expect(answer(page)).to_have_text(
        "At 25,000 units, Rate costs the least: $250.00, $163.00 less than Fee."
    )
    page.get_by_role("button", name="Duplicate Rate").click()
    expect(page.locator(".price")).to_have_count(3)
    page.get_by_role("button", name="Remove Fee").click()
    expect(page.locator(".price")).to_have_count(2)


def test_a_falling_volume_price_is_warned_about(page: Page, sandbox_address: str) -> None:
    page.goto(sandbox_address + COMPARISON)
    notice = page.locator(".notice")
    expect(notice).to_contain_text("Above 20,000 the total falls from $180.00 to $140.00")
    expect(notice).to_contain_text("using more costs less than using 20,000")


def test_a_stripe_price_is_pasted(page: Page, sandbox_address: str) -> None:
    page.goto(f"{sandbox_address}/simulator?currency=usd&quantity=1031")
    page.get_by_text("Paste a Stripe price").click()
    page.get_by_label("Stripe Price, JSON").fill('{"object": "price", "currency": "usd"}')
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("#error-json")).to_contain_text("unit_amount_decimal: is required")
    expect(page.get_by_label("Stripe Price, JSON")).to_have_value(
        '{"object": "price", "currency": "usd"}'
    )
    page.get_by_label("Stripe Price, JSON").fill(json.dumps(STRIPE))
    page.get_by_role("button", name="Read it").click()
    expect(answer(page)).to_have_text("1,031 units cost €10.12.")
    amounts = page.locator(".invoice tbody td.number").all_inner_texts()
    assert amounts == ["€0.00", "€9.00", "€1.12", "€0.00"]


def test_the_slider_and_the_number_move_together(page: Page, sandbox_address: str) -> None:
    page.goto(f"{sandbox_address}/simulator")
    slider = page.get_by_label("Slide the quantity")
    expect(slider).to_have_value("25000")
    slider.focus()
    page.keyboard.press("ArrowRight")
    typed = page.get_by_label("Quantity", exact=True).input_value()
    assert int(typed) > 25000
    expect(answer(page)).to_contain_text(f"{int(typed):,} units")


def test_it_works_without_scripts(tabs: Tabs, sandbox_address: str) -> None:
    page = tabs.open(java_script_enabled=False)
    page.goto(f"{sandbox_address}/simulator")
    page.locator("#quantity").fill("70000")
    page.locator("#quantity").press("Enter")
    expect(answer(page)).to_have_text("70,000 units cost $520.00.")
    page.get_by_role("button", name="+ Add a tier").click()
    expect(page.locator(".tiers tbody tr")).to_have_count(4)
    page.get_by_role("button", name="Remove tier 3").click()
    expect(page.locator(".tiers tbody tr")).to_have_count(3)
    page.get_by_text("The plot as a table").click()
    expect(page.get_by_role("row", name="10,000 $100.00")).to_be_visible()
    page.get_by_text("Paste a Stripe price").click()
    page.locator("#json").fill(json.dumps(STRIPE))
    page.get_by_role("button", name="Read it").click()
    expect(answer(page)).to_have_text("70,000 units cost €2,493.00.")
    page.get_by_label("Name", exact=True).last.fill("Kept")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Kept")


def test_a_comparison_is_saved_and_shared_within_the_tenant(
    tabs: Tabs, address: str, sign_in: Any, tenant: str, stranger: str, now: datetime
) -> None:
    page = tabs.open()
    sign_in(page, tenant, "finance", now=now)
    page.goto(address + COMPARISON)
    page.get_by_label("Quantity", exact=True).fill("61000")
    expect(answer(page)).to_contain_text("61,000")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#error-save-name")).not_to_be_empty()
    page.locator("#save-name").fill("Spring <prices>")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Spring <prices>")
    expect(answer(page)).to_contain_text("61,000")
    shared = page.url

    colleague = tabs.open()
    sign_in(colleague, tenant, "support", now=now)
    colleague.goto(shared)
    expect(answer(colleague)).to_contain_text("61,000")
    expect(colleague.locator("#save-name")).to_have_count(0)

    outsider = tabs.open()
    sign_in(outsider, stranger, "operator", now=now)
    outsider.goto(shared)
    expect(outsider.get_by_role("heading", level=1)).to_have_text("This could not be done")
    assert "Spring" not in outsider.content()

    page.get_by_label("Quantity", exact=True).fill("62000")
    expect(answer(page)).to_contain_text("62,000")
    page.get_by_role("button", name="Save changes").click()
    page.wait_for_url(shared)
    page.reload()
    expect(answer(page)).to_contain_text("62,000")
    page.get_by_role("link", name="Saved", exact=True).click()
    page.get_by_role("button", name="Duplicate Spring <prices>", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Spring <prices> (copy)")
    page.get_by_role("link", name="Saved", exact=True).click()
    page.get_by_role("button", name="Delete Spring <prices> (copy)").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Spring <prices> (copy)")


def test_axe_finds_nothing(tabs: Tabs, sandbox_address: str) -> None:
    wrong = COMPARISON.replace("a-1-to=50000", "a-1-to=5")
    for path in (COMPARISON, wrong, "/simulator/saved", "/simulator"):
        assert faults(tabs, sandbox_address + path) == [], path


def test_right_to_left_is_mirrored(page: Page, sandbox_address: str) -> None:
    page.goto(sandbox_address + COMPARISON)
    page.evaluate("document.documentElement.dir = 'rtl'")
    editor, results = (
        page.locator(".editor").bounding_box(),
        page.locator("#results").bounding_box(),
    )
    assert editor is not None
    assert results is not None
    assert editor["x"] > results["x"]
    assert overflow(page) <= 0
