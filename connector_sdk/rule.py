"""The stamp rule that a cafe chose, as values: what earns stamps, who gets them, and which gifts use vouchers.

Owns the fields of a rule and which of them belong together; `connectors.domain` works out how many stamps a sale earns.
"""

from __future__ import annotations

import operator
from datetime import date, time
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from connector_sdk.money import Money
from connector_sdk.sale import Frozen, Key


class Refunds(StrEnum):
    """What happens to a receipt's stamps when money is refunded."""

    # take back the stamps that the refunded part earned
    reverse = "reverse"
    # leave the stamps; only a void takes them back
    keep = "keep"
    # plan the reversal and hold it until a person decides
    flag = "flag"


class UnknownCustomer(StrEnum):
    """What happens to the stamps of a customer who has no card."""

    # issue a card to the phone or email of the receipt, and put the stamps on it
    issue = "issue"
    # hold the stamps for `StampRule.hold_days`, in which the customer can get a card
    hold = "hold"
    # give no stamps
    skip = "skip"


class Mode(StrEnum):
    """How a receipt's customer becomes known."""

    # the till names the customer
    identified = "identified"
    # nobody is named at the till: the customer scans the receipt's QR code later
    receipt_qr = "receipt_qr"
    # the till names the customer, and whoever was not named can scan the receipt
    both = "both"

    @property
    def has_links(self) -> bool:
        """Whether receipts without a customer have a link to claim their stamps by."""
        return self is not Mode.identified


class DeadCodes(StrEnum):
    """What a cafe wants done where a gift was given against a code that was used already, has expired or is unknown."""

    # it stands on the receipt's page, and nobody is bothered
    nothing = "nothing"
    # it waits among what needs a person
    flag = "flag"
    # it does, and is in the email about what needs a person
    tell = "tell"


class Multiplier(Frozen):
    """Give `times` as many stamps on these weekdays (0 = Monday) between two times of the venue's zone.

    A window whose end is not after its start runs past midnight. `locations` are ids, all where it is empty;
    `first_day` and `last_day`, both included, are days on which a window may begin.
    """

    times: Annotated[int, Field(ge=2, le=10)]
    days: frozenset[Annotated[int, Field(ge=0, le=6)]] = frozenset(range(7))
    start: time = time(0)
    end: time = time(0)
    # left out of what is stored where they say nothing: a host of the version before reads such a rule too
    locations: Annotated[frozenset[Key], Field(exclude_if=operator.not_)] = frozenset()
    first_day: Annotated[date | None, Field(exclude_if=operator.not_)] = None
    last_day: Annotated[date | None, Field(exclude_if=operator.not_)] = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_day is not None and self.last_day is not None and self.last_day < self.first_day:
            raise ValueError("last_day: a window ends on its first day or later")
        return self


class StampRule(Frozen):
    """How a receipt earns stamps: per order, by amount, or per item.

    `amount` belongs to a rule by amount, `products` and `categories` to one per item. The other fields belong to all
    kinds: `minimum` is the least that must be paid, `max_per_sale` and `max_per_card_per_day` count stamps.

    `mode` says how customers become known, `claim_days` for how long a receipt's link is good. `gift_products` are the
    products that a card's voucher pays for: one that is given free, or that makes up a receipt of nothing, uses the
    voucher of the receipt's card though no redeem code was typed.
    """

    kind: Literal["per_order", "by_amount", "per_item"] = "per_order"
    amount: Money | None = None
    products: frozenset[Key] = frozenset()
    categories: frozenset[Key] = frozenset()
    minimum: Money | None = None
    multipliers: tuple[Multiplier, ...] = ()
    max_per_sale: Annotated[int, Field(ge=1)] | None = None
    max_per_card_per_day: Annotated[int, Field(ge=1)] | None = None
    refunds: Refunds = Refunds.reverse
    unknown_customer: UnknownCustomer = UnknownCustomer.hold
    hold_days: Annotated[int, Field(ge=1, le=365)] = 30
    mode: Mode = Mode.identified
    claim_days: Annotated[int, Field(ge=1, le=90)] = 14
    gift_products: frozenset[Key] = frozenset()
    dead_codes: DeadCodes = DeadCodes.tell

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # each text begins with the name of the field: the host shows it beside that field of the form
        if self.kind == "by_amount" and (self.amount is None or self.amount.minor <= 0):
            raise ValueError("amount: a rule by amount needs an amount above zero")
        if self.kind == "per_item" and not (self.products or self.categories):
            raise ValueError("products: a rule per item needs a product or a category")
        return self
