"""Serve's own shapes, as this connector assumes them: error answers, pages, and the hook's envelope.

Owns everything that would change if Serve turned out to speak differently, with `openapi.yaml` beside it; what a
check means is `mapping`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connector_sdk.errors import BadPayload, TillUnavailable

SIGNATURE = "serve-signature"
CHECK_EVENTS = frozenset({"check.closed", "check.updated", "check.refunded", "check.voided"})
STATUSES = {"open": "open", "closed": "closed", "refunded": "closed", "voided": "voided"}
NOT_MONEY = frozenset({"gift_card", "points", "voucher"})
"""Kinds of payment that no money was paid with."""
MOST_PER_PAGE = 200


def judge(_answer: Any) -> None:
    """Serve says what is wrong by the HTTP status alone."""


def page(answer: Any) -> tuple[list[Any], str | None]:
    """The records of a page and the cursor of the next. Raises `TillUnavailable`."""
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise TillUnavailable("the answer has no list")
    cursor = answer.get("next_cursor")
    if cursor is not None and not (isinstance(cursor, str) and 0 < len(cursor) <= 2000):
        raise TillUnavailable("the answer's cursor cannot be understood")
    return answer["data"], cursor


def event(body: bytes) -> Mapping[str, Any]:
    """A hook's envelope. Raises `BadPayload`."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise BadPayload("body", "is not JSON", body) from None
    if not isinstance(found, dict):
        raise BadPayload("body", "is not an object", body)
    return found
