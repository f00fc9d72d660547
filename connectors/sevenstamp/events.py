"""7stamp's webhooks: the body of one, in English or as the business's language spells it, read to a `LoyaltyEvent`.

Owns the spellings (`docs` of 7stamp show English and Malay) and where on the wire each value stands; proving a webhook
and what it does here is `connectors.sync`'s. The names beyond those of the published example are our contract's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeGuard, TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from connector_sdk.loyalty import CLASSES, LoyaltyCard, LoyaltyCustomer, LoyaltyEvent, LoyaltyVoucher, OtherEvent

EVENTS = tuple(CLASSES)
"""The canonical names of the thirteen events."""

MALAY_EVENTS: Mapping[str, str] = {
    "kad_diterbitkan": "card_issued",
    "kad_disimpan": "card_saved",
    "kad_opened": "card_opened",
    "Stamp_ditambahkan": "stamp_added",
    "target_reached": "goal_reached",
    "ganjaran_diterbitkan": "reward_issued",
    "voucher_diterbitkan": "voucher_issued",
    "voucher_ditebus": "voucher_redeemed",
    "voucher_kedaluwarsa": "voucher_expired",
    "lotere_played": "lottery_played",
    "birthday_reached": "birthday_reached",
    "inactivity_trigger": "inactivity_trigger",
    "kampanye_sent": "campaign_sent",
}
"""The events as 7stamp's Malay documentation writes them → canonical."""
MALAY_KEYS: Mapping[str, str] = {
    "acara": "event",
    "bisnis_id": "business_id",
    "lokasi_id": "location_id",
    "pelanggan": "customer",
    "kad": "card",
    "target_index": "goal_index",
    "jenis": "type",
    "ditebus_via": "redeemed_via",
}
"""Keys in the same way."""
MALAY_VALUES: Mapping[str, str] = {
    "ditebus": "redeemed",
    "diterbitkan": "issued",
    "kedaluwarsa": "expired",
    "teks": "text",
    "kod bar": "barcode",
    "staf_pengimbas": "staff_scanner",
}
"""Values in the same way, of the fields that hold 7stamp's own words; ids and codes are never translated."""

_CANONICAL_EVENTS = {name.casefold(): canonical for name, canonical in MALAY_EVENTS.items()} | {
    name: name for name in EVENTS
}
_WORDS = {"status", "type", "redeemed_via", "redeem_code_formats", "channel"}
_LONGEST_NAME = 64
_LONGEST_TEXT = 500
"""Of ids, codes and words: more is no id, and would fill the database."""
_MOST_FORMATS = 10
_DEEPEST = 50


class UnreadableEvent(Exception):
    """A body is no event; the text says what is wrong, and nothing of what stands there."""


PartT = TypeVar("PartT", bound=BaseModel)
_MOMENT: TypeAdapter[datetime] = TypeAdapter(datetime)
JsonObject = Mapping[str, JsonValue]


def read_event(body: bytes, event_id: str, received_at: datetime) -> LoyaltyEvent:
    """Read the body of a webhook with its id. Raises `UnreadableEvent`.

    What is missing or of another type than it should be is left out of the event; unknown keys stay in `further`. A
    body without a time is as old as `received_at` (aware).
    """
    fields = _canonical_keys(_parse(body))
    event = _event_name(fields)
    known = _Known({key: value for key, value in fields.items() if key != "event"})
    values: dict[str, object] = {
        "id": event_id,
        "event": event,
        "at": known.moment("timestamp") or received_at,
        "business_id": known.text("business_id") or "",
        "location_id": known.text("location_id"),
        "customer": known.part("customer", LoyaltyCustomer),
        "card": known.part("card", LoyaltyCard),
        "code": known.text("code"),
        "receipt": known.text("receipt"),
    }
    event_class = CLASSES.get(event, OtherEvent)
    for name in ("count", "reward", "voucher", "result", "channel", "campaign"):
        if name in event_class.model_fields:
            values[name] = _own_value(known, name)
    return event_class.model_validate({**values, "further": known.rest()})


def _parse(body: bytes) -> JsonObject:
    try:
        parsed: JsonValue = json.loads(body, parse_constant=_refuse_constant)
        # lone surrogates are in no text that can be sent on
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise UnreadableEvent("the body holds half of a character") from None
    except (ValueError, RecursionError):
        raise UnreadableEvent("the body is no JSON") from None
    if not isinstance(parsed, dict):
        raise UnreadableEvent("the body is no JSON object")
    if _is_deeper(parsed, _DEEPEST):
        raise UnreadableEvent(f"the body is nested deeper than {_DEEPEST} levels")
    return parsed


