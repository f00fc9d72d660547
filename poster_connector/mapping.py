"""Poster's receipt as a `Sale`, by the rules of its API; pure functions of what was sent.

Owns what Poster's fields mean; how bytes become values is `wire`'s. Only fields that `dash.getTransaction` and
`dash.getTransactions` both carry are used: a receipt must look the same however it was read, or each reading would seem
to change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from connector_sdk import MenuItem
from connector_sdk.errors import BadPayload
from connector_sdk.json_text import encode_json
from connector_sdk.money import Money
from connector_sdk.numbers import quantity_of
from connector_sdk.redeem_codes import find_redeem_codes
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from poster_connector.settings import PosterSettings
from poster_connector.wire import JsonObject, read_text, read_whole

# 0 waits for confirmation and 1 is open, 2 is closed, 3 is removed and 4 is an online order that was cancelled
_STATUS = {0: SaleStatus.open, 1: SaleStatus.open, 2: SaleStatus.closed, 3: SaleStatus.voided, 4: SaleStatus.voided}
_FISCAL_RETURN = 2
_WITHOUT_PAYMENT = 0
_PHONE = re.compile(r"[0-9]{7,15}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}")
_CARD_NUMBER = re.compile(r"[0-9]{1,6}")
_CARD_DIGITS = 6
_LONGEST_REMARK = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_MS = 4_102_444_800_000  # the year 2100


def sale_of(raw: object, currency: str, settings: PosterSettings, categories: Mapping[str, str] | None = None) -> Sale:
    """Map one receipt; `categories` maps product to category. Raises `BadPayload` with field, reason and body."""
    try:
        if not isinstance(raw, dict):
            raise BadPayload("receipt", "is not an object")
        return _map_receipt(raw, currency, settings, categories or {})
    except BadPayload as error:
        # the body is added here, once, so that what reads a single field need not know the receipt
        raise BadPayload(error.where, error.why, encode_json(raw)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "receipt"
        raise BadPayload(where, first["msg"], encode_json(raw)) from None


def receipt_id_of(raw: object) -> str | None:
    """Return the receipt's id where it has one that can be read."""
    return read_text(raw, "transaction_id") or None


def read_closed_at(raw: JsonObject) -> datetime | None:
    """Read when a receipt was closed; `None` while it is open. Raises `BadPayload`."""
    milliseconds = read_whole(raw, "date_close", 0)
    if milliseconds == 0:
        return None
    if not 0 < milliseconds < _LATEST_MS:
        raise BadPayload("date_close", "is no time in milliseconds")
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _map_receipt(raw: JsonObject, currency: str, settings: PosterSettings, categories: Mapping[str, str]) -> Sale:
    status = _status(raw)
    paid = _money(raw, "payed_sum", currency)
    closed_at = read_closed_at(raw)
    if status is SaleStatus.closed and closed_at is None:
        raise BadPayload("date_close", "is missing from a closed receipt")
    comment = read_text(raw, "transaction_comment") if settings.redeem_codes else ""
    return Sale(
        # no version: Poster has no revision, and the host orders its readings itself
        receipt_id=read_text(raw, "transaction_id"),
        status=status,
        closed_at=None if status is SaleStatus.open else closed_at,
        paid=paid,
        # Poster shows whole returns only, and those void the receipt
        refunded=Money.zero(currency),
        customer=_customer_reference(raw),
        lines=_lines(raw, categories),
        redeem_codes=find_redeem_codes(comment),
        remarks=(comment[:_LONGEST_REMARK],) if comment else (),
        location_id=read_text(raw, "spot_id") or None,
        gift=paid.minor <= 0 or read_whole(raw, "pay_type", 1) == _WITHOUT_PAYMENT,
    )


def _status(raw: JsonObject) -> SaleStatus:
    number = read_whole(raw, "status")
    if number not in _STATUS:
        raise BadPayload("status", f"is {number}, which Poster does not document")
    # a fiscal return leaves the receipt closed in Poster, though all its money went back
    return SaleStatus.voided if read_whole(raw, "print_fiscal", 0) == _FISCAL_RETURN else _STATUS[number]


def _customer_reference(raw: JsonObject) -> Customer | None:
    """Name the customer by Poster's own id; who that is, is read by itself."""
    client_id = read_text(raw, "client_id")
    return Customer(till_id=client_id) if client_id else None


def _money(raw: JsonObject, name: str, currency: str) -> Money:
    """Read an amount: Poster writes hundredths whatever the currency, also where people write none."""
    try:
        return Money.from_hundredths(read_whole(raw, name), currency)
    except ValueError as error:
        raise BadPayload(name, str(error)) from None


def _lines(raw: JsonObject, categories: Mapping[str, str]) -> tuple[Line, ...]:
    products = raw.get("products") or []
    if not isinstance(products, list):
        raise BadPayload("products", "is not a list")
    return tuple(_line(product, f"products.{at}", categories) for at, product in enumerate(products))


def _line(raw: object, where: str, categories: Mapping[str, str]) -> Line:
    product_id = read_text(raw, "product_id")
    if not isinstance(raw, dict) or not product_id:
        raise BadPayload(where, "is not a line with a product")
    try:
        quantity = quantity_of(str(raw.get("num", "")))
    except ValueError:
        raise BadPayload(f"{where}.num", "is no quantity") from None
    try:
        gift = read_whole(raw, "payed_sum", 1) == 0  # a promotion's free item
    except BadPayload as error:
        raise BadPayload(f"{where}.{error.where}", error.why) from None
    return Line(product_id=product_id, category_id=categories.get(product_id), quantity=quantity, gift=gift)


def customer_of(raw: JsonObject, settings: PosterSettings) -> Customer:
    """Map a client: the phone from its digits in international form, never as typed.

    A name that cannot be one is left out, and the others are still good.
    """
    digits = read_text(raw, "phone_number")
    email = read_text(raw, "email")
    return Customer(
        number=_card_number(raw) if settings.card_numbers else None,
        phone=f"+{digits}" if _PHONE.fullmatch(digits) else None,
        email=email if _EMAIL.fullmatch(email) else None,
    )


def _card_number(raw: JsonObject) -> str | None:
    """Read the client's card as a 7stamp number, which is written with leading zeros."""
    number = read_text(raw, "card_number").lstrip("0")
    return number.zfill(_CARD_DIGITS) if _CARD_NUMBER.fullmatch(number) else None


def menu_item(product: JsonObject, category_names: Mapping[str, str]) -> MenuItem:
    """Map one product of the menu; `category_names` maps category id to name."""
    product_id, category_id = read_text(product, "product_id"), read_text(product, "menu_category_id")
    return MenuItem(
        product_id=product_id,
        name=read_text(product, "product_name") or product_id,
        category_id=category_id or None,
        category_name=category_names.get(category_id),
    )


def categories_by_product(products: Iterable[JsonObject]) -> dict[str, str]:
    """Map product id to category id, for products that have one."""
    categories = {read_text(product, "product_id"): read_text(product, "menu_category_id") for product in products}
    return {product_id: category_id for product_id, category_id in categories.items() if category_id}
