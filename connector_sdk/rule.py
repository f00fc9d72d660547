"""A stamp rule as values: what a cafe chose. How many stamps it gives is `connectors.domain`'s."""

from __future__ import annotations

from datetime import time
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from connector_sdk.money import Money
from connector_sdk.sale import Frozen, Key


class Refunds(StrEnum):
    """What a refund does: take stamps back, leave them, or leave the decision to a person."""

    reverse = "reverse"
    keep = "keep"
    flag = "flag"


class UnknownCustomer(StrEnum):
    """What a customer without a card gets: a card, time to get one, or nothing."""

    issue = "issue"
    hold = "hold"
    skip = "skip"


class Multiplier(Frozen):
    """`times` as many stamps on these weekdays (0 = Monday) between two times of the venue's zone.

    A window whose end is not after its start runs past midnight.
    """

    times: Annotated[int, Field(ge=2, le=10)]
    days: frozenset[Annotated[int, Field(ge=0, le=6)]] = frozenset(range(7))
    start: time = time(0)
    end: time = time(0)


class StampRule(Frozen):
    """How a receipt earns stamps. Exactly one kind: per order, by amount, or per item."""

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
        if self.kind == "by_amount" and (self.amount is None or self.amount.minor <= 0):
            raise ValueError("amount: a rule by amount needs an amount above zero")
        if self.kind == "per_item" and not (self.products or self.categories):
            raise ValueError("products: a rule per item needs a product or a category")
        return self
