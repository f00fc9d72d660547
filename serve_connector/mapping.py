"""Serve's check as a `Sale`, and its venues as an account; pure functions of what was sent.

Owns what Serve's fields mean. Hooks and reads carry the same check, so one mapping serves both and a receipt looks the
same however it came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from connector_sdk import Location, TillAccount
from connector_sdk.errors import BadPayload
from connector_sdk.json_text import encode_json
from connector_sdk.money import Money
from connector_sdk.numbers import decimal_of, quantity_of
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from serve_connector.settings import ServeSettings
from serve_connector.wire import NOT_MONEY, STATUSES, JsonObject

_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}")
_NUMBER = re.compile(r"[0-9]{6}")
_EARLIEST_YEAR, _LATEST_YEAR = 1970, 2099


def account_of(venues: Sequence[JsonObject]) -> TillAccount:
    """Map venues, of which there is at least one, to their account. Raises pydantic's `ValidationError`."""
    first = venues[0]
    # what Serve sent may be of any type: pydantic looks at it, and not the type checker
    return TillAccount.model_validate(
        {
            "id": first.get("account_id"),
            "name": first.get("account_name") or first.get("name"),
            "currency": first.get("currency"),
            "zone": first.get("time_zone"),
            "country": first.get("country"),
            "locations": tuple(_location(venue) for venue in venues),
        }
    )


def _location(venue: JsonObject) -> Location:
    return Location.model_validate({"id": venue.get("id"), "name": venue.get("name"), "zone": venue.get("time_zone")})


