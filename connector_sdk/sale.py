"""The sale model: a receipt as the till knows it now, and the pages in which sales are read.

Owns the values that a connector hands to the host; what a sale earns is the host's to decide.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.money import Money

# no control characters: ids are printed in terminals, and stand in operation codes and log lines
Key = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An identifier of the till's own: always text, whether or not the wire has a number there."""


class Frozen(BaseModel):
    """The base of immutable values; it refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SaleStatus(StrEnum):
    """Where a receipt stands."""

    # not paid yet: it earns nothing
    open = "open"
    # paid and closed, also where money was refunded since
    closed = "closed"
    # removed at the till, as if it had never been: its stamps are taken back
    voided = "voided"


class Customer(Frozen):
    """The customer of a receipt, by any of four identifiers; those that are not known are `None`.

    `number` is the six-digit 7stamp number, `phone` is E.164 (any other form is read with the account's country),
    `till_id` is the till's own id, which `Connector.customer` resolves to the others. A customer without any is false.
    """

    number: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] | None = None
    phone: Annotated[str, StringConstraints(min_length=3, max_length=40)] | None = None
    email: Annotated[str, StringConstraints(min_length=3, max_length=254)] | None = None
    till_id: Key | None = None

    def __bool__(self) -> bool:
        return bool(self.number or self.phone or self.email or self.till_id)


class Line(Frozen):
    """One line of a receipt; quantities may be fractional (by weight): parse them with `quantity_of`.

    `gift` marks a line that was given free: it earns nothing by a rule per item.
    """

    product_id: Key
    category_id: Key | None = None
    quantity: Annotated[Decimal, Field(ge=0, max_digits=12)]
    refunded_quantity: Annotated[Decimal, Field(ge=0, max_digits=12)] = Decimal(0)
    gift: bool = False


class Sale(Frozen):
    """A receipt as the till knows it now.

    `version` is the till's own revision or change time (any integer that grows with each change), or `None` where the
    till has none. `paid` is money only: after discounts, without tips, points or certificates. `refunded` is the part
    of it that was given back so far, in the same currency. `redeem_codes` are the codes of vouchers that were used.
    `location_id` is one that `check` lists. `gift` marks a receipt that earns nothing whatever the rule.

    `remarks` are what people typed: a comment, the name of a discount or promotion. The host looks in them for codes of
    the business's vouchers, however they are spelled, and stores nothing else of them.
    """

    receipt_id: Key
    version: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    status: SaleStatus
    closed_at: AwareDatetime | None = None
    paid: Money
    refunded: Money
    customer: Customer | None = None
    # bounds of what a till, or somebody who posts as one, can make the host store for one receipt
    lines: Annotated[tuple[Line, ...], Field(max_length=2000)] = ()
    redeem_codes: Annotated[tuple[Key, ...], Field(max_length=20)] = ()
    remarks: Annotated[tuple[Annotated[str, Field(max_length=2000)], ...], Field(max_length=5, exclude=True)] = ()
    location_id: Key | None = None
    gift: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status is SaleStatus.closed and self.closed_at is None:
            raise ValueError("closed_at: a closed sale says when it was closed")
        # what remains is `paid - refunded`, which amounts of two currencies do not have
        if self.paid.currency != self.refunded.currency:
            raise ValueError("refunded: not in the currency of what was paid")
        return self


class Unreadable(Frozen):
    """A receipt that could not be mapped: stored whole for a person, while the read goes on.

    `receipt_id` is cut to 128 characters, and those that cannot be printed become question marks.
    """

    receipt_id: Key | None
    body: bytes
    where: str
    why: str
    said: Message | None = None
    """`why` as a message for a reader's language; `None` where there is only the English sentence."""

    @classmethod
    def of(cls, error: BadPayload, receipt_id: str | None, body: bytes | None = None) -> Self:
        """Build it from the mapping's error; `body` is for an error that does not carry the bytes itself."""
        raw = body if body is not None else error.body
        return cls(receipt_id=receipt_id, body=raw, where=error.where, why=error.why, said=error.said)

    @property
    def reason(self) -> BadPayload:
        """The error from which it was built."""
        return BadPayload(self.where, self.why, self.body, said=self.said)

    @field_validator("receipt_id", mode="before")
    @classmethod
    def _printable(cls, receipt_id: object) -> object:
        # before validation: an id that `Key` would refuse must not keep the receipt from being reported
        if not isinstance(receipt_id, str):
            return receipt_id
        return "".join(character if character.isprintable() else "?" for character in receipt_id[:128]) or None


class SalePage(Frozen):
    """One page of a read.

    `complete_until` (aware) promises that everything changed before it has been yielded, on this page or on those
    before; it is set only where that is true.
    """

    sales: tuple[Sale, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    complete_until: AwareDatetime | None = None
