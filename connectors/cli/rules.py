"""The rule options of commands, as a `StampRule`.

Owns their spelling; what a rule means is `connectors.domain.stamps`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time

from pydantic import ValidationError

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import Multiplier, StampRule
from connectors.services import Refusal
from connectors.sync.field_errors import describe_field_errors

_MOST_LOCATIONS_NAMED = 20
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?P<times>\d+)x?(?:\s+(?P<days>(?!from\b|until\b|at\b)[a-z,-]+))?"
    r"(?:\s+(?P<start>\d\d?:\d\d)-(?P<end>\d\d?:\d\d))?"
    r"(?:\s+from\s+(?P<first>[\d-]+))?(?:\s+until\s+(?P<last>[\d-]+))?(?:\s+at\s+(?P<locations>\S+))?",
    re.IGNORECASE,
)
WINDOW_SPELLING = "'2 sat,sun 08:00-11:00 from 2026-12-01 until 2026-12-24 at LOCATION,LOCATION'"
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
    mode: str | None = None
    claim_days: int | None = None
    gift_products: tuple[str, ...] = ()
    dead_codes: str | None = None

    def __bool__(self) -> bool:
        return self != RuleOptions()

    def new(self, account: TillAccount) -> StampRule:
        """Make the rule of a new connection. Raises `Refusal`."""
        # the defaults are the model's, so that they stand in one place
        return self.change(account, StampRule())

    def change(self, account: TillAccount, current: StampRule) -> StampRule:
        """Return the rule with what the options say changed, amounts in the account's currency. Raises `Refusal`."""
        before: dict[str, object] = {name: getattr(current, name) for name in StampRule.model_fields}
        values = before | self._parsed(account) | self._plain()
        # validated as a whole, not copied with an update: what was typed must fit what stays
        try:
            return StampRule.model_validate(values)
        except ValidationError as error:
            raise Refusal(f"the rule is not understood: {describe_field_errors(error)}") from None

    def _parsed(self, account: TillAccount) -> dict[str, object]:
        """Read the options that have a spelling of their own. Raises `Refusal`."""
        currency = account.currency
        values: dict[str, object] = {}
        if self.rule is not None:
            values |= _kind(self.rule, currency)
        if self.minimum is not None:
            values["minimum"] = _money(self.minimum, currency)
        if self.gift_products:  # "none" takes back what an earlier edit named
            values["gift_products"] = frozenset(self.gift_products) - {"none"}
        if self.multiply:
            # "none" takes back what an earlier edit named
            typed = [text for text in self.multiply if text.strip().lower() != "none"]
            values["multipliers"] = tuple(_window(text, account) for text in typed)
        return values

    def _plain(self) -> dict[str, object]:
        """Return the options that the rule's model reads as they are."""
        names = (
            "max_per_sale max_per_card_per_day refunds unknown_customer hold_days mode claim_days dead_codes"
        ).split()
        typed = {name: getattr(self, name) for name in names}
        return {name: value for name, value in typed.items() if value is not None}


def _kind(text: str, currency: str) -> dict[str, object]:
    """Read `--rule` as the rule's fields; those of the other kinds are emptied. Raises `Refusal`."""
    # what belongs to another kind is emptied: a leftover amount would make a rule by items contradict itself
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
            return others | _items(map(_as_category, value.split(",")))
    raise Refusal(f"the rule {text!r} is not understood; write {SPELLING}")


def _as_category(text: str) -> str:
    # after `category:A,B` people write the word again, or do not: both mean two categories
    return f"category:{text.strip().removeprefix('category:')}"


def _items(texts: Iterable[str]) -> dict[str, object]:
    """Part the items of a rule: `category:NAME` is a category, everything else a product."""
    items = {text.strip() for text in texts} - {""}
    products = frozenset(item for item in items if not item.startswith("category:"))
    categories = frozenset(item.removeprefix("category:") for item in items - products)
    return {"kind": "per_item", "products": products, "categories": categories - {""}}


def _money(text: str, currency: str) -> Money:
    try:
        amount = Money.from_decimal(text, currency)
    except ValueError as error:
        raise Refusal(f"{text!r} is not an amount of {currency} ({error}); write it as 10.00") from None
    # an amount of nothing would divide by zero, and a minimum below it would say nothing
    if amount.minor <= 0:
        raise Refusal(f"{text!r} is not above zero")
    return amount


def _window(text: str, account: TillAccount) -> Multiplier:
    """Read a window such as `2 sat,sun 08:00-11:00`; all but the number may be left out. Raises `Refusal`."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise Refusal(f"{text!r} is not understood; write a multiplier as {WINDOW_SPELLING}")
    locations = frozenset((match["locations"] or "").split(",")) - {""}
    if unknown := locations - {location.id for location in account.locations}:
        names = ", ".join(f"{location.id} ({location.name})" for location in account.locations[:_MOST_LOCATIONS_NAMED])
        raise Refusal(f"the till has no location {', '.join(sorted(unknown))}; it has {names or 'none'}")
    try:
        return Multiplier(
            times=int(match["times"]),
            days=_days(match["days"]),
            start=_time(match["start"]),
            end=_time(match["end"]),
            first_day=_date(match["first"]),
            last_day=_date(match["last"]),
            locations=locations,
        )
    except ValidationError as error:
        raise Refusal(f"{text!r} is not understood: {describe_field_errors(error)}") from None
    except ValueError:
        raise Refusal(
            f"{text!r} is not understood; days are {', '.join(_DAYS)}, times 00:00 to 23:59, dates 2026-12-24"
        ) from None


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _days(text: str | None) -> frozenset[int]:
    """Read days as their numbers, Monday 0; every day where none is named. Raises `ValueError`."""
    return frozenset(map(_DAYS.index, text.lower().split(","))) if text else frozenset(range(7))


def _time(text: str | None) -> time:
    """Read a time of the day, midnight where none is named: from midnight to midnight is the whole day."""
    return time.fromisoformat(text.zfill(5)) if text else time(0)  # 8:00 is 08:00


def in_words(rule: StampRule) -> str:
    """Word a rule in a line, in the spelling of the options."""
    parts = [_kind_in_words(rule)]
    if rule.minimum is not None:
        parts.append(f"minimum {rule.minimum}")
    parts += [f"times {window.times} in a window" for window in rule.multipliers]
    parts += _caps_in_words(rule)
    parts += [f"refunds {rule.refunds}", f"unknown customers {rule.unknown_customer}"]
    if rule.mode.has_links:
        parts.append(f"{rule.mode.value.replace('_', ' ')}, {rule.claim_days} days")
    if rule.gift_products:
        parts.append(f"gifts {','.join(sorted(rule.gift_products))}")
    return ", ".join(parts)


def _caps_in_words(rule: StampRule) -> list[str]:
    caps = {"max per sale": rule.max_per_sale, "max per card per day": rule.max_per_card_per_day}
    return [f"{name} {most}" for name, most in caps.items() if most is not None]


def _kind_in_words(rule: StampRule) -> str:
    if rule.kind == "per_order":
        return "per-order"
    if rule.kind == "by_amount":
        return f"amount:{rule.amount}"
    categories = [f"category:{name}" for name in sorted(rule.categories)]
    return f"items:{','.join([*sorted(rule.products), *categories])}"
