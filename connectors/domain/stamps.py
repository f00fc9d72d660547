"""Stamp rules: the stamps that a sale earns, and why as many.

Owns the arithmetic, as pure functions; what of it is already planned is `planning`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from zoneinfo import ZoneInfo

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Multiplier, Refunds, StampRule
from connector_sdk.sale import Line, Sale, SaleStatus
from connectors.domain.rule_windows import covers


@dataclass(frozen=True, slots=True)
class Earned:
    """The stamps that a sale earns, and why as many (or none)."""

    stamps: int
    why: Message


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A rule, and the moment (UTC microseconds) from which on receipts that are closed are planned by it."""

    number: int
    effective_from: int
    rule: StampRule


def rule_in_force(versions: Sequence[RuleVersion], closed_at: int) -> RuleVersion:
    """Return the version in force at a moment (UTC microseconds).

    `versions` are in order of `effective_from`; the first holds from the beginning of time.
    """
    in_force = versions[0]  # receipts from before the connection, which a backfill brings, have a rule too
    for version in versions:
        if version.effective_from <= closed_at:
            in_force = version
    return in_force


MOST_GIFTS = 20
"""Vouchers that a receipt can use without their codes."""


def gifts_in(sale: Sale, rule: StampRule) -> int:
    """Count the gifts of a receipt that a card's vouchers pay for: free lines of the products that the rule names.

    On a receipt for which nothing was paid, every line is free.
    """
    if not rule.gift_products or sale.status is not SaleStatus.closed:
        return 0
    is_free = sale.gift or not sale.paid
    kept = (
        line.quantity - line.refunded_quantity
        for line in sale.lines
        if line.product_id in rule.gift_products and (line.gift or is_free)
    )
    return min(MOST_GIFTS, sum(int(quantity.to_integral_value(ROUND_FLOOR)) for quantity in kept))


def stamps_for(sale: Sale, rule: StampRule, zone: str) -> Earned:
    """Work out the stamps of one sale by a rule, whoever its customer is.

    `zone` is the venue's: the windows of multipliers are on its clock.
    """
    # first what gives nothing under any rule; then what the rule counts, times the window; the bound comes last
    reason = _why_nothing(sale, rule)
    if reason is not None:
        return Earned(0, reason)
    return _capped(_multiplied(_by_kind(sale, rule), sale, rule, zone), rule)


def _why_nothing(sale: Sale, rule: StampRule) -> Message | None:
    """Say why a sale earns nothing whatever the rule counts; the first reason that fits, `None` where none does."""
    if sale.status is SaleStatus.voided:
        return Message("why.voided")
    if sale.status is SaleStatus.open or sale.closed_at is None:
        return Message("why.open")
    if sale.gift:
        return Message("why.gift")
    if sale.paid.minor < 0:  # some tills record a return as a receipt of its own
        return Message("why.below_zero")
    return _why_below_minimum(sale, rule)


def _why_below_minimum(sale: Sale, rule: StampRule) -> Message | None:
    # amounts of two currencies cannot be compared, so this comes before any comparison
    for amount in (rule.minimum, rule.amount):
        if amount is not None and amount.currency != sale.paid.currency:
            return Message("why.currency", {"amount": amount})
    if rule.minimum is not None and sale.paid < rule.minimum:
        return Message("why.minimum", {"minimum": rule.minimum})
    return None


def _multiplied(earned: Earned, sale: Sale, rule: StampRule, zone: str) -> Earned:
    """Multiply what was earned, where the sale was closed in the window of a multiplier."""
    if sale.closed_at is None or not earned.stamps:
        return earned
    times = _multiplier(rule.multipliers, sale.closed_at.astimezone(ZoneInfo(zone)), sale.location_id)
    if times <= 1:
        return earned
    stamps = earned.stamps * times
    return Earned(stamps, Message("why.times", {"why": earned.why, "times": times, "stamps": stamps}))


def _capped(earned: Earned, rule: StampRule) -> Earned:
    """Bound what was earned by the most that the rule gives for one sale."""
    if rule.max_per_sale is None or earned.stamps <= rule.max_per_sale:
        return earned
    return Earned(rule.max_per_sale, Message("why.most", {"why": earned.why, "most": rule.max_per_sale}))


def _by_kind(sale: Sale, rule: StampRule) -> Earned:
    """Count what the rule's kind counts: the order, its amount, or its items."""
    match rule.kind:
        case "per_order":
            return _per_order(sale, rule)
        case "by_amount":
            return _by_amount(sale, rule)
        case "per_item":
            return _per_item(sale, rule)


def _refunded(sale: Sale, rule: StampRule) -> Money:
    """Return what counts as refunded: nothing, where the rule lets customers keep their stamps."""
    return Money.zero(sale.paid.currency) if rule.refunds is Refunds.keep else sale.refunded


def _per_order(sale: Sale, rule: StampRule) -> Earned:
    refunded = _refunded(sale, rule)
    # an order of nothing earns its stamp; one of which nothing is left does not
    if refunded and (sale.paid - refunded).minor <= 0:
        return Earned(0, Message("why.refunded"))
    return Earned(1, Message("why.per_order"))


def _by_amount(sale: Sale, rule: StampRule) -> Earned:
    if rule.amount is None:
        raise ValueError("a rule by amount has an amount")
    remaining = sale.paid - _refunded(sale, rule)
    params: dict[str, object] = {"kept": remaining, "amount": rule.amount}
    stamps = max(0, remaining // rule.amount)
    if not stamps:
        return Earned(0, Message("why.under", params))
    return Earned(stamps, Message("why.by_amount", {**params, "stamps": stamps}))


def _per_item(sale: Sale, rule: StampRule) -> Earned:
    quantity = sum((_remaining_quantity(line, rule) for line in sale.lines if _counts(line, rule)), Decimal(0))
    # items sold by weight have fractions: only whole ones earn
    stamps = max(0, int(quantity.to_integral_value(ROUND_FLOOR)))
    return Earned(stamps, Message("why.per_item", {"quantity": f"{quantity.normalize():f}", "stamps": stamps}))


def _counts(line: Line, rule: StampRule) -> bool:
    """Say whether the rule names a line's product or category; a gift earns nothing."""
    return not line.gift and (line.product_id in rule.products or line.category_id in rule.categories)


def _remaining_quantity(line: Line, rule: StampRule) -> Decimal:
    return line.quantity if rule.refunds is Refunds.keep else line.quantity - line.refunded_quantity


def _multiplier(windows: Sequence[Multiplier], closed: datetime, location_id: str | None) -> int:
    """Return the largest multiplier whose window holds the local time at the location, 1 where none does."""
    # windows may overlap: the customer gets the better one, not both
    return max((window.times for window in windows if covers(window, closed, location_id)), default=1)
