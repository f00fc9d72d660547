"""The sale model: a receipt as the till knows it now, and the pages in which sales are read.

Owns the shapes a connector hands to the host; what a sale earns is the host's.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.money import Money

Key = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An identifier of the till's: text, whatever it looked like on the wire."""


class Frozen(BaseModel):
    """A value that does not change; what it does not know, it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SaleStatus(StrEnum):
    """Not paid yet; paid and closed, also where money was given back since; taken back as if it had never been."""

    open = "open"
    closed = "closed"
    voided = "voided"


class Customer(Frozen):
    """Who bought, by any of four names; empty ones are `None`.

    `number` is the six-digit 7stamp number, `phone` is E.164 (anything else is read with the account's
    country), `till_id` the till's own id, which `Connector.customer` turns into the others.
    """

    number: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] | None = None
    phone: Annotated[str, StringConstraints(min_length=3, max_length=40)] | None = None
    email: Annotated[str, StringConstraints(min_length=3, max_length=254)] | None = None
    till_id: Key | None = None

    def __bool__(self) -> bool:
        return bool(self.number or self.phone or self.email or self.till_id)


class Line(Frozen):
    """One line of a receipt; quantities may be fractional (by weight): see `quantity_of`.

    `gift` marks what was given free: it earns nothing by item.
    """

    product_id: Key
    category_id: Key | None = None
    quantity: Annotated[Decimal, Field(ge=0, max_digits=12)]
    refunded_quantity: Annotated[Decimal, Field(ge=0, max_digits=12)] = Decimal(0)
    gift: bool = False


class Sale(Frozen):
    """A receipt as the till knows it now.

    `version` is the till's own revision or change time (any integer that grows with each change), or `None`
    where the till has none. `paid` is money only: after discounts, without tips, points or certificates.
    `refunded` is all of it that was given back so far, in the same currency. `redeem_codes` are those of vouchers that
    were used. `location_id` is one that `check` lists. `gift` marks a receipt that earns nothing whatever its rule.
    """

    receipt_id: Key
    version: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    status: SaleStatus
    closed_at: AwareDatetime | None = None
    paid: Money
    refunded: Money
    customer: Customer | None = None
    lines: Annotated[tuple[Line, ...], Field(max_length=2000)] = ()
    redeem_codes: Annotated[tuple[Key, ...], Field(max_length=20)] = ()
    location_id: Key | None = None
    gift: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status is SaleStatus.closed and self.closed_at is None:
            raise ValueError("closed_at: a closed sale says when it was closed")
        if self.paid.currency != self.refunded.currency:
            raise ValueError("refunded: not in the currency of what was paid")
        return self


class Unreadable(Frozen):
    """A receipt that could not be mapped: kept whole, while the page goes on.

    Of its id, whatever the till sent, only what can be shown is kept.
    """

    receipt_id: Key | None
    body: bytes
    where: str
    why: str
    said: Message | None = None
    """`why` for a reader's language, where there are words for it."""

    @classmethod
    def of(cls, error: BadPayload, receipt_id: str | None, body: bytes | None = None) -> Self:
        """What could not be mapped, by the error that says so (and of a body that it has not at hand)."""
        kept = body if body is not None else error.body
        return cls(receipt_id=receipt_id, body=kept, where=error.where, why=error.why, said=error.said)

    @property
    def reason(self) -> BadPayload:
        """The error that says why."""
        return BadPayload(self.where, self.why, self.body, said=self.said)

    @field_validator("receipt_id", mode="before")
    @classmethod
    def _can_be_shown(cls, found: object) -> object:
        if not isinstance(found, str):
            return found
        return "".join(sign if sign.isprintable() else "?" for sign in found[:128]) or None


class Checkpoint(Frozen):
    """Where a reading stands.

    `at` promises that everything changed before it has been yielded; `cursor` is the connector's own, to resume within
    one read: the host does not keep it.
    """

    at: AwareDatetime
    cursor: str | None = None


class SalePage(Frozen):
    """Some sales of one read; `checkpoint` is set only where its promise is true."""

    sales: tuple[Sale, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    checkpoint: Checkpoint | None = None
