"""Money as integer minor units of an ISO 4217 currency.

Owns exact conversion from what wires carry (hundredths, decimal strings); formatting for a reader's language is
`messages.money_in`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from pydantic import ConfigDict

from connector_sdk.numbers import decimal_of, whole_of

# ISO 4217: the currencies whose minor unit is not a hundredth.
_EXPONENTS = dict.fromkeys(
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
) | dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)
_CURRENCY = re.compile(r"[A-Z]{3}")
_LARGEST = 10**15  # beyond any receipt in any currency, and far inside a 64-bit column even when many are summed


def exponent(currency: str) -> int:
    """Return how many decimal digits the currency's minor unit has (ISO 4217)."""
    return _EXPONENTS.get(currency, 2)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units (kopecks, cents) of `currency`; never a float.

    Raises `TypeError` for anything but an `int`, `ValueError` for a currency that is not three capitals.
    """

    minor: int
    currency: str

    # strict, or pydantic would turn the text "5" and the float 5.0 into an amount without asking
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    def __post_init__(self) -> None:
        # `type() is`, not `isinstance`: a bool is an int, and True is no amount
        if type(self.minor) is not int:
            raise TypeError(f"money is a whole number of minor units, not {type(self.minor).__name__}")
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError("a currency is three capital letters, as in ISO 4217")
        if abs(self.minor) > _LARGEST:
            raise ValueError("an amount this large cannot be right")

    @classmethod
    def zero(cls, currency: str) -> Money:
        """Return an amount of nothing in that currency."""
        return cls(0, currency)

    @classmethod
    def from_hundredths(cls, value: int | str, currency: str) -> Money:
        """Convert, exactly, an amount that the wire counts in hundredths whatever the currency (as Poster does).

        Raises `TypeError` for a float, `ValueError` where the text is no integer or the currency has no unit that
        small.
        """
        if type(value) is not int and type(value) is not str:
            raise TypeError(f"hundredths are an int or its text, not {type(value).__name__}")
        if isinstance(value, str):
            value = whole_of(value)
        return cls._exact(Decimal(value).scaleb(-2), currency)

    @classmethod
    def from_decimal(cls, value: str | int | Decimal, currency: str) -> Money:
        """Convert, exactly, an amount in major units: a decimal string ("27.50"), or a number of parsed JSON.

        Raises `TypeError` for a float, `ValueError` for other text or more digits than the currency has.
        """
        if type(value) is not str and type(value) is not int and not isinstance(value, Decimal):
            raise TypeError(f"an amount is a decimal string or an exact number, not {type(value).__name__}")
        return cls._exact(decimal_of(value), currency)

    @classmethod
    def _exact(cls, major: Decimal, currency: str) -> Money:
        """Convert an amount in major units. Raises `ValueError` where that is not a whole number of minor units."""
        digits = exponent(currency)
        if abs(major) > _LARGEST:
            raise ValueError("an amount this large cannot be right")
        # `scaleb` rounds to the decimal context's precision, so exactness is read from the figures themselves: the last
        # `excess` of them are finer than the minor unit and must be zeros
        _sign, figures, power = major.as_tuple()
        excess = -digits - int(power)
        if excess > 0 and any(figures[-excess:]):
            raise ValueError(f"{currency} has no unit that small")
        return cls(int(major.scaleb(digits)), currency)

    def __add__(self, other: Money) -> Money:
        return Money(self.minor + self._like(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.minor - self._like(other), self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.minor < self._like(other)

    def __floordiv__(self, other: Money) -> int:
        return self.minor // self._like(other)

    def _like(self, other: object) -> int:
        """Return the other amount's minor units. Raises `TypeError` for no amount, `ValueError` across currencies."""
        if not isinstance(other, Money):
            raise TypeError("money goes with money only")
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} cannot be mixed")
        return other.minor

    def __bool__(self) -> bool:
        return self.minor != 0

    @property
    def decimal(self) -> str:
        """The amount in major units as text: `27.50`."""
        digits = exponent(self.currency)
        return str(Decimal(self.minor).scaleb(-digits)) if digits else str(self.minor)

    def __str__(self) -> str:
        return f"{self.decimal} {self.currency}"
