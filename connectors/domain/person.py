"""A customer as somebody asks for one: a phone, an email or a card number, and how each is recognised in other texts.

Owns the spellings; where such texts are kept is the store's.
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
_LONG_ENOUGH = 8  # fewer digits than that are a phone only together with the country's code
_ESCAPED = re.compile(r"\\{1,4}u([0-9a-fA-F]{4})")


class Reference(NamedTuple):
    """One name 7stamp knows a customer by: `kind` is `number` (six digits), `phone` (E.164) or `email` (lower case)."""

    kind: str
    value: str


class TillId(NamedTuple):
    """A till's own customer id, which means something within that account only."""

    connector: str
    account_id: str
    value: str


def references(who: Customer, country: str | None) -> Sequence[Reference]:
    """The names 7stamp knows a customer by, best first; what cannot be one is left out.

    A phone without a plus is read as a number of the account's country.
    """
    names: list[Reference] = []
    if who.number:
        names.append(Reference("number", who.number))
    if who.phone and (phone := international(who.phone, country)):
        names.append(Reference("phone", phone))
    if who.email and "@" in who.email:
        names.append(Reference("email", who.email.strip().lower()))
    return names


def international(text: str, country: str | None) -> str | None:
    """A phone in E.164, or `None` where it cannot be a phone."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@dataclass(frozen=True)
class Traces:
    """Recognises a person in what tills sent, whatever its form: JSON, form fields, plain text.

    `till_ids` count only where they stand under a name that is somebody's, such as `client_id`: elsewhere the same
    digits are an amount or a receipt.
    """

    references: frozenset[Reference]
    till_ids: frozenset[str] = frozenset()
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = [_spellings(reference) for reference in sorted(self.references)]
        object.__setattr__(self, "_pattern", re.compile("|".join(parts), re.IGNORECASE) if parts else None)

    def found_in(self, text: str) -> bool:
        """Whether a text names the person."""
        if self._pattern is not None and any(self._pattern.search(form) for form in _forms(text)):
            return True
        return bool(self.till_ids) and _names_somebody(text, self.till_ids)

    def masked(self, text: str) -> str:
        """The text with every name of the person masked."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


def _spellings(reference: Reference) -> str:
    """A pattern of everything people and tills write for a name; linear, for it meets what strangers sent."""
    match reference.kind:
        case "phone":
            parsed = phonenumbers.parse(reference.value)
            national = phonenumbers.national_significant_number(parsed)
            digits = national if len(national) >= _LONG_ENOUGH else reference.value.lstrip("+")
            return _SEPARATORS.join(digits) + r"(?!\d)"
        case "email":
            return rf"(?<![\w.+-]){re.escape(reference.value)}(?![\w-]|\.\w)"
    return rf"(?<!\d){reference.value[:3]}[\s-]?{reference.value[3:]}(?!\d)"


def _forms(text: str) -> Iterator[str]:
    """The text as it is, as the bytes that it may stand for, and with the escapes of JSON and of forms undone."""
    yield text
    try:
        decoded = text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        decoded = text
    plain = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), decoded)
    if plain != text:
        yield plain
    if "%" in text or "+" in text:
        yield unquote_plus(decoded)


def _names_somebody(text: str, wanted: Collection[str]) -> bool:
    """Whether a value of a JSON text is one of these, under a name that is somebody's."""
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        return False
    left: list[tuple[object, bool]] = [(root, False)]
    while left:
        value, personal = left.pop()
        if isinstance(value, dict):
            left += [(inner, personal or personal_name(str(name))) for name, inner in value.items()]
        elif isinstance(value, list):
            left += [(inner, personal) for inner in value]
        elif personal and str(value) in wanted:
            return True
    return False
