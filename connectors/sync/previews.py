"""Previews: what a rule would have given, by an account's newest receipts; nothing is stored or sent.

Owns the reading and the forecast; how a receipt earns is `connectors.domain.stamps`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import NotSupported
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus
from connectors.domain.clock import micros
from connectors.domain.rule_windows import weekdays_of
from connectors.domain.stamps import Earned, gifts_in, stamps_for

SHOWN = 20
"""Receipts that a forecast shows one by one."""
_MOST_RECEIPTS = 300
_WINDOWS = (1, 3, 7, 30)
"""Days to read back, one after another until there are enough receipts: a busy cafe has them within the first."""
_PATIENCE = 20.0
"""Seconds that a person waits for the till."""
_DAYS_A_MONTH = 30.4


@dataclass(frozen=True, slots=True)
class RecentReceipts:
    """The newest closed receipts of an account, newest first, and the days in which they were closed.

    `source` says where they are from: the `till` itself, `hooks` that arrived here, or `nothing`.
    """

    sales: tuple[Sale, ...]
    days: float
    source: str
    read_at: int = 0
    """When that was so (UTC microseconds)."""


class ForecastReceipt(NamedTuple):
    """A receipt, and what a rule would have given for it (if it has a customer)."""

    sale: Sale
    earned: Earned
    gifts: int
    """Vouchers of its customer's card that it would have used without their codes."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rule would have made of some receipts.

    `shown` are the newest with what each would have earned; of those `nobody` had no customer attached, and the
    others would have earned `stamps`. `a_month` are card operations, by all that were read.
    """

    shown: tuple[ForecastReceipt, ...]
    stamps: int
    nobody: int
    a_month: int
    source: str


async def read_recent(till: Connector[BaseModel], now: datetime) -> RecentReceipts:
    """Read back a day, or more until there are enough receipts. Raises `ConnectorError`."""
    if not (till.can("history") or till.can("poll")):
        return RecentReceipts((), 0, "nothing")
    sales: dict[str, Sale] = {}
    try:
        async with asyncio.timeout(_PATIENCE):
            for days in _WINDOWS:
                sales = await _read_closed(till, now - timedelta(days=days))
                if len(sales) >= SHOWN:
                    break
    except (TimeoutError, NotSupported):
        pass  # what a smaller window brought is better than nothing
    return recent_of(list(sales.values()), now, "till")


async def _read_closed(till: Connector[BaseModel], since: datetime) -> dict[str, Sale]:
    """Read the receipts closed since a moment, by id: of one that comes twice, the later state counts."""
    sales: dict[str, Sale] = {}
    async for page in till.history(since):
        for sale in page.sales:
            if sale.status is SaleStatus.closed and sale.closed_at is not None and sale.closed_at >= since:
                sales[sale.receipt_id] = sale
    return sales


def recent_of(sales: Sequence[Sale], now: datetime, source: str) -> RecentReceipts:
    """Choose the newest closed ones of some receipts."""
    closed = [sale for sale in sales if sale.closed_at is not None and sale.status is SaleStatus.closed]
    newest = sorted(closed, key=lambda sale: (sale.closed_at or now, sale.receipt_id), reverse=True)[:_MOST_RECEIPTS]
    if not newest:
        # a till that was read and has none says something; hooks that never came do not
        return RecentReceipts((), 0, "nothing" if source != "till" else source, micros(now))
    oldest = newest[-1].closed_at or now
    # a few receipts of the last hour would promise hundreds of operations a month
    days = max((now - oldest).total_seconds() / 86400, 1.0)
    return RecentReceipts(tuple(newest), days, source, micros(now))


def card_operations(sale: Sale, earned: Earned) -> int:
    """Count the card operations that a receipt uses: its stamps are one, each voucher another."""
    return int(bool(sale.customer and earned.stamps)) + len(sale.redeem_codes)


class WeekForecast(NamedTuple):
    """What the receipts of some days would have earned by the rule in force, and by the one that is chosen."""

    first: str
    """The first of the days, as `2026-11-23`."""
    last: str
    receipts: int
    before: int
    after: int
    is_part: bool
    """Whether the days had more receipts than were counted."""
    is_early: bool
    """Whether a rule has windows that begin later, and are counted as if they had begun."""


def forecast_week(
    sales: Sequence[Sale],
    rules: tuple[StampRule, StampRule],
    account: TillAccount,
    scope: tuple[str, ...],
    days: Sequence[str],
    *,
    is_part: bool,
) -> WeekForecast:
    """Work out what the closed receipts of some days with a customer would have earned by either rule.

    What begins after those days counts as if it had begun: of a promotion of December, November shows what it gives.
    """
    last = date.fromisoformat(days[-1])
    begun = tuple(_as_if_begun(rule, last) for rule in rules)
    counted = [
        sale
        for sale in sales
        if sale.status is SaleStatus.closed and sale.customer and (not scope or sale.location_id in scope)
    ]

    def stamps(rule: StampRule) -> int:
        return sum(stamps_for(sale, rule, account.zone_of(sale.location_id)).stamps for sale in counted)

    before, after = map(stamps, begun)
    return WeekForecast(days[0], days[-1], len(counted), before, after, is_part, is_early=begun != rules)


def _as_if_begun(rule: StampRule, last: date) -> StampRule:
    """Return a rule whose windows that begin after a day apply in every week, on the weekdays that they will have."""
    windows = [
        window.model_copy(update={"first_day": None, "last_day": None, "days": weekdays_of(window)})
        if window.first_day is not None and window.first_day > last
        else window
        for window in rule.multipliers
    ]
    return rule.model_copy(update={"multipliers": tuple(windows)})


def forecast(recent: RecentReceipts, rule: StampRule, account: TillAccount, scope: tuple[str, ...]) -> Forecast:
    """Work out what the rule would have given, at the locations of a scope (all, where it is empty)."""
    receipts = [
        ForecastReceipt(
            sale,
            stamps_for(sale, rule, account.zone_of(sale.location_id)),
            max(0, gifts_in(sale, rule) - len(sale.redeem_codes)) if sale.customer else 0,
        )
        for sale in recent.sales
        if not scope or sale.location_id in scope
    ]
    shown = tuple(receipts[:SHOWN])
    operations = sum(card_operations(receipt.sale, receipt.earned) + receipt.gifts for receipt in receipts)
    return Forecast(
        shown,
        stamps=sum(receipt.earned.stamps for receipt in shown if receipt.sale.customer),
        nobody=sum(not receipt.sale.customer for receipt in shown),
        a_month=round(operations / recent.days * _DAYS_A_MONTH) if recent.days else 0,
        source=recent.source,
    )
