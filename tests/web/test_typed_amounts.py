"""Amounts as people of any region type them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from connectors.web.console.search_terms import SearchContext, parse_terms
from connectors.web.console.typed_amounts import parse_amount


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("12.50", 1250),
        ("12,50", 1250),
        ("12,50 €", 1250),
        ("€12.50", 1250),
        ("EUR 12.50", 1250),
        ("12,50\xa0EUR", 1250),
        ("1'234.50", 123450),
        ("1’234.50", 123450),
        ("1 234,50", 123450),
        ("1\u202f234,50 €", 123450),
        ("1.234,50", 123450),
        ("1,234.50", 123450),
        ("1,234", 123400),
        ("12,34,567.50", 123456750),
        ("12", 1200),
    ],
)
def test_an_amount_is_read(text: str, minor: int) -> None:
    assert parse_amount(text, "EUR") == minor


@pytest.mark.parametrize(
    "text", ["", "€", "twelve", "12.5.0", "10.005", "12.505.1", "12 USD", "1..5", "--5", "1e3x", "12.3456"]
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert parse_amount(text, "EUR") is None


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [("1.234", "EUR", 123400), ("1.234", "KWD", 1234), ("1 234,50 €", "EUR", 123450), ("1'234.50", "CHF", 123450)],
)
def test_a_search_finds_amounts_by_a_regions_grouping(text: str, currency: str, minor: int) -> None:
    context = SearchContext(ZoneInfo("Europe/Zurich"), 0, currency, None, Locale("de"))
    assert [term.paid for term in parse_terms(text, context)] == [(minor, minor)]


@pytest.mark.parametrize(
    ("text", "currency", "most"),
    [("27", "EUR", 2799), ("27", "JPY", 27), ("27", "KWD", 27999), ("27.00", "EUR", 2700), ("27 €", "EUR", 2799)],
)
def test_a_whole_number_is_every_amount_that_begins_so(text: str, currency: str, most: int) -> None:
    context = SearchContext(ZoneInfo("Europe/Zurich"), 0, currency, None, Locale("en"))
    (term,) = parse_terms(text, context)
    assert term.paid is not None
    assert term.paid[1] == most


@given(st.text(max_size=80))
def test_no_text_is_too_odd(text: str) -> None:
    amount = parse_amount(text, "EUR")
    assert amount is None or isinstance(amount, int)
