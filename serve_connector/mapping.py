"""Serve's check as a `Sale`; pure functions of what was sent.

Hooks and reads carry the same check, so one mapping serves both and a receipt looks the same however it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from connector_sdk.errors import BadPayload
from connector_sdk.money import Money
from connector_sdk.numbers import decimal_of, quantity_of
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from serve_connector.settings import ServeSettings
from serve_connector.wire import NOT_MONEY, STATUSES

_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}")
_NUMBER = re.compile(r"[0-9]{6}")


def sale_of(raw: Any, currency: str, settings: ServeSettings, venue: str | None = None) -> Sale:
    """Map one check; `venue` is the envelope's, where the check names none. Raises `BadPayload` with the field."""
    try:
        if not isinstance(raw, dict):
            raise BadPayload("check", "is not an object")
        return _sale(raw, currency, settings, venue)
    except BadPayload as error:
        raise BadPayload(error.where, error.why, body(raw)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "check"
        raise BadPayload(where, first["msg"], body(raw)) from None


def body(raw: Any) -> bytes:
    """What was received, for keeping."""
    return json.dumps(raw, ensure_ascii=False).encode("utf-8", "surrogatepass")


def receipt_id(raw: Any) -> str | None:
    """The check's id where it has one that can be read."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return found if isinstance(found, str) and found else None


def _sale(raw: Mapping[str, Any], currency: str, settings: ServeSettings, venue: str | None) -> Sale:
    if raw.get("currency") != currency:
        raise BadPayload("currency", f"is not the account's, {currency}")
    said = raw.get("status")
    if not isinstance(said, str) or said not in STATUSES:
        raise BadPayload("status", "is none that Serve documents")
    status = SaleStatus(STATUSES[said])
    closed_at = _time(raw, "closed_at")
    if status is SaleStatus.closed and closed_at is None:
        raise BadPayload("closed_at", "is missing from a closed check")
    paid = _paid(raw, currency)
    refunded = _money(raw, "refunded", currency, "0")
    return Sale(
        receipt_id=_text(raw, "id"),
        version=_revision(raw),
        status=status,
        closed_at=None if status is SaleStatus.open else closed_at,
        paid=paid,
        refunded=paid if said == "refunded" and refunded < paid else refunded,
        customer=_customer(raw.get("guest"), settings),
        lines=_lines(raw),
        redeem_codes=_codes(raw),
        location_id=_venue(raw) or venue,
    )


def _venue(raw: Mapping[str, Any]) -> str | None:
    found = raw.get("venue_id")
    return found if isinstance(found, str) and found else None


def _text(raw: Mapping[str, Any], field: str) -> str:
    found = raw.get(field)
    if not isinstance(found, str) or not found:
        raise BadPayload(field, "is missing")
    return found


def _revision(raw: Mapping[str, Any]) -> int:
    found = raw.get("revision")
    if type(found) is not int or found < 0:
        raise BadPayload("revision", "is not a whole number")
    return found


def _time(raw: Mapping[str, Any], field: str) -> datetime | None:
    found = raw.get(field)
    if found is None:
        return None
    try:
        at = datetime.fromisoformat(found) if isinstance(found, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None or not 1970 <= at.year < 2100:
        raise BadPayload(field, "is no time with its zone, as in 2026-11-20T08:15:30Z")
    return at


def _money(raw: Mapping[str, Any], field: str, currency: str, default: str | None = None) -> Money:
    value = raw.get(field, default)
    if not isinstance(value, str):
        raise BadPayload(field, "is no decimal text, as in 12.50")
    try:
        found = Money.from_decimal(value, currency)
    except ValueError as error:
        raise BadPayload(field, str(error)) from None
    if found.minor < 0:
        raise BadPayload(field, "is below zero")
    return found


def _paid(raw: Mapping[str, Any], currency: str) -> Money:
    """The part of the total that money paid.

    The total has no tip in it, but a gift card may have paid the tip too: what was paid without money counts against
    the total only as far as it is more than the tip.
    """
    total, tip = _money(raw, "total", currency), _money(raw, "tip", currency, "0")
    without_money = _without_money(raw, currency)
    if without_money < tip:
        return total
    off = without_money - tip
    return total - off if off < total else Money.zero(currency)


def _without_money(raw: Mapping[str, Any], currency: str) -> Money:
    """What was paid with points, vouchers or gift cards, of total and tip together."""
    payments = raw.get("payments") or []
    if not isinstance(payments, list):
        raise BadPayload("payments", "is not a list")
    total = Money.zero(currency)
    for at, one in enumerate(payments):
        if not isinstance(one, dict) or not isinstance(one.get("kind"), str):
            raise BadPayload(f"payments.{at}", "is not an object with a kind")
        if one.get("kind") in NOT_MONEY:
            try:
                total += _money(one, "amount", currency)
            except BadPayload as error:
                raise BadPayload(f"payments.{at}.{error.where}", error.why) from None
    return total


def _customer(guest: Any, settings: ServeSettings) -> Customer | None:
    """A guest's names; one that cannot be one is left out, the others are still good."""
    if not isinstance(guest, dict):
        return None

    def fits(field: str, pattern: re.Pattern[str]) -> str | None:
        found = guest.get(field)
        return found if isinstance(found, str) and pattern.fullmatch(found) else None

    who = Customer(
        number=fits("loyalty_code", _NUMBER) if settings.loyalty_codes else None,
        phone=fits("phone", _PHONE),
        email=fits("email", _EMAIL),
    )
    return who or None


def _lines(raw: Mapping[str, Any]) -> tuple[Line, ...]:
    items = raw.get("items") or []
    if not isinstance(items, list):
        raise BadPayload("items", "is not a list")
    return tuple(_line(one, f"items.{at}") for at, one in enumerate(items))


def _line(raw: Any, where: str) -> Line:
    product = (raw.get("sku") or raw.get("id")) if isinstance(raw, dict) else None
    if not isinstance(product, str):
        raise BadPayload(where, "is not an item with a sku or an id")
    category = raw.get("category")
    return Line(
        product_id=product,
        category_id=category if isinstance(category, str) and category else None,
        quantity=_quantity(raw, "quantity", where),
        refunded_quantity=_quantity(raw, "refunded_quantity", where, "0"),
        gift=raw.get("total") is not None and _decimal(raw["total"], f"{where}.total") == 0,
    )


def _quantity(raw: Mapping[str, Any], field: str, where: str, default: str | None = None) -> Decimal:
    try:
        return quantity_of(raw.get(field, default))
    except ValueError:
        raise BadPayload(f"{where}.{field}", "is no quantity as text, as in 2 or 0.250") from None


def _decimal(value: Any, where: str) -> Decimal:
    try:
        return decimal_of(value)
    except ValueError:
        raise BadPayload(where, "is no number as text") from None


def _codes(raw: Mapping[str, Any]) -> tuple[str, ...]:
    codes = raw.get("promo_codes") or []
    if not isinstance(codes, list) or not all(isinstance(one, str) for one in codes):
        raise BadPayload("promo_codes", "is not a list of texts")
    return tuple(dict.fromkeys(one.strip() for one in codes if one.strip()))
