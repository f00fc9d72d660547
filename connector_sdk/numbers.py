"""Parse numbers as tills write them: the one parser of amounts, counts and quantities, for every connector.

Owns which texts are numbers, and which numbers of parsed JSON are exact: ASCII digits, one decimal dot, one sign. In a
text, exponents, underscores, spaces and digits of other scripts are refused, though Python's own `int` and `Decimal`
would take them. What a number means is the caller's.
"""

from __future__ import annotations

import re
from decimal import Decimal

# eighteen digits fit a signed 64-bit column; twenty places are more than any till writes, and end a flood of digits
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,20})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_MOST_DIGITS, _MOST_PLACES = 18, 20
_QUANTITY_LIMIT = 10**6


def decimal_of(value: object) -> Decimal:
    """Parse a decimal number, exactly: a text such as "-12.50", or a number of JSON as `json_text` parses it.

    Raises `ValueError` for anything else, for a float as well: it is not exact any more.
    """
    if type(value) is int or type(value) is Decimal:  # and not `isinstance`: True is an int
        value = _as_text(Decimal(value))
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError("not a decimal number")
    return Decimal(value)


def _as_text(number: Decimal) -> str:
    """Write a number without an exponent; one with more digits than any amount has is refused."""
    # looked at before it is written: "1e999999" would be a million digits
    if not number.is_finite() or not -_MOST_PLACES <= number.adjusted() <= _MOST_DIGITS:
        raise ValueError("not a decimal number")
    return f"{number:f}"


def whole_of(value: object) -> int:
    """Parse a whole number of at most 18 digits. Raises `ValueError` for anything but such a text."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise ValueError("not a whole number")
    return int(value)


def plain_quantity(quantity: Decimal) -> Decimal:
    """Normalise a quantity to three decimal places: "1" and "1.000" become equal, as do the receipts that hold them."""
    # `normalize` alone writes a thousand as "1E+3": formatting with `f` takes the exponent away again
    return Decimal(f"{quantity.quantize(Decimal('0.001')).normalize():f}")


def quantity_of(value: object) -> Decimal:
    """Parse a number of pieces or a weight: zero or more, below a million, to three decimal places.

    Raises `ValueError` for other numbers, and for anything that is no number.
    """
    quantity = decimal_of(value)
    if not 0 <= quantity < _QUANTITY_LIMIT:
        raise ValueError("no quantity")
    return plain_quantity(quantity)
