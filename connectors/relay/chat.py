"""What a chat is told: one sentence for each event, for an incoming webhook such as Slack's.

Owns which values a sentence names; the words are the catalogue's, `relay.chat.<event>`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from connector_sdk.loyalty import CLASSES
from connector_sdk.messages import Message
from connectors.domain.relay import OWN_EVENTS, TEST_EVENT

_WORDED = frozenset((*CLASSES, *OWN_EVENTS, TEST_EVENT))
_LONGEST_VALUE = 200


def chat_message(event: str, data: Mapping[str, JsonValue]) -> Message:
    """Return the sentence for an event, as a message; one that nobody worded is named."""
    if event not in _WORDED:
        return Message("relay.chat.other", {"event": event})
    params: dict[str, object] = {
        "card": _at(data, "card", "id") or _at(data, "card"),
        "count": _number(data.get("count")),
        "code": _at(data, "voucher", "redeem_code"),
        "receipt": _at(data, "receipt"),
        "title": _at(data, "connection", "title") or _at(data, "connection"),
        "amount": " ".join(part for part in (_at(data, "paid", "amount"), _at(data, "paid", "currency")) if part),
        "reason": _at(data, "reason"),
        "state": _at(data, "state").replace("_", " "),
        "channel": _at(data, "channel"),
        "campaign": _at(data, "campaign"),
        "result": _at(data, "result"),
        "reward": _at(data, "reward"),
        "mended": _number(data.get("mended")),
        "open": _number(data.get("open")),
        "receipts": _number(data.get("receipts")),
        "text": _at(data, "text"),
    }
    return Message(f"relay.chat.{event}", params)


def _at(data: Mapping[str, JsonValue], *path: str) -> str:
    value: JsonValue | Mapping[str, JsonValue] = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value[:_LONGEST_VALUE] if isinstance(value, str) else ""


def _number(value: JsonValue) -> int:
    return value if isinstance(value, int) else 1
