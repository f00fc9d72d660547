"""The stamp rule that a cafe chose, as values.

Owns the fields of a rule and which of them belong together; `connectors.domain` works out how many stamps a sale earns.
"""

from __future__ import annotations

from datetime import time
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


class Multiplier(Frozen):
    """Give `times` as many stamps on these weekdays (0 = Monday) between two times of the venue's zone.

    A window whose end is not after its start runs past midnight.
    """

    times: Annotated[int, Field(ge=2, le=10)]
    days: frozenset[Annotated[int, Field(ge=0, le=6)]] = frozenset(range(7))
    start: time = time(0)
    end: time = time(0)


class StampRule(Frozen):
    """How a receipt earns stamps: per order, by amount, or per item.

    `amount` belongs to a rule by amount, `products` and `categories` to one per item. The other fields belong to all
    kinds: `minimum` is the least that must be paid, `max_per_sale` and `max_per_card_per_day` count stamps.
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # each text begins with the name of the field: the host shows it beside that field of the form
        if self.kind == "by_amount" and (self.amount is None or self.amount.minor <= 0):
            raise ValueError("amount: a rule by amount needs an amount above zero")
        if self.kind == "per_item" and not (self.products or self.categories):
            raise ValueError("products: a rule per item needs a product or a category")
        return self
