"""A customer as somebody asks for one: by phone, email or card number, and how each is recognised in other texts.

Owns the spellings, as pure functions; where such texts are stored, and their erasure, is the store's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote_plus

import phonenumbers

from connector_sdk.redaction import MASK, personal_name
from connector_sdk.sale import Customer

MASKED_CARD = "····"
"""What stands in place of a card's last four digits once its customer is erased."""

_SEPARATORS = r"[\s().\-/]{0,3}"
"""What people write between the digits of a phone."""
_SHORTEST_NATIONAL = 8
"""Digits of a phone that are a phone by themselves; fewer are one only together with the country's code."""
_ESCAPED = re.compile(r"\\{1,4}u([0-9a-fA-F]{4})")
"""A character as JSON escapes it, perhaps within text that was itself escaped."""


class Reference(NamedTuple):
    """One name 7stamp knows a customer by: `kind` is `number` (six digits), `phone` (E.164) or `email` (lower case)."""

    kind: str
    value: str


class TillId(NamedTuple):
    """A till's own customer id, which means something within that account only."""

    connector: str
    account_id: str
    value: str


def references(customer: Customer, country: str | None) -> Sequence[Reference]:
    """Return the names 7stamp knows a customer by, best first; what cannot be one is left out.

    A phone without a plus is read as a number of the account's country.
    """
    # a number is a card itself; a phone is mostly one person's; an email is shared more often
    names: list[Reference] = []
    if customer.number:
        names.append(Reference("number", customer.number))
    if customer.phone and (phone := parse_phone(customer.phone, country)):
        names.append(Reference("phone", phone))
    if customer.email and "@" in customer.email:
        names.append(Reference("email", customer.email.strip().lower()))
    return names


def parse_phone(text: str, country: str | None) -> str | None:
    """Return a phone in E.164, or `None` where the text cannot be a phone; `country` is an ISO code."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    # by its length only: which prefixes are in use changes faster than the library. One that can be dialled only
    # within its town is nobody's in E.164.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@dataclass(frozen=True)
class PersonMatcher:
    """Recognises a person in what tills sent, whatever its form: JSON, form fields, plain text.

    `till_ids` count only where they stand under a name that is somebody's, such as `client_id`: elsewhere the same
    digits are an amount or a receipt.
    """

    references: frozenset[Reference]
    till_ids: frozenset[str] = frozenset()
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spellings = [_spellings(reference) for reference in sorted(self.references)]
        pattern = re.compile("|".join(spellings), re.IGNORECASE) if spellings else None
        object.__setattr__(self, "_pattern", pattern)  # a frozen dataclass allows no plain assignment

    def matches(self, text: str) -> bool:
        """Say whether a text names the person."""
        if self._pattern is not None and any(self._pattern.search(form) for form in _unescaped_forms(text)):
            return True
        return bool(self.till_ids) and _has_personal_value(text, self.till_ids)

    def mask(self, text: str) -> str:
        """Return the text with every name of the person masked."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


def _spellings(reference: Reference) -> str:
    """Return a pattern of everything that people and tills write for a name.

    It matches in linear time, for it meets what strangers sent: no part of it repeats without a bound.
    """
    match reference.kind:
        case "phone":
            return _SEPARATORS.join(_shortest_digits(reference.value)) + r"(?!\d)"
        case "email":
            # no other address ends or begins with it: `joanna@…` is not `anna@…`, nor is `…@example.com.ua`
            return rf"(?<![\w.+-]){re.escape(reference.value)}(?![\w-]|\.\w)"
    return rf"(?<!\d){reference.value[:3]}[\s-]?{reference.value[3:]}(?!\d)"


def _shortest_digits(phone: str) -> str:
    """Return the digits that every spelling of a phone ends with: the national ones, where they are enough."""
    national = phonenumbers.national_significant_number(phonenumbers.parse(phone))
    return national if len(national) >= _SHORTEST_NATIONAL else phone.lstrip("+")


def _unescaped_forms(text: str) -> Iterator[str]:
    """Yield the text as it is, and with the escapes of JSON and of forms undone.

    A stored body is text of one character a byte (Latin-1), so that UTF-8 in it must be decoded first.
    """
    yield text
    try:
        decoded = text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        decoded = text
    unescaped = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), decoded)
    if unescaped != text:
        yield unescaped
    if "%" in text or "+" in text:
        yield unquote_plus(decoded)


def _has_personal_value(text: str, values: Collection[str]) -> bool:
    """Say whether a JSON text has one of these values under a name that is somebody's, however deep below it."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        return False
    # a stack instead of recursion: what a stranger sent may be nested as deep as the parser lets it
    stack: list[tuple[object, bool]] = [(root, False)]
    while stack:
        value, is_personal = stack.pop()
        if isinstance(value, dict):
            stack += [(inner, is_personal or personal_name(str(name))) for name, inner in value.items()]
        elif isinstance(value, list):
            stack += [(inner, is_personal) for inner in value]
        elif is_personal and str(value) in values:
            return True
    return False
