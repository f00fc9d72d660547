"""JSON as tills write it, with exact numbers: 19.99 becomes `Decimal("19.99")` and never a float.

Owns how bytes become values and values become bytes; which values make sense is the connector's.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias

# `Any` is forced by `json.loads`, and by connectors, which index an answer at once and check it while they map it: a
# union of all that JSON can be would have each of them narrow every step by hand.
Json: TypeAlias = Any
"""A parsed JSON text."""


def parse_json(content: bytes) -> Json:
    """Parse a JSON text; numbers with a point or an exponent become `Decimal`. Raises `ValueError` for no JSON."""
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # a number of more digits than Python converts is a `ValueError` already


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def encode_json(value: Json) -> bytes:
    """Encode parsed JSON again, for keeping; also texts with lone surrogates, which no encoding allows."""
    return json.dumps(value, ensure_ascii=False, default=_encode_decimal).encode("utf-8", "surrogatepass")


def _encode_decimal(value: object) -> float | str:
    """Write a `Decimal` as a number where a float holds exactly its value, and as its text otherwise."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not from JSON")
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)
