"""Every rule of Poster's page, as one receipt each; and whatever arrives, never an unhandled exception."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from connector_sdk import BadPayload, Money, Sale, SaleStatus
from poster_connector import wire
from poster_connector.mapping import customer_of, find_redeem_codes, sale_of
from poster_connector.settings import PosterSettings

SAMPLES = Path(__file__).parents[1] / "samples" / "poster"
SETTINGS = PosterSettings(access_token=SecretStr("861052:abc"))


def receipt(**changes: object) -> dict[str, object]:
    """The documented receipt with some fields changed."""
    documented = json.loads((SAMPLES / "dash.getTransaction.json").read_text())["response"][0]
    return {**documented, **changes}


def mapped(**changes: object) -> Sale:
    return sale_of(receipt(**changes), "UAH", SETTINGS)


def test_the_documented_receipt() -> None:
    sale = mapped()
    assert (sale.receipt_id, sale.status, sale.paid) == ("330660", SaleStatus.closed, Money(2750, "UAH"))
    assert sale.closed_at == datetime(2018, 2, 17, 13, 10, 46, 314000, UTC)
    assert (sale.customer, sale.location_id, sale.gift, len(sale.lines)) == (None, "1", False, 2)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"status": "0", "date_close": "0"}, SaleStatus.open),
        ({"status": 1, "date_close": 0}, SaleStatus.open),
        ({"status": "2"}, SaleStatus.closed),
        ({"status": "3"}, SaleStatus.voided),
        ({"status": "4"}, SaleStatus.voided),
        ({"print_fiscal": "2"}, SaleStatus.voided),
        ({"print_fiscal": 1}, SaleStatus.closed),
    ],
)
def test_status_and_fiscal_return(changes: dict[str, object], status: SaleStatus) -> None:
    assert mapped(**changes).status is status


def test_only_money_counts_and_gifts_earn_nothing() -> None:
    bonus = mapped(payed_sum="0", payed_cash="0", payed_bonus="2750")
    assert (bonus.paid.minor, bonus.gift) == (0, True)
    assert mapped(pay_type="0", reason="2").gift
    assert mapped(discount="100", payed_sum="0").gift
    line = {"product_id": "24", "num": "2", "payed_sum": "0"}
    assert [sold.gift for sold in mapped(products=[line, {**line, "payed_sum": "100"}]).lines] == [True, False]


def test_quantities_by_weight_read_the_same_however_they_are_written() -> None:
    def quantity(num: object) -> str:
        return mapped(products=[{"product_id": "1", "num": num, "payed_sum": "1"}]).model_dump_json()

    assert quantity("1") == quantity("1.000") == quantity(1) == quantity(1.0)
    assert quantity("0.25") != quantity("2.50001")


@pytest.mark.parametrize(
    ("comment", "codes"),
    [
        ("FREECOFFEE", ("FREECOFFEE",)),
        ("for Anna: FREECOFFEE, FREECOFFEE and GIFT-2024X!", ("FREECOFFEE", "GIFT-2024X")),
        ("без цукру, +380501112233, 0501112233", ()),
        ("no sugar NO ICE x", ()),
        ("", ()),
    ],
)
def test_redeem_codes_among_other_words(comment: str, codes: tuple[str, ...]) -> None:
    assert find_redeem_codes(comment) == codes
    assert mapped(transaction_comment=comment or None).redeem_codes == codes


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"status": "9"}, "status"),
        ({"status": None}, "status"),
        ({"payed_sum": "27.5"}, "payed_sum"),
        ({"payed_sum": 27.5}, "payed_sum"),
        ({"payed_sum": None}, "payed_sum"),
        ({"date_close": "0"}, "date_close"),
        ({"date_close": "9" * 17}, "date_close"),
        ({"transaction_id": ""}, "receipt_id"),
        ({"products": {}}, "lines"),
        ({"products": "x"}, "products"),
        ({"products": [{"num": "1"}]}, "products.0"),
        ({"products": [{"product_id": "1", "num": "NaN"}]}, "products.0.num"),
        ({"products": [{"product_id": "1", "num": "1", "payed_sum": "x"}]}, "products.0.payed_sum"),
    ],
)
def test_what_cannot_be_mapped_names_the_field_and_keeps_the_body(changes: dict[str, object], where: str) -> None:
    if changes == {"products": {}}:
        assert mapped(**changes).lines == ()
        return
    with pytest.raises(BadPayload) as raised:
        mapped(**changes)
    assert raised.value.where == where
    assert json.loads(raised.value.body)["payed_cash"] == "2750"


def test_a_currency_without_cents_is_exact_or_refused() -> None:
    assert sale_of(receipt(payed_sum="2500000"), "VND", SETTINGS).paid == Money(25000, "VND")
    with pytest.raises(BadPayload, match="VND has no unit that small"):
        sale_of(receipt(payed_sum="2750"), "VND", SETTINGS)


def test_customers() -> None:
    raw = json.loads((SAMPLES / "clients.getClient.json").read_text())["response"][0]
    customer = customer_of(raw, SETTINGS)
    assert (customer.phone, customer.email, customer.number) == ("+380501111111", "guest1@example.com", None)
    own_cards = SETTINGS.model_copy(update={"card_numbers": True})
    assert customer_of(raw, own_cards).number == "000222"
    assert not customer_of({"phone_number": "", "email": "", "card_number": "0"}, own_cards)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500)
@given(
    st.dictionaries(st.sampled_from(sorted(receipt())), json_values, max_size=6), st.sampled_from(["UAH", "VND", "KWD"])
)
def test_whatever_arrives_is_a_sale_or_a_named_field(changes: dict[str, object], currency: str) -> None:
    raw = receipt(**changes)
    try:
        sale = sale_of(raw, currency, SETTINGS)
    except BadPayload as error:
        named = bool(error.where and error.body)
        assert named, "the field is named and the body kept"
        return
    assert sale.paid == Money.from_hundredths(str(raw["payed_sum"]), currency)


@settings(max_examples=500)
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | json_values.map(lambda v: json.dumps(v).encode())
)
def test_whatever_is_posted_is_a_hook_or_a_named_field(body: bytes) -> None:
    try:
        wire.parse_hook(body)
    except BadPayload as error:
        assert error.where  # noqa: PT017 - either outcome is good
