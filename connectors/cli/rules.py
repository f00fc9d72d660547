"""The rule options of commands, as a `StampRule`.

Owns their spelling; what a rule means is `connectors.domain.stamps`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time

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
    """The rule options of a command as they were typed; `None` leaves a part of the rule as it is."""

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
        """Make the rule of a new connection. Raises `Refusal`."""
        return self.change(account, StampRule())

    def change(self, account: TillAccount, current: StampRule) -> StampRule:
        """Return the rule with what the options say changed, amounts in the account's currency. Raises `Refusal`."""
        values: dict[str, object] = {name: getattr(current, name) for name in StampRule.model_fields}
        if self.rule is not None:
            values |= _kind(self.rule, account.currency)
        if self.minimum is not None:
            values["minimum"] = _money(self.minimum, account.currency)
        if self.multiply:
            values["multipliers"] = tuple(_window(text) for text in self.multiply)
        for name in ("max_per_sale", "max_per_card_per_day", "refunds", "unknown_customer", "hold_days"):
            if (typed := getattr(self, name)) is not None:
                values[name] = typed
        try:
            return StampRule.model_validate(values)
        except ValidationError as error:
            raise Refusal(f"the rule is not understood: {describe_field_errors(error)}") from None


def _kind(text: str, currency: str) -> dict[str, object]:
    """Read `--rule` as the rule's fields; those of the other kinds are emptied. Raises `Refusal`."""
    others: dict[str, object] = {"amount": None, "products": frozenset(), "categories": frozenset()}
    name, _, value = text.partition(":")
    match name:
        case "per-order" if not value:
            return others | {"kind": "per_order"}
        case "amount":
            return others | {"kind": "by_amount", "amount": _money(value, currency)}
        case "items" if value:
            return others | _items(value.split(","))
        case "category" if value:
            return others | _items(f"category:{item.strip().removeprefix('category:')}" for item in value.split(","))
    raise Refusal(f"the rule {text!r} is not understood; write {SPELLING}")


def _items(texts: Iterable[str]) -> dict[str, object]:
    """Part the items of a rule: `category:NAME` is a category, everything else a product."""
    items = [text.strip() for text in texts if text.strip()]
    categories = {item.removeprefix("category:") for item in items if item.startswith("category:")}
    products = {item for item in items if not item.startswith("category:")}
    return {"kind": "per_item", "products": frozenset(products), "categories": frozenset(categories - {""})}


def _money(text: str, currency: str) -> Money:
    try:
        amount = Money.from_decimal(text, currency)
    except ValueError as error:
        raise Refusal(f"{text!r} is not an amount of {currency} ({error}); write it as 10.00") from None
    if amount.minor <= 0:
        raise Refusal(f"{text!r} is not above zero")
    return amount


def _window(text: str) -> Multiplier:
    """Read a window such as `2 sat,sun 08:00-11:00`; days and times may be left out. Raises `Refusal`."""
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise Refusal(f"{text!r} is not understood; write a multiplier as '2 sat,sun 08:00-11:00'")
    times, days, start, end = match.groups()
    try:
        return Multiplier(
            times=int(times),
            days=frozenset(_DAYS.index(day) for day in days.split(",")) if days else frozenset(range(7)),
            start=time.fromisoformat(start.zfill(5)) if start else time(0),
            end=time.fromisoformat(end.zfill(5)) if end else time(0),
        )
    except (ValueError, ValidationError):
        raise Refusal(f"{text!r} is not understood; days are {', '.join(_DAYS)}, times 00:00 to 23:59") from None


def in_words(rule: StampRule) -> str:
    """Word a rule in a line, in the spelling of the options."""
    parts = [_kind_in_words(rule)]
    if rule.minimum is not None:
        parts.append(f"minimum {rule.minimum}")
    parts += [f"times {window.times} in a window" for window in rule.multipliers]
    for name in ("max_per_sale", "max_per_card_per_day"):
        if (most := getattr(rule, name)) is not None:
            parts.append(f"{name.replace('_', ' ')} {most}")
    return ", ".join([*parts, f"refunds {rule.refunds}", f"unknown customers {rule.unknown_customer}"])


def _kind_in_words(rule: StampRule) -> str:
    if rule.kind == "per_order":
        return "per-order"
    if rule.kind == "by_amount":
        return f"amount:{rule.amount}"
    return f"items:{','.join([*sorted(rule.products), *(f'category:{name}' for name in sorted(rule.categories))])}"
