"""A stamp rule as a form: the choices that a cafe has, read into a rule or told beside which field they are wrong.

Owns the fields of the form and their first checks; what a rule gives is `connectors.domain.stamps`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import DeadCodes, Mode, Refunds, StampRule, UnknownCustomer
from connectors.sync.field_errors import reason_of
from connectors.web.console.posted_form import PostedForm
from connectors.web.console.typed_amounts import parse_amount
from connectors.web.console.visit import Visit
from connectors.web.console.window_form import WindowReader, window_values

_KINDS = ("per_order", "by_amount", "per_item")
_MOST_HOLD_DAYS, _MOST_CLAIM_DAYS = 365, 90
_MOST_STAMPS = 1000
_ID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class RuleChoice:
    """A rule as chosen in a form, or the rule before with what is wrong with each field."""

    rule: StampRule
    errors: Mapping[str, Message]

    def worded(self, visit: Visit) -> dict[str, str]:
        """Return the errors in the reader's language."""
        return {name: visit.localizer.sentence(message) for name, message in self.errors.items()}


def rule_values(rule: StampRule) -> dict[str, list[str]]:
    """Return a rule as the form's values."""
    values: dict[str, list[str]] = {
        "kind": [rule.kind],
        "amount": [rule.amount.decimal if rule.amount else ""],
        "minimum": [rule.minimum.decimal if rule.minimum else ""],
        "products": sorted(rule.products),
        "categories": sorted(rule.categories),
        "refunds": [rule.refunds.value],
        "unknown_customer": [rule.unknown_customer.value],
        "hold_days": [str(rule.hold_days)],
        "mode": [rule.mode.value],
        "claim_days": [str(rule.claim_days)],
        "gift_products": sorted(rule.gift_products),
        "dead_codes": [rule.dead_codes.value],
        "max_per_sale": [str(rule.max_per_sale or "")],
        "max_per_card_per_day": [str(rule.max_per_card_per_day or "")],
    }
    return values | window_values(rule.multipliers)


def like_rule(rule: StampRule, account: TillAccount) -> StampRule | None:
    """Return a rule of another till for this account, without what only that till knows; `None` where nothing is left.

    Products and locations have other ids here, and amounts another meaning in another currency.
    """
    amounts = [amount for amount in (rule.amount, rule.minimum) if amount is not None]
    if rule.kind == "per_item" or any(amount.currency != account.currency for amount in amounts):
        return None
    windows = tuple(window for window in rule.multipliers if not window.locations)
    return rule.model_copy(update={"multipliers": windows, "gift_products": frozenset()})


def chosen_values(form: PostedForm) -> dict[str, list[str]]:
    """Return what was chosen of a rule, for coming back to it: all fields but those that are for the console."""
    return {name: values for name, values in form.values.items() if name not in ("proof", "kept")}


def rule_from(form: PostedForm, account: TillAccount, current: StampRule) -> RuleChoice:
    """Read the rule that a form chose; parts that the form does not show stay as they are in `current`."""
    return _RuleReader(form, account, current).read()