def _is_deeper(value: JsonValue, most: int) -> bool:
    """Say whether a value is nested deeper than so many levels: what is not can be stored and sent on."""
    # level by level instead of recursion: what was sent may be as deep as the parser lets it
    level: list[JsonValue] = [value]
    for _ in range(most):
        level = [inner for outer in level for inner in _inner(outer)]
    return bool(level)


def _inner(value: JsonValue) -> Iterable[JsonValue]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
    return ()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _canonical_keys(fields: JsonObject) -> JsonObject:
    """Give keys their canonical names; where both spellings are there, the canonical one counts."""
    named = {MALAY_KEYS[key]: value for key, value in fields.items() if key in MALAY_KEYS}
    own = {key: value for key, value in fields.items() if key not in MALAY_KEYS}
    return named | own


def _event_name(fields: JsonObject) -> str:
    name = fields.get("event")
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise UnreadableEvent(f"event: a text of 1 to {_LONGEST_NAME} characters is missing")
    return _CANONICAL_EVENTS.get(name.casefold(), name)


def _word(text: str) -> str:
    return MALAY_VALUES.get(text, text)


def _is_text(value: JsonValue) -> TypeGuard[str]:
    # PostgreSQL takes no NUL in a text
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and "\x00" not in value


class _Known:
    """The fields of an object, taken one by one; what nobody took, or could not be taken, is the rest."""

    def __init__(self, fields: JsonObject) -> None:
        self._fields = dict(fields)

    def text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if not _is_text(value):
            return None
        del self._fields[name]
        return _word(value) if name in _WORDS else value

    def number(self, name: str) -> int | None:
        value = self._fields.get(name)
        # `bool` is an int to Python, and none to whoever counts stamps
        if type(value) is not int or abs(value) > 10**9:
            return None
        del self._fields[name]
        return value

    def moment(self, name: str) -> datetime | None:
        value = self._fields.get(name)
        if not _is_text(value):
            return None
        try:
            at = _MOMENT.validate_python(value)
            at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValidationError, OverflowError):
            return None
        if at.year < 1970:  # no event of a card, and no number of microseconds
            return None
        del self._fields[name]
        return at

    def part(self, name: str, part_class: type[PartT]) -> PartT:
        """Take an object as far as its members are what they should be; others of it stay in the rest."""
        value = self._fields.pop(name, None)
        if not isinstance(value, dict):
            if value is not None:
                self._fields[name] = value
            return part_class()
        members = _Known(_canonical_keys(value))
        taken = {field: members.member(field, part_class) for field in part_class.model_fields}
        if rest := members.rest():
            self._fields[name] = rest
        return part_class.model_validate({field: taken[field] for field in taken if taken[field] is not None})

    def member(self, name: str, part_class: type[BaseModel]) -> object:
        kind = part_class.model_fields[name].annotation
        if kind == int | None:
            return self.number(name)
        if kind == str | None:
            return self.text(name)
        return self._words(name)

    def _words(self, name: str) -> tuple[str, ...] | None:
        value = self._fields.get(name)
        if not isinstance(value, list) or len(value) > _MOST_FORMATS:
            return None
        words = [word for word in value if _is_text(word)]
        if len(words) < len(value):
            return None
        del self._fields[name]
        return tuple(_word(word) for word in words)

    def nested_text(self, name: str, *members: str) -> str | None:
        """Take a text that stands by itself, or in an object under one of some names."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            return self.text(name)
        inner = _canonical_keys(value)
        for member in members:
            word = inner.get(member)
            if _is_text(word):
                left = {key: other for key, other in inner.items() if key != member}
                self._fields[name] = left
                if not left:
                    del self._fields[name]
                return _word(word)
        return None

    def rest(self) -> dict[str, JsonValue]:
        return self._fields


def _own_value(known: _Known, name: str) -> object:
    """Take what only one event has."""
    match name:
        case "count":
            return known.number("stamps")
        case "voucher":
            return known.part("voucher", LoyaltyVoucher)
        case "reward":
            return known.nested_text("reward", "type")
        case "result":
            return known.nested_text("result") or known.nested_text("lottery", "result")
        case "channel":
            return known.text("channel") or known.nested_text("campaign", "channel")
    return known.nested_text("campaign", "name", "id")
