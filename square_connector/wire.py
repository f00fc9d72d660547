"""Square's own shapes: errors of its API, and fields read one by one with what is wrong named by its path.

Owns how parsed JSON becomes values; what an order means is `mapping`'s. Fields that are empty may be absent, and new
fields and values come without a new version: what is not known is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from connector_sdk.errors import BadPayload, ConnectorError, MissingRight, NotAuthorised, TillUnavailable
from connector_sdk.json_text import encode_json, parse_json
from connector_sdk.money import Money
from connector_sdk.numbers import quantity_of

JsonObject = Mapping[str, object]
"""A parsed JSON object; each value is checked where it is read."""

SQUARE_VERSION = "2025-08-20"
"""The version of Square's API that this connector is written for: sent with every request."""
SCOPES = {
    "ORDERS_READ": "read sales: nothing works without it",
    "PAYMENTS_READ": "read payments and refunds: stamps of what was given back would stay",
    "CUSTOMERS_READ": "read customers: no stamps could be given to anybody",
    "MERCHANT_PROFILE_READ": "read locations: nothing works without it",
    "ITEMS_READ": "read the menu: no rule by item or category",
}
"""The rights that are asked for, each with what does not work without it."""
SIGNATURE = "x-square-hmacsha256-signature"
MOST_LOCATIONS = 10  # of one search
MOST_ORDERS = 100  # of one batch
_EARLIEST = datetime(2000, 1, 1).astimezone()


def judge(status: int, content: object) -> None:
    """Raise what an error answer means, as a `ConnectorError`; the rest is judged by its status."""
    if status < 400:
        return
    error = _first_error(content)
    code = str(error.get("code", ""))
    refusal = _refusal(code, str(error.get("detail", "")))
    if refusal is not None:
        raise refusal


def _first_error(content: object) -> JsonObject:
    errors = content.get("errors") if isinstance(content, Mapping) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, Mapping) else {}


def _refusal(code: str, detail: str) -> ConnectorError | None:
    match code:
        case "UNAUTHORIZED" | "ACCESS_TOKEN_EXPIRED" | "ACCESS_TOKEN_REVOKED":
            return NotAuthorised(f"Square refuses the token ({code})")
        case "INSUFFICIENT_SCOPES":
            missing = [scope for scope in SCOPES if scope in detail]
            return MissingRight(describe_scopes(missing) if missing else "read this part of Square")
        case "INVALID_CURSOR":
            return TillUnavailable("Square's cursor has ended: the read begins anew")
    return None


def describe_scopes(scopes: list[str]) -> str:
    """Name rights by Square's own names, each with what does not work without it."""
    return "; ".join(f"{scope} ({SCOPES[scope]})" for scope in scopes)


# --- fields -----------------------------------------------------------------------------------------------------------


def objects_in(raw: object, name: str) -> list[JsonObject]:
    """Return a list of objects; empty where it is absent. Raises `BadPayload`."""
    values = raw.get(name) if isinstance(raw, Mapping) else None
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise BadPayload(name, "is not a list of objects")
    return values


def object_in(raw: object, name: str) -> JsonObject:
    """Return an object, empty where it is absent. Raises `BadPayload`."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadPayload(name, "is not an object")
    return value


def text_in(raw: object, name: str) -> str:
    """Return a text; empty where it is absent or no text."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    return value if isinstance(value, str) else ""


def money_in(raw: object, name: str, currency: str, where: str = "") -> Money:
    """Return an amount, which is in the currency's smallest unit; nothing where it is absent. Raises `BadPayload`."""
    path = f"{where}{name}"
    value = object_in(raw, name)
    amount = value.get("amount", 0)
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise BadPayload(f"{path}.amount", "is no whole number")
    if value and value.get("currency", currency) != currency:
        raise BadPayload(f"{path}.currency", "is another one than the order's")
    try:
        return Money(amount, currency)
    except ValueError as error:
        raise BadPayload(f"{path}.amount", str(error)) from None


def time_in(raw: object, name: str) -> datetime | None:
    """Return a time (RFC 3339, with up to six digits of a second); `None` where it is absent. Raises `BadPayload`."""
    text = text_in(raw, name)
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadPayload(name, "is no time") from None
    if time.tzinfo is None or time < _EARLIEST:
        raise BadPayload(name, "is no time")
    return time


def quantity_in(raw: object, where: str) -> Decimal:
    """Return a line's quantity, which Square writes as a text. Raises `BadPayload`."""
    try:
        return quantity_of(text_in(raw, "quantity"))
    except ValueError:
        raise BadPayload(f"{where}.quantity", "is no quantity") from None


def hook_of(body: bytes) -> JsonObject:
    """Parse a hook's envelope. Raises `BadPayload`."""
    try:
        hook = parse_json(body)
    except ValueError:
        raise BadPayload("body", "is not JSON", body) from None
    if not isinstance(hook, dict):
        raise BadPayload("body", "is not an object", body)
    return hook


def body_of(order: JsonObject) -> bytes:
    """Encode an order, for keeping."""
    return encode_json({"order": order})


def rfc3339(time: datetime) -> str:
    """Write a time as Square reads it."""
    return time.isoformat(timespec="milliseconds")
