"""Money: exact, and never a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk import Money
from connector_sdk.money import exponent

CURRENCIES = st.sampled_from(["UAH", "EUR", "JPY", "KWD", "VND", "USD"])


@given(st.integers(-(10**12), 10**12), CURRENCIES)
def test_text_and_back_is_the_same_amount(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    assert Money.from_decimal(amount.decimal, currency) == amount


@given(st.integers(0, 10**12), CURRENCIES)
def test_hundredths_are_exact_or_refused(value: int, currency: str) -> None:
    exact = Decimal(value) / 100 * 10 ** exponent(currency)
    if exact == int(exact):
        assert Money.from_hundredths(str(value), currency).minor == exact
    else:
        with pytest.raises(ValueError, match="no unit that small"):
            Money.from_hundredths(value, currency)


@pytest.mark.parametrize("value", [27.5, True, None, Decimal("1"), b"1"])
def test_what_is_no_integer_or_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        Money.from_hundredths(value, "UAH")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Money(value, "UAH")  # type: ignore[arg-type]
    if not isinstance(value, Decimal):
        with pytest.raises(TypeError):
            Money.from_decimal(value, "UAH")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1,5", "1e3", "0x1", "٣", "NaN", "inf", "1.005", "--1", "1" * 40])
def test_text_that_is_no_amount_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Money.from_decimal(text, "UAH")


def test_currencies_do_not_mix() -> None:
    with pytest.raises(ValueError, match="cannot be mixed"):
        Money(1, "UAH") + Money(1, "EUR")
    with pytest.raises(ValueError, match="three capital letters"):
        Money(1, "uah")
    assert str(Money(2750, "UAH")) == "27.50 UAH"
    assert str(Money(27, "JPY")) == "27 JPY"
