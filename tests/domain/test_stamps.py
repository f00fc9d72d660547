"""What a receipt earns under each kind of rule, and why, as pure arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Multiplier, Refunds, StampRule
from connector_sdk.sale import Line, Sale, SaleStatus
from connectors.domain.stamps import MOST_GIFTS, RuleVersion, gifts_in, rule_in_force, stamps_for

CLOSED_AT = datetime(2026, 11, 24, 22, 30, tzinfo=UTC)
"""A Tuesday; in Kyiv it is Wednesday already, half past midnight."""
PER_ORDER = StampRule()
BY_AMOUNT = StampRule(kind="by_amount", amount=Money(500, "EUR"))
PER_ITEM = StampRule(kind="per_item", products=frozenset({"latte"}), categories=frozenset({"cakes"}))


def euros(minor: int) -> Money:
    return Money(minor, "EUR")


def sale(paid: int = 1200, refunded: int = 0, **facts: Any) -> Sale:
    usual = {"receipt_id": "1", "status": SaleStatus.closed, "closed_at": CLOSED_AT}
    return Sale(**{**usual, "paid": euros(paid), "refunded": euros(refunded), **facts})


def line(quantity: str, product: str = "latte", category: str | None = None, back: str = "0", **facts: Any) -> Line:
    return Line(
        product_id=product,
        category_id=category,
        quantity=Decimal(quantity),
        refunded_quantity=Decimal(back),
        **facts,
    )


@pytest.mark.parametrize(
    ("rule", "sold", "stamps", "why"),
    [
        (PER_ORDER, sale(), 1, "why.per_order"),
        (PER_ORDER, sale(0), 1, "why.per_order"),
        (PER_ORDER, sale(refunded=1199), 1, "why.per_order"),
        (PER_ORDER, sale(refunded=1200), 0, "why.refunded"),
        (PER_ORDER, sale(1, 1), 0, "why.refunded"),
        (PER_ORDER, sale(refunded=1300), 0, "why.refunded"),
        (PER_ORDER.model_copy(update={"refunds": Refunds.keep}), sale(refunded=1200), 1, "why.per_order"),
        (BY_AMOUNT, sale(499), 0, "why.under"),
        (BY_AMOUNT, sale(500), 1, "why.by_amount"),
        (BY_AMOUNT, sale(1499), 2, "why.by_amount"),
        (BY_AMOUNT, sale(1500, 1), 2, "why.by_amount"),
        (BY_AMOUNT, sale(1500, 1200), 0, "why.under"),
        (BY_AMOUNT, sale(1500, 9000), 0, "why.under"),
        (BY_AMOUNT.model_copy(update={"refunds": Refunds.keep}), sale(1500, 1200), 3, "why.by_amount"),
        (BY_AMOUNT.model_copy(update={"refunds": Refunds.flag}), sale(1500, 1200), 0, "why.under"),
        (PER_ITEM, sale(lines=(line("2"), line("1", "tea"), line("3", "brownie", "cakes"))), 5, "why.per_item"),
        (PER_ITEM, sale(lines=(line("2", back="1"), line("1", gift=True))), 1, "why.per_item"),
        (PER_ITEM, sale(lines=(line("0.7"), line("0.7"))), 1, "why.per_item"),
        (PER_ITEM, sale(lines=(line("1.9"),)), 1, "why.per_item"),
        (PER_ITEM, sale(lines=(line("1", back="2"),)), 0, "why.per_item"),
        (PER_ITEM, sale(), 0, "why.per_item"),
        (
            PER_ITEM.model_copy(update={"refunds": Refunds.keep}),
            sale(lines=(line("2", back="1"),)),
            2,
            "why.per_item",
        ),
        # what gives nothing under any rule
        (PER_ORDER, sale(status=SaleStatus.voided), 0, "why.voided"),
        (PER_ORDER, sale(status=SaleStatus.open), 0, "why.open"),
        (PER_ORDER, sale(status=SaleStatus.open, closed_at=None), 0, "why.open"),
        (PER_ORDER, sale(gift=True), 0, "why.gift"),
        (PER_ORDER, sale(-1), 0, "why.below_zero"),
        # bounds
        (StampRule(minimum=euros(1201)), sale(), 0, "why.minimum"),
        (StampRule(minimum=euros(1200)), sale(), 1, "why.per_order"),
        (StampRule(minimum=Money(1, "USD")), sale(), 0, "why.currency"),
        (StampRule(kind="by_amount", amount=Money(1, "USD")), sale(), 0, "why.currency"),
        (BY_AMOUNT.model_copy(update={"max_per_sale": 2}), sale(1500), 2, "why.most"),
        (BY_AMOUNT.model_copy(update={"max_per_sale": 3}), sale(1500), 3, "why.by_amount"),
    ],
)
def test_a_receipt_earns_what_its_rule_says(rule: StampRule, sold: Sale, stamps: int, why: str) -> None:
    earned = stamps_for(sold, rule, "UTC")
    assert (earned.stamps, earned.why.id) == (stamps, why)


@pytest.mark.parametrize(
    ("rule", "sold", "params"),
    [
        (BY_AMOUNT, sale(1499, 99), {"kept": euros(1400), "amount": euros(500), "stamps": 2}),
        (BY_AMOUNT, sale(99), {"kept": euros(99), "amount": euros(500)}),
        (PER_ITEM, sale(lines=(line("1.50"), line("0.5"))), {"quantity": "2", "stamps": 2}),
        (PER_ITEM, sale(lines=(line("100"),)), {"quantity": "100", "stamps": 100}),
        (StampRule(minimum=euros(2000)), sale(), {"minimum": euros(2000)}),
        (StampRule(minimum=Money(1, "USD")), sale(), {"amount": Money(1, "USD")}),
        (
            BY_AMOUNT.model_copy(update={"max_per_sale": 1}),
            sale(),
            {"why": stamps_for(sale(), BY_AMOUNT, "UTC").why, "most": 1},
        ),
        (
            StampRule(multipliers=(Multiplier(times=3),), max_per_sale=2),
            sale(),
            {
                "why": Message("why.times", {"why": Message("why.per_order"), "times": 3, "stamps": 3}),
                "most": 2,
            },
        ),
    ],
)
def test_why_says_the_numbers_that_were_reckoned_with(rule: StampRule, sold: Sale, params: dict[str, Any]) -> None:
    assert stamps_for(sold, rule, "UTC").why.params == params


def test_a_window_is_on_the_venues_clock_and_of_two_the_larger_counts() -> None:
    late, wednesday = Multiplier(times=2, start=time(22), end=time(23)), Multiplier(times=4, days=frozenset({2}))
    rule = StampRule(multipliers=(late, wednesday))
    assert [stamps_for(sale(), rule, zone).stamps for zone in ("UTC", "Europe/Kyiv", "America/New_York")] == [2, 4, 1]
    assert stamps_for(sale(), StampRule(multipliers=(late, Multiplier(times=3))), "UTC").stamps == 3


def test_nothing_times_two_is_told_as_nothing() -> None:
    earned = stamps_for(sale(499), BY_AMOUNT.model_copy(update={"multipliers": (Multiplier(times=2),)}), "UTC")
    assert (earned.stamps, earned.why.id) == (0, "why.under")


@given(st.integers(-10_000, 100_000), st.integers(0, 100_000), st.integers(1, 9_999), st.integers(1, 40))
def test_by_amount_the_bound_holds_and_less_never_earns_more(paid: int, refunded: int, step: int, most: int) -> None:
    rule = StampRule(kind="by_amount", amount=euros(step), max_per_sale=most)
    stamps = stamps_for(sale(paid, refunded), rule, "UTC").stamps
    assert 0 <= stamps <= most
    assert stamps * step <= max(0, paid - refunded)
    assert stamps == most or max(0, paid - refunded) < (stamps + 1) * step
    assert stamps_for(sale(paid, refunded + 1), rule, "UTC").stamps <= stamps


@pytest.mark.parametrize(
    ("sold", "gifts"),
    [
        (sale(lines=(line("1", gift=True), line("1"), line("1", "tea", gift=True))), 1),
        (sale(lines=(line("3", back="1", gift=True),)), 2),
        (sale(lines=(line("1.9", gift=True), line("0.9", gift=True))), 1),
        (sale(0, lines=(line("1"), line("1", "tea"))), 1),
        (sale(gift=True, lines=(line("2"),)), 2),
        (sale(lines=(line("2"),)), 0),
        (sale(0, status=SaleStatus.open, lines=(line("1"),)), 0),
        (sale(0, status=SaleStatus.voided, lines=(line("1"),)), 0),
        (sale(0, lines=(line("99"),)), MOST_GIFTS),
    ],
)
def test_the_gifts_of_a_receipt_are_the_free_lines_that_the_rule_names(sold: Sale, gifts: int) -> None:
    assert gifts_in(sold, StampRule(gift_products=frozenset({"latte"}))) == gifts
    assert gifts_in(sold, StampRule()) == 0


def test_the_rule_in_force_is_the_last_that_began_and_the_first_holds_before_all() -> None:
    versions = [RuleVersion(number, number * 10, StampRule(max_per_sale=number)) for number in (1, 2, 3)]
    in_force = [rule_in_force(versions, at).number for at in (0, 9, 10, 19, 20, 29, 30, 1000)]
    assert in_force == [1, 1, 1, 1, 2, 2, 3, 3]