def sale_of(raw: object, currency: str, settings: ServeSettings, venue_id: str | None = None) -> Sale:
    """Map one check; `venue_id` is the envelope's, for a check that names none. Raises `BadPayload` with the field."""
    try:
        if not isinstance(raw, dict):
            raise BadPayload("check", "is not an object")
        return _map_check(raw, currency, settings, venue_id)
    except BadPayload as error:
        # the body is added here, once, so that what reads a single field need not know the check
        raise BadPayload(error.where, error.why, encode_json(raw)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "check"
        raise BadPayload(where, first["msg"], encode_json(raw)) from None


def receipt_id_of(raw: object) -> str | None:
    """Return the check's id where it has one that can be read."""
    return _optional_text(raw, "id")


def venue_of(event: JsonObject) -> str | None:
    """Return the id of the venue that an event's envelope names, where it names one as text."""
    venue = event.get("venue")
    venue_id = venue.get("id") if isinstance(venue, dict) else None
    return venue_id if isinstance(venue_id, str) else None


def _map_check(raw: JsonObject, currency: str, settings: ServeSettings, venue_id: str | None) -> Sale:
    # first of all: amounts of another currency must never be read as the account's own
    if raw.get("currency") != currency:
        raise BadPayload("currency", f"is not the account's, {currency}")
    status = _status(raw)
    closed_at = _time(raw, "closed_at")
    if status is SaleStatus.closed and closed_at is None:
        raise BadPayload("closed_at", "is missing from a closed check")
    paid = _paid(raw, currency)
    refunded = _refunded(raw, paid)
    return Sale(
        receipt_id=_text(raw, "id"),
        version=_revision(raw),
        status=status,
        closed_at=None if status is SaleStatus.open else closed_at,
        paid=paid,
        refunded=refunded,
        customer=_customer(raw.get("guest"), settings),
        lines=_lines(raw),
        redeem_codes=_codes(raw),
        location_id=_optional_text(raw, "venue_id") or venue_id,
    )


# --- single fields --------------------------------------------------------------------------------------------------


def _status(raw: JsonObject) -> SaleStatus:
    word = raw.get("status")
    if not isinstance(word, str) or word not in STATUSES:
        raise BadPayload("status", "is none that Serve documents")
    return SaleStatus(STATUSES[word])


def _text(raw: JsonObject, name: str) -> str:
    text = _optional_text(raw, name)
    if text is None:
        raise BadPayload(name, "is missing")
    return text


def _optional_text(raw: object, name: str) -> str | None:
    """Read a text; `None` where it is empty, something else, or a field of what is no object."""
    value = raw.get(name) if isinstance(raw, dict) else None
    return value if isinstance(value, str) and value else None


def _revision(raw: JsonObject) -> int:
    revision = raw.get("revision")
    if type(revision) is not int or revision < 0:  # and not `isinstance`: true is an integer to Python
        raise BadPayload("revision", "is not a whole number")
    return revision


def _time(raw: JsonObject, name: str) -> datetime | None:
    value = raw.get(name)
    if value is None:
        return None
    at = _parse_time(value)
    # without a zone nobody knows which rule was in force, and which day it was
    if at is None or at.tzinfo is None or not _EARLIEST_YEAR <= at.year <= _LATEST_YEAR:
        raise BadPayload(name, "is no time with its zone, as in 2026-11-20T08:15:30Z")
    return at


def _parse_time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


# --- money ----------------------------------------------------------------------------------------------------------


def _money(raw: JsonObject, name: str, currency: str, default: str | None = None) -> Money:
    """Read an amount, which is a decimal text: a JSON number would be a float to many who write it."""
    value = raw.get(name, default)
    if not isinstance(value, str):
        raise BadPayload(name, "is no decimal text, as in 12.50")
    try:
        amount = Money.from_decimal(value, currency)
    except ValueError as error:
        raise BadPayload(name, str(error)) from None
    if amount.minor < 0:
        raise BadPayload(name, "is below zero")
    return amount


def _paid(raw: JsonObject, currency: str) -> Money:
    """Read the part of the total that money paid.

    The total has no tip in it, but a gift card may have paid the tip too: what was paid without money counts against
    the total only as far as it is more than the tip.
    """
    total, tip = _money(raw, "total", currency), _money(raw, "tip", currency, "0")
    without_money = _without_money(raw, currency)
    if without_money < tip:
        return total
    off = without_money - tip
    return total - off if off < total else Money.zero(currency)


def _refunded(raw: JsonObject, paid: Money) -> Money:
    """Read what went back; a check that calls itself refunded gave back all that was paid, whatever its sum says.

    A tip or a gift card that went back with it is no part of what was paid in money.
    """
    refunded = _money(raw, "refunded", paid.currency, "0")
    return paid if raw.get("status") == "refunded" or paid < refunded else refunded


def _without_money(raw: JsonObject, currency: str) -> Money:
    """Add up what was paid with points, vouchers or gift cards, of total and tip together."""
    payments = raw.get("payments") or []
    if not isinstance(payments, list):
        raise BadPayload("payments", "is not a list")
    total = Money.zero(currency)
    for at, payment in enumerate(payments):
        if not isinstance(payment, dict) or not isinstance(payment.get("kind"), str):
            raise BadPayload(f"payments.{at}", "is not an object with a kind")
        # a kind that nobody has named yet counts as money: a stamp must not be lost over it
        if payment.get("kind") not in NOT_MONEY:
            continue
        try:
            total += _money(payment, "amount", currency)
        except BadPayload as error:
            raise BadPayload(f"payments.{at}.{error.where}", error.why) from None
    return total


# --- who and what ---------------------------------------------------------------------------------------------------


def _customer(guest: object, settings: ServeSettings) -> Customer | None:
    """Map a guest; a name that cannot be one is left out, and the others are still good."""
    customer = Customer(
        number=_matching(guest, "loyalty_code", _NUMBER) if settings.loyalty_codes else None,
        phone=_matching(guest, "phone", _PHONE),
        email=_matching(guest, "email", _EMAIL),
    )
    return customer or None


def _matching(guest: object, name: str, pattern: re.Pattern[str]) -> str | None:
    text = _optional_text(guest, name)
    return text if text is not None and pattern.fullmatch(text) else None


def _lines(raw: JsonObject) -> tuple[Line, ...]:
    items = raw.get("items") or []
    if not isinstance(items, list):
        raise BadPayload("items", "is not a list")
    return tuple(_line(item, f"items.{at}") for at, item in enumerate(items))


def _line(raw: object, where: str) -> Line:
    product = (raw.get("sku") or raw.get("id")) if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(product, str):
        raise BadPayload(where, "is not an item with a sku or an id")
    return Line(
        product_id=product,
        category_id=_optional_text(raw, "category"),
        quantity=_quantity(raw, "quantity", where),
        refunded_quantity=_quantity(raw, "refunded_quantity", where, "0"),
        # a line without a total is no gift: nobody said that it was free
        gift=raw.get("total") is not None and _decimal(raw["total"], f"{where}.total") == 0,
    )


def _quantity(raw: JsonObject, name: str, where: str, default: str | None = None) -> Decimal:
    try:
        return quantity_of(raw.get(name, default))
    except ValueError:
        raise BadPayload(f"{where}.{name}", "is no quantity as text, as in 2 or 0.250") from None


def _decimal(value: object, where: str) -> Decimal:
    try:
        return decimal_of(value)
    except ValueError:
        raise BadPayload(where, "is no number as text") from None


def _codes(raw: JsonObject) -> tuple[str, ...]:
    codes = raw.get("promo_codes") or []
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise BadPayload("promo_codes", "is not a list of texts")
    return tuple(dict.fromkeys(code.strip() for code in codes if code.strip()))
