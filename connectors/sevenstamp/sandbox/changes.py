"""The changes that the sandbox's state is made of, as they stand in its file: one JSON object a line.

Owns their shapes, which later versions must still read; what a change does to the state is the state's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

# `do` tells the kinds apart in a file. Its values, and the names of all members, are those that stored files have.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What all changes say: whose they are, what an operation they make is, and the request they came by."""

    business: str
    card_id: str | None
    kind: str
    """The operation's kind, as `/_sandbox/operations` names it."""
    count: int
    code: str | None
    """The caller's own reference; none for an issued card."""
    idempotency_key: str | None
    digest: str
    """Of the request's path and body: the same key with another digest is a conflict."""
    at: str
    """When it took effect, in ISO 8601."""
    visible_at: float = 0.0
    """From when on the card's history shows it, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardIssued(_Change):
    """A customer, known by a phone or an email, has a card."""

    do: Literal["issue"] = "issue"
    card_id: str
    number: str
    phone: str | None
    email: str | None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StampsAdded(_Change):
    """A receipt gave `count` stamps."""

    do: Literal["add"] = "add"
    card_id: str
    code: str
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StampsReversed(_Change):
    """`count` stamps of a receipt were taken back."""

    do: Literal["reverse"] = "reverse"
    card_id: str
    code: str
    receipt: str


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher as the API shows it; `code` is the reference it was issued with."""

    id: str
    card_id: str | None
    title: str
    redeem_code: str
    code: str
    status: str = "active"
    redeemed_by_code: str | None = None
    redeemed_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherIssued(_Change):
    """A business gave out a voucher."""

    do: Literal["voucher"] = "voucher"
    voucher: Voucher


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherRedeemed(_Change):
    """A voucher was used."""

    do: Literal["redeem"] = "redeem"
    code: str
    redeem_code: str


Change = CardIssued | StampsAdded | StampsReversed | VoucherIssued | VoucherRedeemed

_CHANGE: TypeAdapter[Change] = TypeAdapter(Annotated[Change, Field(discriminator="do")])


def read_change(line: str) -> Change:
    """Parse a line of a state file. Raises pydantic's `ValidationError` where it is none."""
    return _CHANGE.validate_json(line)


def write_change(change: Change) -> str:
    """Return a change as a line of a state file, without its end."""
    return _CHANGE.dump_json(change).decode()
