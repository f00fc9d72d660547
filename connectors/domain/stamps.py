"""What a sale earns by a rule, and the arithmetic in words.

Owns the stamp rules; what of it is already planned is `planning`'s.
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
from connector_sdk.sale import Sale, SaleStatus


@dataclass(frozen=True, slots=True)
class Earned:
    """How many stamps, and why as many."""

    stamps: int
    why: Message


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """A rule and from when on (UTC microseconds) receipts closed are planned by it."""

    number: int
    effective_from: int
    rule: StampRule


def rule_in_force(versions: Sequence[RuleVersion], closed_at: int) -> RuleVersion:
    """The version in force at a moment; `versions` are in order of `effective_from`, the first from the beginning."""
    chosen = versions[0]
    for version in versions:
        if version.effective_from <= closed_at:
            chosen = version
    return chosen


def stamps_for(sale: Sale, rule: StampRule, zone: str) -> Earned:
    """Stamps of one sale, in the venue's `zone`; what customers there are does not matter here."""
    if sale.status is SaleStatus.voided:
        return Earned(0, Message("why.voided"))
    if sale.status is SaleStatus.open or sale.closed_at is None:
        return Earned(0, Message("why.open"))
    if sale.gift:
        return Earned(0, Message("why.gift"))
    if sale.paid.minor < 0:  # some tills keep a return as a receipt of its own
        return Earned(0, Message("why.below_zero"))
    for amount in (rule.minimum, rule.amount):
        if amount is not None and amount.currency != sale.paid.currency:
            return Earned(0, Message("why.currency", {"amount": amount}))
    if rule.minimum is not None and sale.paid < rule.minimum:
        return Earned(0, Message("why.minimum", {"minimum": rule.minimum}))
    earned = _by_kind(sale, rule)
    times = _multiplier(rule.multipliers, sale.closed_at.astimezone(ZoneInfo(zone)))
    if earned.stamps and times > 1:
        earned = Earned(
            earned.stamps * times,
            Message("why.times", {"why": earned.why, "times": times, "stamps": earned.stamps * times}),
        )
    if rule.max_per_sale is not None and earned.stamps > rule.max_per_sale:
        return Earned(rule.max_per_sale, Message("why.most", {"why": earned.why, "most": rule.max_per_sale}))
    return earned


def _by_kind(sale: Sale, rule: StampRule) -> Earned:
    keep = rule.refunds is Refunds.keep
    refunded = Money.zero(sale.paid.currency) if keep else sale.refunded
    kept = sale.paid - refunded
    if rule.kind == "per_order":
        if refunded and kept.minor <= 0:
            return Earned(0, Message("why.refunded"))
        return Earned(1, Message("why.per_order"))
    if rule.kind == "by_amount":
        if rule.amount is None:
            raise ValueError("a rule by amount has an amount")
        stamps = max(0, kept // rule.amount)
        if not stamps:
            return Earned(0, Message("why.under", {"kept": kept, "amount": rule.amount}))
        return Earned(stamps, Message("why.by_amount", {"kept": kept, "amount": rule.amount, "stamps": stamps}))
    quantity = sum(
        (
            line.quantity - (Decimal(0) if keep else line.refunded_quantity)
            for line in sale.lines
            if not line.gift and (line.product_id in rule.products or line.category_id in rule.categories)
        ),
        Decimal(0),
    )
    stamps = max(0, int(quantity.to_integral_value(ROUND_FLOOR)))
    return Earned(stamps, Message("why.per_item", {"quantity": f"{quantity.normalize():f}", "stamps": stamps}))


def _multiplier(windows: Sequence[Multiplier], closed: datetime) -> int:
    """The largest multiplier whose window holds the local time."""
    return max((window.times for window in windows if _holds(window, closed)), default=1)


def _holds(window: Multiplier, closed: datetime) -> bool:
    now = closed.time().replace(tzinfo=None)
    if window.start < window.end:
        return closed.weekday() in window.days and window.start <= now < window.end
    yesterday = (closed.weekday() - 1) % 7
    return (closed.weekday() in window.days and now >= window.start) or (yesterday in window.days and now < window.end)
