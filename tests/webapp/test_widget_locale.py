"""Money, numbers and dates by locale, and what a host may ask for."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import webapp
from pricing.money import currency
from tests.webapp.widget_world import (
    NOVEMBER,
)
from webapp import shown
from webapp.widget import brand, options
from webapp.widget.options import Options

HERE = Path(webapp.__file__).parent


@pytest.mark.parametrize(
    ("locale", "minor", "code", "text"),
    [
        ("en_US", 123456, "usd", "$1,234.56"),
        ("en_US", -123456, "usd", "−$1,234.56"),
        ("de_DE", 123456, "eur", "1.234,56\xa0€"),
        ("de_DE", -123456, "eur", "−1.234,56\xa0€"),
        ("fr_FR", 123456, "eur", "1\u202f234,56\xa0€"),
        ("hi_IN", 12345678, "inr", "₹1,23,456.78"),
        ("ja", 123456, "jpy", "￥123,456"),
        ("pt_BR", 123456, "brl", "R$\xa01.234,56"),
        ("en_US", 123456, "isk", "ISK\xa01,235.00"),
        ("en_US", 123456, "kwd", "KWD\xa0123.460"),
        ("sv", 123456, "sek", "1\xa0234,56\xa0kr"),
    ],
)
def test_a_total_stands_as_is_the_custom(locale: str, minor: int, code: str, text: str) -> None:
    assert shown.amount(minor, currency(code), locale) == text


def test_a_price_keeps_every_digit_in_any_locale() -> None:
    usd = currency("usd")
    assert shown.rate(Decimal("0.08"), usd) == "$0.0008"
    assert shown.rate(Decimal("0.08"), usd, "de_DE") == "0,0008\xa0$"
    assert shown.rate(Decimal("0.000000000001"), usd) == "$0.00000000000001"
    assert shown.about(18_149, usd) == "$181"
    assert shown.decimals(Decimal("160.5"), 2, "de_DE") == "160,50"


@settings(max_examples=200)
@given(
    st.integers(-(10**25), 10**25),
    st.sampled_from(["usd", "jpy", "kwd", "isk"]),
    st.sampled_from(["en_US", "de_DE", "fr_FR", "ar", "hi_IN", "de_CH", "he"]),
)
def test_no_locale_changes_the_digits_of_an_amount(minor: int, code: str, locale: str) -> None:
    of = currency(code)
    digits = re.sub(r"[^0-9]", "", shown.amount(minor, of, locale))
    english = re.sub(r"[^0-9]", "", shown.amount(minor, of))
    assert digits == english
    assert (shown.MINUS in shown.amount(minor, of, locale)) == (
        shown.MINUS in shown.amount(minor, of)
    )


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en_GB", "1–30 Nov, UTC"),
        ("de_DE", "1.–30. Nov., UTC"),
        ("en_US", "Nov 1\u2009–\u200930, UTC"),
        ("fr_FR", "1–30 nov., UTC"),
    ],
)
def test_a_period_is_said_in_words(locale: str, text: str) -> None:
    assert shown.period(NOVEMBER.start_at, NOVEMBER.end_at, locale) == text


def test_a_period_that_ends_within_a_day_ends_that_day() -> None:
    start = datetime(2026, 11, 10, 10, 23, tzinfo=UTC)
    end = datetime(2026, 12, 10, 10, 23, tzinfo=UTC)
    assert shown.period(start, end, "en_GB") == "10 Nov\u2009–\u200910 Dec, UTC"
    year = datetime(2027, 11, 10, 10, 23, tzinfo=UTC)
    assert shown.period(start, year, "en_GB") == "10 Nov 2026\u2009–\u200910 Nov 2027, UTC"


def test_options_that_cannot_be_read_are_as_good_as_none() -> None:
    nonsense = dict.fromkeys(("locale", "dir", "theme", "accent", "radius"), "<script>")
    assert options.read(nonsense | {"compact": "?"}) == Options()
    assert options.read({}) == Options()


def test_options_are_read_as_hosts_spell_them() -> None:
    read = options.read(
        {"locale": "ar-EG", "compact": "1", "theme": "dark", "accent": "#FFD60A", "radius": "99"}
    )
    assert read == Options("ar_EG", "rtl", True, "dark", "ffd60a", options.MOST_RADIUS)
    assert options.read({"locale": "ar", "dir": "ltr"}).dir == "ltr"
    assert options.read({"locale": "de-XX"}).locale == "de"
    assert options.read({"locale": "zh-Hant-TW"}).locale == "zh_Hant_TW"


@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_no_option_is_ever_refused(locale: str, accent: str, radius: str) -> None:
    read = options.read({"locale": locale, "accent": accent, "radius": radius})
    shown.amount(1, currency("usd"), read.locale)
    again = options.read(dict(parse_qsl(read.query)))
    assert (again.locale, again.dir) == (read.locale, read.dir)
    assert re.fullmatch(r"/widget/brand/([0-9a-f]{6}|-)/([0-9]{1,2}|-)\.css", read.brand_url)


@settings(max_examples=300)
@given(st.integers(0, 0xFFFFFF), st.sampled_from([brand.LIGHT, brand.DARK]))
def test_any_brand_is_legible_in_both_themes(accent: int, ground: str) -> None:
    made = brand.legible(f"{accent:06x}", ground)
    assert brand.contrast(brand.parsed(made), brand.parsed(ground)) >= brand.LEGIBLE


def test_a_legible_brand_stays_as_it_is() -> None:
    assert brand.legible("0b62c4", brand.LIGHT) == "0b62c4"
    assert "--accent:#0b62c4" in brand.css("0b62c4", 4)
    assert "--radius:4px" in brand.css("0b62c4", 4)
    assert brand.css(None, None).strip() == ""


def test_the_brand_knows_the_grounds_of_the_stylesheet_and_the_tokens_are_legible() -> None:
    sheet = (HERE / "static" / "widget.css").read_text()
    assert len(sheet) < 12_000
    grounds = re.findall(r"--card: #([0-9a-f]{6})", sheet)
    assert set(grounds) == {brand.LIGHT, brand.DARK}
    for block in re.findall(r"\{([^{}]*--card: #[0-9a-f]{6}[^{}]*)\}", sheet):
        tokens = dict(re.findall(r"--(\w+): #([0-9a-f]{6})", block))
        for name in ("ink", "muted", "accent", "warn"):
            on = brand.parsed(tokens["card"])
            assert brand.contrast(brand.parsed(tokens[name]), on) >= brand.LEGIBLE, name
