"""Numbers: one parser for every connector, and nothing is a number that a till would not write as one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector_sdk import BadPayload, Sale, decimal_of, quantity_of
from connector_sdk.json_text import parse_json
from connector_sdk.money import Money
from connector_sdk.numbers import whole_of
from poster_connector.mapping import sale_of as poster_sale
from poster_connector.settings import PosterSettings
from serve_connector.mapping import sale_of as serve_sale
from serve_connector.settings import ServeSettings
from tests.webhook.test_mapping import BASE
from webhook_connector.mapping import sales_of
from webhook_connector.settings import WebhookSettings

PLAIN = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
# texts that Python's own `int`, `float` or `Decimal` take, or that nearly are numbers
ODD = [
    "1e3",
    "1E+2",
    "1_0",
    " 7",
    "7 ",
    "٣",
    "１２",
    "",
    "+",
    "-",
    ".5",
    "5.",
    "0x10",
    "Infinity",
    "NaN",
    "1,000",
    "1\n",
]
TEXTS = st.one_of(
    st.sampled_from(ODD),
    st.text(alphabet="0123456789.+-eE_ ,٣१\n", max_size=12),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=0, max_value=10**5).map(str),
)


@given(TEXTS)
@example("9" * 19)
@example("1." + "0" * 21)
def test_a_number_is_ascii_digits_and_nothing_else(text: str) -> None:
    for parse in (decimal_of, whole_of, quantity_of):
        try:
            number = parse(text)
        except ValueError:
            continue
        assert PLAIN.fullmatch(text)
        assert abs(Decimal(text) - number) < Decimal("0.001")


@pytest.mark.parametrize(
    ("text", "number"), [("12.50", "12.50"), ("7", "7"), ("1.25e1", "12.5"), ("1e3", "1000"), ("-0.125", "-0.125")]
)
def test_a_number_of_parsed_json_is_exact(text: str, number: str) -> None:
    assert decimal_of(parse_json(text.encode())) == Decimal(number)
    assert Money.from_decimal(parse_json(b"19.99"), "EUR") == Money(1999, "EUR")


@pytest.mark.parametrize("text", ["1e19", "1e999999", "1e-999999", "9" * 19, "0." + "1" * 21])
def test_a_number_of_json_beyond_any_amount_is_refused_before_it_is_written_out(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        decimal_of(parse_json(text.encode()))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[" * 100_000, "9" * 5000])
def test_what_is_no_json_number_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser has several words for it
        parse_json(text.encode())


@pytest.mark.parametrize("value", [1.5, True, None, b"1", [], "9" * 19, Decimal("NaN"), Decimal("Infinity")])
def test_what_is_no_such_text_is_refused(value: object) -> None:
    for parse in (decimal_of, whole_of, quantity_of):
        with pytest.raises(ValueError, match="no"):
            parse(value)


def by_serve(number: str) -> Sale:
    """Map a Serve check with one line of that quantity."""
    item = {"sku": "A", "quantity": number, "total": "1.00"}
    check = {
        "id": "1", "revision": 1, "status": "closed", "closed_at": "2026-11-20T08:15:30Z", "currency": "EUR",
        "total": "3.00", "items": [item],
    }  # fmt: skip
    return serve_sale(check, "EUR", ServeSettings(access_token="t"))


def by_poster(number: str) -> Sale:
    """Map a Poster receipt with one line of that quantity."""
    line = {"product_id": "1", "num": number, "payed_sum": "100"}
    receipt = {
        "transaction_id": "1", "status": "2", "date_close": "1763626530000", "payed_sum": "300", "products": [line],
    }  # fmt: skip
    return poster_sale(receipt, "EUR", PosterSettings(access_token="1:t"))


def by_webhook(number: str) -> Sale:
    """Map a request of any till with one line of that quantity."""
    settings = WebhookSettings.model_validate(
        BASE | {"map_lines": "lines", "map_product": "sku", "map_quantity": "count"}
    )
    body = {
        "id": "1", "at": "2026-11-20T08:15:30Z", "total": "3.00", "phone": "600111222",
        "lines": [{"sku": "A", "count": number}],
    }  # fmt: skip
    sales, unreadable = sales_of(json.dumps(body).encode(), settings)
    if unreadable:
        raise unreadable[0].reason
    return sales[0]


@pytest.mark.parametrize("read", [by_serve, by_poster, by_webhook])
@given(number=TEXTS)
def test_no_connector_counts_more_than_what_is_written(read: Callable[[str], Sale], number: str) -> None:
    try:
        sale = read(number)
    except BadPayload:
        return
    # the any-till mapping strips spaces around a value, and counts a line without a quantity as a single piece
    written = number.strip() or "1" if read is by_webhook else number
    assert PLAIN.fullmatch(written)
    assert abs(sale.lines[0].quantity - Decimal(written)) < Decimal("0.001")
