"""What a rule would have given: a till account's newest receipts, read back and counted, nothing stored or sent.

Owns the reading and the forecast; how a receipt earns is `connectors.domain.stamps`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connector_sdk.connector import Connector
from connector_sdk.errors import NotSupported
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus
from connectors.domain.stamps import Earned, stamps_for

SHOWN = 20
_MOST = 300
_WINDOWS = (1, 3, 7, 30)  # days, until there are enough receipts
_PATIENCE = 20.0
_MONTH = 30.4


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest closed receipts of an account, newest first, and the days in which they were closed.

    `source` says where they are from: the `till` itself, `hooks` that arrived here, or `nothing`.
    """

    sales: tuple[Sale, ...]
    days: float
    source: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rule would have made of some receipts.

    `shown` are the newest with what each would have earned; of those `nobody` had no customer attached, and the
    others would have earned `stamps`. `a_month` are card operations, by all that were read.
    """

    shown: tuple[tuple[Sale, Earned], ...]
    stamps: int
    nobody: int
    a_month: int
    source: str


async def read_recent(till: Connector[Any], now: datetime) -> Recent:
    """Read back a day, or more until there are enough receipts. Raises `ConnectorError`."""
    if not (till.can("look_back") or till.can("poll")):
        return Recent((), 0, "nothing")
    sales: dict[str, Sale] = {}
    try:
        async with asyncio.timeout(_PATIENCE):
            for days in _WINDOWS:
                sales = await _read(till, now - timedelta(days=days))
                if len(sales) >= SHOWN:
                    break
    except (TimeoutError, NotSupported):
        pass  # what was read before is better than nothing
    return recent_of(list(sales.values()), now, "till")


async def _read(till: Connector[Any], since: datetime) -> dict[str, Sale]:
    sales: dict[str, Sale] = {}
    async for page in till.look_back(since):
        for sale in page.sales:
            if sale.status is SaleStatus.closed and sale.closed_at is not None and sale.closed_at >= since:
                sales[sale.receipt_id] = sale
    return sales


def recent_of(sales: Sequence[Sale], now: datetime, source: str) -> Recent:
    """The newest of these."""
    closed = [sale for sale in sales if sale.closed_at is not None and sale.status is SaleStatus.closed]
    newest = sorted(closed, key=lambda sale: (sale.closed_at or now, sale.receipt_id), reverse=True)[:_MOST]
    if not newest:
        return Recent((), 0, "nothing" if source != "till" else source)
    first = newest[-1].closed_at or now
    return Recent(tuple(newest), max((now - first).total_seconds() / 86400, 1.0), source)


def card_operations(sale: Sale, earned: Earned) -> int:
    """How many card operations a receipt uses: its stamps are one, each voucher another."""
    return int(bool(sale.customer and earned.stamps)) + len(sale.redeem_codes)


def forecast(recent: Recent, rule: StampRule, zone: str, scope: tuple[str, ...]) -> Forecast:
    """What the rule would have given, at the locations of a scope (all, where it is empty)."""
    sales = [sale for sale in recent.sales if not scope or sale.location_id in scope]
    earned = [(sale, stamps_for(sale, rule, zone)) for sale in sales]
    shown = tuple(earned[:SHOWN])
    operations = sum(card_operations(sale, one) for sale, one in earned)
    return Forecast(
        shown,
        stamps=sum(one.stamps for sale, one in shown if sale.customer),
        nobody=sum(not sale.customer for sale, _ in shown),
        a_month=round(operations / recent.days * _MONTH) if recent.days else 0,
        source=recent.source,
    )
