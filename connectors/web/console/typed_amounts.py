"""Amounts as people type them, in any region's way: 12.50, 12,50 €, 1'234.50 or 1 234,50.

Owns their reading; what an amount is for is the form's or the search's.
"""

from __future__ import annotations

import re
import unicodedata

from connector_sdk.money import Money

_LONGEST = 64
# groups of three, or as in India of two before the last three; the sign between them is one and the same
_BY_COMMAS = re.compile(r"\d{1,3}(?:,\d{2,3})*,\d{3}(?:\.\d+)?", re.ASCII)
_BY_POINTS = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+", re.ASCII)
_SPACES_AND_APOSTROPHES = str.maketrans("", "", " \u00a0\u202f\u2009'\u2019")


def parse_amount(text: str, currency: str) -> int | None:
    """Read an amount in minor units, with its currency's sign or code or without; `None` where it is none."""
    plain = _without_currency(text[:_LONGEST], currency).translate(_SPACES_AND_APOSTROPHES)
    # of a comma and a point the last one is the decimal sign; groups of three alone are thousands
    if _BY_COMMAS.fullmatch(plain):
        plain = plain.replace(",", "")
    elif _BY_POINTS.fullmatch(plain):
        plain = plain.replace(".", "").replace(",", ".")
    else:
        plain = plain.replace(",", ".")
    try:
        return Money.from_decimal(plain, currency).minor
    except ValueError:
        return None


def _without_currency(text: str, currency: str) -> str:
    signs = "".join(sign for sign in text if unicodedata.category(sign) == "Sc")
    text = text.strip().strip(signs).strip()
    for cut in (text.removeprefix, text.removesuffix):
        if (rest := cut(currency)) != text:
            return rest
    return text