@dataclass(slots=True)
class _RuleReader:
    """Reads one form field by field, and gathers what is wrong."""

    form: PostedForm
    account: TillAccount
    current: StampRule
    errors: dict[str, Message] = field(default_factory=dict)

    def read(self) -> RuleChoice:
        # a browser sends one of these; whatever else comes is taken for the simplest rule
        kind = self.form.get("kind") if self.form.get("kind") in _KINDS else "per_order"
        values: dict[str, object] = {name: getattr(self.current, name) for name in StampRule.model_fields}
        # what belongs to another kind of rule is emptied: the model refuses an amount in a rule per order
        values |= {"kind": kind, "amount": None, "products": frozenset(), "categories": frozenset()}
        if kind == "by_amount":
            values["amount"] = self._amount()
        if kind == "per_item":
            values |= {"products": self._ids("products"), "categories": self._ids("categories")}
            self._require_items(values)
        values["minimum"] = self._money("minimum")
        values |= self._policies()
        values["hold_days"] = self._days("hold_days", self.current.hold_days, _MOST_HOLD_DAYS)
        values["claim_days"] = self._days("claim_days", self.current.claim_days, _MOST_CLAIM_DAYS)
        for name in ("max_per_sale", "max_per_card_per_day"):
            values[name] = self._most(name)
        if "windows" in self.form.values:
            windows = WindowReader(self.form, self.account, self.current.multipliers)
            values["multipliers"] = windows.read()
            self.errors |= windows.errors
        if "mode" in self.form.values:  # a form without this part leaves the gifts as they are
            values["gift_products"] = self._ids("gift_products")
        # with the first errors told, the model is not asked: its reasons would be about the same fields
        return RuleChoice(self.current, self.errors) if self.errors else self._validate(values)

    def _amount(self) -> Money | None:
        amount = self._money("amount")
        if amount is None:
            self.errors.setdefault("amount", Message("write how much makes one stamp, as in 10.00"))
        return amount

    def _money(self, name: str) -> Money | None:
        text = self.form.get(name)
        if not text.strip():
            return None
        # read as people write amounts, as in the search: 12,50 and 12.50 are one
        minor = parse_amount(text, self.account.currency)
        if minor is None or minor <= 0:
            is_amount = minor is not None or parse_amount(text.strip().lstrip("-−"), self.account.currency) is not None
            self.errors[name] = Message(
                "this must be more than nothing: write it as 10.00"
                if is_amount
                else "this is no amount: write it as 10.00"
            )
            return None
        return Money(minor, self.account.currency)

    def _ids(self, name: str) -> frozenset[str]:
        return frozenset(item_id[:_ID_LENGTH] for item_id in self.form.all(name) if item_id)

    def _require_items(self, values: Mapping[str, object]) -> None:
        if not values["products"] and not values["categories"]:
            self.errors["products"] = Message("choose at least one drink, dish or category")

    def _policies(self) -> dict[str, object]:
        """Return what happens with refunds and with customers without a card, where the form says it."""
        # what is no choice of the form changes nothing: the current rule stands
        policies: dict[str, object] = {}
        if (refunds := self.form.get("refunds")) in set(Refunds):
            policies["refunds"] = Refunds(refunds)
        if (mode := self.form.get("mode")) in set(Mode):
            policies["mode"] = Mode(mode)
        if (dead_codes := self.form.get("dead_codes")) in set(DeadCodes):
            policies["dead_codes"] = DeadCodes(dead_codes)
        if (unknown_customer := self.form.get("unknown_customer")) in set(UnknownCustomer):
            policies["unknown_customer"] = UnknownCustomer(unknown_customer)
        return policies

    def _most(self, name: str) -> int | None:
        """Read the most stamps of something: none where the field is empty, as it is where the form lacks it."""
        current: int | None = getattr(self.current, name)
        typed = str(current or "")
        most = self.form.get(name, typed).strip()
        if most == typed:  # also one that a command set, and that is more than the form takes
            return current
        if not most:
            return None
        if most.isascii() and most.isdigit() and len(most) <= 6 and 1 <= int(most) <= _MOST_STAMPS:
            return int(most)
        self.errors[name] = Message(
            "write a number of stamps from 1 to {most}, or leave it empty", {"most": _MOST_STAMPS}
        )
        return None

    def _days(self, name: str, current: int, most: int) -> int:
        days = self.form.get(name, str(current)).strip()
        # `isdigit` takes digits of every script and int() an endless text: both are bounded first
        if days.isascii() and days.isdigit() and len(days) <= 6 and 1 <= int(days) <= most:
            return int(days)
        self.errors[name] = Message("write a number of days from 1 to {most}", {"most": most})
        return current

    def _validate(self, values: Mapping[str, object]) -> RuleChoice:
        try:
            return RuleChoice(StampRule.model_validate(values), {})
        except ValidationError as error:
            errors = {
                str(detail["loc"][0]) if detail["loc"] else "kind": Message(reason_of(detail))
                for detail in error.errors()
            }
            return RuleChoice(self.current, errors)
