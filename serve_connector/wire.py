"""Serve's own shapes, as this connector assumes them: pages of its API, and the hook's envelope.

Owns everything that would change if Serve turned out to speak differently, with `openapi.yaml` beside it; what a
check means is `mapping`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from connector_sdk.errors import BadPayload, TillUnavailable

JsonObject = Mapping[str, object]
"""A parsed JSON object. The contract is assumed, so each value is checked where it is read."""

SIGNATURE = "serve-signature"
CHECK_EVENTS = frozenset({"check.closed", "check.updated", "check.refunded", "check.voided"})
# a refunded check stays closed: how much of it went back is another field
STATUSES = {"open": "open", "closed": "closed", "refunded": "closed", "voided": "voided"}
NOT_MONEY = frozenset({"gift_card", "points", "voucher"})
"""Kinds of payment that no money was paid with."""
MOST_PER_PAGE = 200


def records_of(answer: object) -> list[object]:
    """Return the records of one page. Raises `TillUnavailable` where it is none."""
    records = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(records, list):
        raise TillUnavailable("the answer has no list")
    return records


def parse_event(body: bytes) -> JsonObject:
    """Parse a hook's envelope. Raises `BadPayload`."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise BadPayload("body", "is not JSON", body) from None
    if not isinstance(event, dict):
        raise BadPayload("body", "is not an object", body)
    return event
