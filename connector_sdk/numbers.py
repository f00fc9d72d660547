"""Numbers as tills write them: the one parser of amounts, counts and quantities, for every connector.

Owns which texts are numbers: ASCII digits, one decimal dot, one sign. Exponents, underscores, spaces and the digits of
other scripts are none, though Python's own `int` and `Decimal` would take them. What a number means is the caller's.
"""

from __future__ import annotations

import re
from decimal import Decimal

_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,20})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_PIECES = 10**6


def decimal_of(value: object) -> Decimal:
    """Read a decimal number such as "-12.50", exactly. Raises `ValueError` for anything but such a text."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError("not a decimal number")
    return Decimal(value)


def whole_of(value: object) -> int:
    """Read a whole number of at most 18 digits. Raises `ValueError` for anything but such a text."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise ValueError("not a whole number")
    return int(value)


def plain_quantity(quantity: Decimal) -> Decimal:
    """A quantity to three places, written one way: "1" and "1.000" are the same, and a receipt must read the same."""
    return Decimal(f"{quantity.quantize(Decimal('0.001')).normalize():f}")


def quantity_of(value: object) -> Decimal:
    """Read how many of something were sold, or their weight: zero or more, below a million, to three places.

    Raises `ValueError` for other numbers, and for what is no number.
    """
    quantity = decimal_of(value)
    if not 0 <= quantity < _MOST_PIECES:
        raise ValueError("no quantity")
    return plain_quantity(quantity)
