"""Texts as amounts and times, by the formats that the settings name; pure functions.

Owns decimal signs, units, zones and epochs. Where in a request a text stands is `mapping`'s, and nothing is guessed: a
text that does not fit is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.numbers import decimal_of, quantity_of, whole_of
from webhook_connector.settings import Dates, DecimalSign, Units, WebhookSettings
from webhook_connector.time_patterns import parse_time_by

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]{1,20})?")
_SWAP = str.maketrans(",.", ".,")
_SIGNS = {
    DecimalSign.dot: "{found} is no number with a decimal dot",
    DecimalSign.comma: "{found} is no number with a decimal comma",
}
_LONGEST_TIME = 100
_PHONE_DIGITS = 6  # the least that somebody's phone or 7stamp number has
_SEVERAL_WORDS = re.compile(r"[^\W\d_]{2,40}[\s,;]{1,40}[^\W\d_]{2}")  # as a name has
_LOOKED_AT = 200  # characters of a value by which it is judged; no more of it is shown
_SHOWN = 40


def bad_payload(where: str, text: str, body: bytes = b"", **params: str | int | Message) -> BadPayload:
    """Make the error that a field does not fit, with a reason that can be said in any language."""
    words = {name: value.id if isinstance(value, Message) else value for name, value in params.items()}
    return BadPayload(where, text.format(**words), body, said=Message(text, params))


def quote(text: str) -> str:
    """Quote a value, for a reason that the journal keeps.

    A path may lead to somebody's phone, email or name by mistake: what may be one is not repeated.
    """
    text = text[:_LOOKED_AT]
    if "@" in text or sum(sign.isdigit() for sign in text) >= _PHONE_DIGITS or _SEVERAL_WORDS.search(text):
        return "what was found"
    shown = text[:_SHOWN].encode("utf-8", "replace").decode()  # half a character is no text
    return f"“{shown}”"


def parse_amount(text: str, field: str, settings: WebhookSettings) -> Money:
    """Parse one amount, exactly. Raises `BadPayload`, or `ValueError` where the currency has no unit that small."""
    compact = "".join(text.split())
    if settings.units is Units.minor:
        try:
            minor = whole_of(compact)
        except ValueError:
            raise bad_payload(field, "{found} is no whole number of minor units", found=quote(compact)) from None
        return Money(minor, settings.currency)
    plain = _with_dot(compact, settings)
    if _GROUPED.fullmatch(plain):  # 1,234.50: a comma that stands elsewhere makes it no number
        plain = plain.replace(",", "")
    try:
        amount = decimal_of(plain)
    except ValueError:
        raise bad_payload(field, _SIGNS[settings.decimal_sign], found=quote(text)) from None
    return Money.from_decimal(amount, settings.currency)


def parse_quantity(text: str, settings: WebhookSettings) -> Decimal:
    """Parse how many of something were sold. Raises `ValueError`."""
    return quantity_of(_with_dot(text, settings))


def _with_dot(text: str, settings: WebhookSettings) -> str:
    """Write a number with a decimal dot; dots between thousands become commas then."""
    return text.translate(_SWAP) if settings.decimal_sign is DecimalSign.comma else text


def parse_time(text: str, settings: WebhookSettings) -> datetime | None:
    """Parse a time, in UTC; `None` where it is not written as the settings say."""
    if len(text) > _LONGEST_TIME:
        return None
    try:
        match settings.dates:
            case Dates.unix:
                return _since_epoch(text, microseconds=10**6)
            case Dates.unix_ms:
                return _since_epoch(text, microseconds=1000)
            case Dates.iso:
                at = datetime.fromisoformat(text)
            case Dates.pattern:
                at = parse_time_by(settings.date_pattern, text)
        # one without a zone is read in the zone of times, or else where the till stands
        zoned = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(settings.dates_zone or settings.zone))
        return zoned.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter beside the ends of the calendar
        return None


def _since_epoch(text: str, *, microseconds: int) -> datetime:
    """Parse a count since 1970 of units of so many microseconds; decimals are exact, for no float is in between."""
    return EPOCH + timedelta(microseconds=int(decimal_of(text) * microseconds))
