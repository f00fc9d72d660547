"""Poster's receipt as a `Sale`, by every rule of `wire/poster.md`; pure functions of what was sent.

Only fields that `dash.getTransaction` and `dash.getTransactions` both carry are used: a receipt must look the same
however it was read, or each reading would seem to change it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from connector_sdk.errors import BadPayload
from connector_sdk.money import Money
from connector_sdk.numbers import quantity_of
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from poster_connector.settings import PosterSettings
from poster_connector.wire import text, whole

_STATUS = {0: SaleStatus.open, 1: SaleStatus.open, 2: SaleStatus.closed, 3: SaleStatus.voided, 4: SaleStatus.voided}
_FISCAL_RETURN = 2
_WITHOUT_PAYMENT = 0
# Six or more capitals and digits, with a letter among them: a word in capitals may match (7stamp then says that it
# knows no such voucher), a phone number in a comment does not.
_REDEEM_CODE = re.compile(r"(?<![\w-])(?=[0-9-]*[A-Z])[A-Z0-9][A-Z0-9-]{4,30}[A-Z0-9](?![\w-])")
_PHONE_DIGITS = 9  # so many digits among the letters are somebody's phone
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 4_102_444_800_000  # the year 2100


def sale_of(raw: Any, currency: str, settings: PosterSettings, categories: Mapping[str, str] | None = None) -> Sale:
    """Map one receipt. Raises `BadPayload` with the field, why, and the whole body."""
    try:
        if not isinstance(raw, dict):
            raise BadPayload("receipt", "is not an object")
        return _sale(raw, currency, settings, categories or {})
    except BadPayload as error:
        raise BadPayload(error.where, error.why, body(raw)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "receipt"
        raise BadPayload(where, first["msg"], body(raw)) from None


def body(raw: Any) -> bytes:
    """What was received, for keeping."""
    return json.dumps(raw, ensure_ascii=False).encode("utf-8", "surrogatepass")


def receipt_id(raw: Any) -> str | None:
    """The receipt's id where it has one that can be read."""
    return (text(raw, "transaction_id") if isinstance(raw, dict) else "") or None


def closed_at(raw: Mapping[str, Any]) -> datetime | None:
    """When it was closed; `None` while it is open."""
    milliseconds = whole(raw, "date_close", 0)
    if milliseconds == 0:
        return None
    if not 0 < milliseconds < _LATEST_MS:
        raise BadPayload("date_close", "is no time in milliseconds")
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _sale(raw: Mapping[str, Any], currency: str, settings: PosterSettings, categories: Mapping[str, str]) -> Sale:
    number = whole(raw, "status")
    if number not in _STATUS:
        raise BadPayload("status", f"is {number}, which Poster does not document")
    status = _STATUS[number]
    if whole(raw, "print_fiscal", 0) == _FISCAL_RETURN:
        status = SaleStatus.voided
    paid = _money(raw, "payed_sum", currency)
    closed = closed_at(raw)
    if status is SaleStatus.closed and closed is None:
        raise BadPayload("date_close", "is missing from a closed receipt")
    client = text(raw, "client_id")
    return Sale(
        receipt_id=text(raw, "transaction_id"),
        status=status,
        closed_at=None if status is SaleStatus.open else closed,
        paid=paid,
        refunded=Money.zero(currency),
        customer=Customer(till_id=client) if client else None,
        lines=_lines(raw, categories),
        redeem_codes=redeem_codes(text(raw, "transaction_comment")) if settings.redeem_codes else (),
        location_id=text(raw, "spot_id") or None,
        gift=paid.minor <= 0 or whole(raw, "pay_type", 1) == _WITHOUT_PAYMENT,
    )


def _money(raw: Mapping[str, Any], field: str, currency: str) -> Money:
    try:
        return Money.from_hundredths(whole(raw, field), currency)
    except ValueError as error:
        raise BadPayload(field, str(error)) from None


def _lines(raw: Mapping[str, Any], categories: Mapping[str, str]) -> tuple[Line, ...]:
    products = raw.get("products") or []
    if not isinstance(products, list):
        raise BadPayload("products", "is not a list")
    return tuple(_line(one, f"products.{at}", categories) for at, one in enumerate(products))


def _line(raw: Any, where: str, categories: Mapping[str, str]) -> Line:
    if not isinstance(raw, dict) or not text(raw, "product_id"):
        raise BadPayload(where, "is not a line with a product")
    product = text(raw, "product_id")
    try:
        quantity = quantity_of(str(raw.get("num", "")))
    except ValueError:
        raise BadPayload(f"{where}.num", "is no quantity") from None
    try:
        gift = whole(raw, "payed_sum", 1) == 0
    except BadPayload as error:
        raise BadPayload(f"{where}.{error.where}", error.why) from None
    return Line(product_id=product, category_id=categories.get(product), quantity=quantity, gift=gift)


def redeem_codes(comment: str) -> tuple[str, ...]:
    """What may be redeem codes among the words of a comment."""
    found = dict.fromkeys(_REDEEM_CODE.findall(comment[:2000]))
    return tuple(one for one in found if sum(sign.isdigit() for sign in one) < _PHONE_DIGITS)[:20]


def customer_of(raw: Mapping[str, Any], settings: PosterSettings) -> Customer:
    """A client's names: the phone from its digits in international form, never as typed."""
    digits = text(raw, "phone_number")
    email = text(raw, "email")
    number = text(raw, "card_number").lstrip("0")
    # a name that cannot be one is left out: the others are still good
    return Customer(
        number=number.zfill(6) if settings.card_numbers and re.fullmatch(r"[0-9]{1,6}", number) else None,
        phone=f"+{digits}" if re.fullmatch(r"[0-9]{7,15}", digits) else None,
        email=email if re.fullmatch(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}", email) else None,
    )
