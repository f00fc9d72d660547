"""The rule options of commands, as a `StampRule`.

Owns their spelling; what a rule means is `connectors.domain.stamps`'.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from typing import Any

from pydantic import ValidationError

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import Multiplier, StampRule
from connectors.services import Refusal
from connectors.sync.field_errors import describe_field_errors

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(\d+)x?(?:\s+([a-z,-]+))?(?:\s+(\d\d?:\d\d)-(\d\d?:\d\d))?")
SPELLING = "per-order, amount:10.00, or items:Cappuccino,162 (names or ids), with categories as category:Coffee"


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What was said on the command line; `None` leaves a part as it is."""

    rule: str | None = None
    minimum: str | None = None
    multiply: tuple[str, ...] = ()
    max_per_sale: int | None = None
    max_per_card_per_day: int | None = None
    refunds: str | None = None
    unknown_customer: str | None = None
    hold_days: int | None = None

    def __bool__(self) -> bool:
        return self != RuleOptions()

    def new(self, account: TillAccount) -> StampRule:
        return self.change(account, StampRule())

    def change(self, account: TillAccount, current: StampRule) -> StampRule:
        """The rule with what was said changed. Raises `Refusal`."""
        values: dict[str, Any] = {name: getattr(current, name) for name in StampRule.model_fields}
        if self.rule is not None:
            values |= _kind(self.rule, account.currency)
        if self.minimum is not None:
            values["minimum"] = _money(self.minimum, account.currency)
        if self.multiply:
            values["multipliers"] = tuple(_window(one) for one in self.multiply)
        for name in ("max_per_sale", "max_per_card_per_day", "refunds", "unknown_customer", "hold_days"):
            if (given := getattr(self, name)) is not None:
                values[name] = given
        try:
            return StampRule.model_validate(values)
        except ValidationError as error:
            raise Refusal(f"the rule is not understood: {describe_field_errors(error)}") from None


def _kind(text: str, currency: str) -> dict[str, Any]:
    none: dict[str, Any] = {"amount": None, "products": frozenset(), "categories": frozenset()}
    name, _, value = text.partition(":")
    match name:
        case "per-order" if not value:
            return none | {"kind": "per_order"}
        case "amount":
            return none | {"kind": "by_amount", "amount": _money(value, currency)}
        case "items" | "category" if value:
            items = [one.strip() for one in value.split(",") if one.strip()]
            if name == "category":
                items = [f"category:{one.removeprefix('category:')}" for one in items]
            categories = {one.removeprefix("category:") for one in items if one.startswith("category:")}
            products = {one for one in items if not one.startswith("category:")}
            return none | {"kind": "per_item", "products": frozenset(products), "categories": frozenset(categories)}
    raise Refusal(f"the rule {text!r} is not understood; write {SPELLING}")


def _money(text: str, currency: str) -> Money:
    try:
        amount = Money.from_decimal(text, currency)
    except ValueError as error:
        raise Refusal(f"{text!r} is not an amount of {currency} ({error}); write it as 10.00") from None
    if amount.minor <= 0:
        raise Refusal(f"{text!r} is not above zero")
    return amount


def _window(text: str) -> Multiplier:
    """`2 sat,sun 08:00-11:00`: days and times may be left out."""
    found = _WINDOW.fullmatch(text.strip().lower())
    if found is None:
        raise Refusal(f"{text!r} is not understood; write a multiplier as '2 sat,sun 08:00-11:00'")
    times, days, start, end = found.groups()
    try:
        return Multiplier(
            times=int(times),
            days=frozenset(_DAYS.index(one) for one in days.split(",")) if days else frozenset(range(7)),
            start=time.fromisoformat(start.zfill(5)) if start else time(0),
            end=time.fromisoformat(end.zfill(5)) if end else time(0),
        )
    except (ValueError, ValidationError):
        raise Refusal(f"{text!r} is not understood; days are {', '.join(_DAYS)}, times 00:00 to 23:59") from None


def in_words(rule: StampRule) -> str:
    """A rule in a line, in the spelling of the options."""
    match rule.kind:
        case "per_order":
            said = ["per-order"]
        case "by_amount":
            said = [f"amount:{rule.amount}"]
        case _:
            items = [*sorted(rule.products), *(f"category:{one}" for one in sorted(rule.categories))]
            said = [f"items:{','.join(items)}"]
    if rule.minimum is not None:
        said.append(f"minimum {rule.minimum}")
    said += [f"times {window.times} in a window" for window in rule.multipliers]
    for name in ("max_per_sale", "max_per_card_per_day"):
        if (most := getattr(rule, name)) is not None:
            said.append(f"{name.replace('_', ' ')} {most}")
    return ", ".join([*said, f"refunds {rule.refunds}", f"unknown customers {rule.unknown_customer}"])
