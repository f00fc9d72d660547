"""Links by which customers claim receipts: how a link is written, and what it opens.

Owns the text of a link's token and the states of a claim, as pure functions. Nothing is stored for a link: it holds the
beginning of a sale's id (or names a venue) and a signature, which the store makes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from urllib.parse import quote, unquote

from connectors.domain.clock import DAY

ID_DIGITS = 16
"""Hex digits of a sale's id in its token: 64 bits, of which no two receipts of an installation share all."""
_SIGNATURE_DIGITS = 14
_TOKEN_LENGTH = 24
"""Of 15 bytes in base32: no sign of it can be altered without altering a byte."""
_VENUE = "v-"
_LONGEST_VENUE = 900
_SEPARATOR = "/"

Sign = Callable[..., str]
"""Signs some texts: returns a keyed hash in hex digits."""


@dataclass(frozen=True, slots=True)
class ReceiptTarget:
    """A receipt, by the beginning of its sale's id."""

    id_start: str


@dataclass(frozen=True, slots=True)
class VenueTarget:
    """A venue, where a customer types what stands on a receipt; `location_id` is `None` for a till without any."""

    connection_id: str
    location_id: str | None


Target = ReceiptTarget | VenueTarget


def receipt_token(sale_id: str, sign: Sign) -> str:
    """Return the token of a receipt's link: 24 letters and digits."""
    start = sale_id[:ID_DIGITS]
    return _encode(bytes.fromhex(start + _signature(sign, start)))


def venue_token(venue: VenueTarget, sign: Sign) -> str:
    """Return the token of a venue's link."""
    name = _SEPARATOR.join(quote(part, safe="") for part in (venue.connection_id, venue.location_id) if part)
    return f"{_VENUE}{_encode(bytes.fromhex(_signature(sign, name)) + name.encode())}"


def read_token(token: str, sign: Sign) -> Target | None:
    """Return what a token opens; `None` for one that we did not sign, as it stands."""
    if token.startswith(_VENUE):
        return _read_venue(token, sign)
    content = _decode(token) if len(token) == _TOKEN_LENGTH else None
    if content is None:
        return None
    digits = content.hex()
    start, signature = digits[:ID_DIGITS], digits[ID_DIGITS:]
    return ReceiptTarget(start) if compare_digest(signature, _signature(sign, start)) else None


def _read_venue(token: str, sign: Sign) -> VenueTarget | None:
    content = _decode(token[len(_VENUE) :]) if len(token) <= _LONGEST_VENUE else None
    if content is None:
        return None
    size = _SIGNATURE_DIGITS // 2
    name = content[size:].decode("utf-8", "replace")
    if not compare_digest(content[:size].hex(), _signature(sign, name)):
        return None
    connection_id, _, location_id = name.partition(_SEPARATOR)
    return VenueTarget(unquote(connection_id), unquote(location_id) or None)


def _signature(sign: Sign, text: str) -> str:
    return sign("receipt link", text)[:_SIGNATURE_DIGITS]


def _encode(content: bytes) -> str:
    return base64.b32encode(content).decode().lower().rstrip("=")


def _decode(text: str) -> bytes | None:
    """Return the bytes of a text that `_encode` made; `None` for any other spelling of them."""
    try:
        content = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        return None
    return content if _encode(content) == text else None


class ClaimState(StrEnum):
    """What a receipt's link finds."""

    not_arrived = "not_arrived"
    """The till has not told of this receipt yet."""
    open = "open"
    """It is not paid yet."""
    waiting = "waiting"
    """Its stamps can be claimed."""
    claimed = "claimed"
    """Its stamps are somebody's: claimed before, or given at the till."""
    taken_back = "taken_back"
    """Its stamps were somebody's, and were taken back with a refund."""
    refunded = "refunded"
    """It was refunded or removed before anybody claimed it."""
    nothing = "nothing"
    """It earns nothing by the rule."""
    expired = "expired"
    """It is older than the link is good for."""
    off = "off"
    """The cafe gives no stamps by receipts (any more), or its connection is removed."""


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """What decides about a claim; `closed_at` in UTC microseconds."""

    status: str
    has_owner: bool
    stamps: int
    """What the receipt is entitled to; none where it was closed before the connection began."""
    refunded: bool
    closed_at: int | None
    claim_days: int
    has_links: bool


def expires_at(closed_at: int, claim_days: int) -> int:
    """Return from when on a receipt cannot be claimed any more (UTC microseconds)."""
    return closed_at + claim_days * DAY


def claim_state(facts: ClaimFacts, now: int) -> ClaimState:
    """Decide what a receipt's link finds at a moment (UTC microseconds)."""
    is_refunded = facts.status == "voided" or (facts.refunded and not facts.stamps)
    # whose it is comes before all else: whoever has claimed it looks what became of it
    if facts.has_owner:
        return ClaimState.taken_back if is_refunded else ClaimState.claimed
    if not facts.has_links:
        return ClaimState.off
    if is_refunded:
        return ClaimState.refunded
    if facts.status == "open" or facts.closed_at is None:
        return ClaimState.open
    if now >= expires_at(facts.closed_at, facts.claim_days):
        return ClaimState.expired
    return ClaimState.waiting if facts.stamps else ClaimState.nothing
