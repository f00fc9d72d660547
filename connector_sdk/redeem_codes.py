"""Redeem codes of vouchers among the words that a cashier types: in a comment, a note, the name of a discount.

Owns what a redeem code looks like: six to 32 capitals and digits, with a letter among them, perhaps with dashes. A word
in capitals may look the same; 7stamp then says that it knows no such voucher. A phone number does not.
"""

from __future__ import annotations

import re

_REDEEM_CODE = re.compile(r"(?<![\w-])(?=[0-9-]*[A-Z])[A-Z0-9][A-Z0-9-]{4,30}[A-Z0-9](?![\w-])")
_LONGEST_TEXT = 2000
_MOST_CODES = 20  # as many as a sale may hold
_PHONE_DIGITS = 9  # so many digits among the letters are somebody's phone


def find_redeem_codes(*texts: str) -> tuple[str, ...]:
    """Find what may be redeem codes in some texts, each once, in their order."""
    words = dict.fromkeys(word for text in texts for word in _REDEEM_CODE.findall(text[:_LONGEST_TEXT]))
    return tuple(word for word in words if sum(sign.isdigit() for sign in word) < _PHONE_DIGITS)[:_MOST_CODES]
