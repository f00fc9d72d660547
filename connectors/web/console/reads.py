"""What previews need of tills: newest receipts and menu, read once while somebody chooses a rule.

Owns the memory and its bounds; the reading is the desk's.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ValidationError

from connector_sdk.connector import MenuItem, TillAccount
from connector_sdk.sale import Sale
from connectors.domain.connection import Connection
from connectors.services import Refusal, Services
from connectors.sync.previews import RecentReceipts

_KEEP = 600.0
_LET_BE = 20.0  # a till that could not be read is not asked again at every key that is pressed
_AT_MOST = 200

Found = tuple[RecentReceipts, list[MenuItem]]


class TillReads:
    """Readings by what they are for, each made once however many ask at the same time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, asyncio.Task[Found]]] = OrderedDict()
        self._read: OrderedDict[str, tuple[float, list[Sale]]] = OrderedDict()

    async def remembered(self, key: str, read: Callable[[], Awaitable[list[Sale]]]) -> list[Sale]:
        """Receipts that are read from what is here already, read once and beside what else goes on."""
        until, sales = self._read.get(key, (0.0, []))
        if until < time.monotonic():
            sales = await read()
            self._read[key] = (time.monotonic() + _KEEP, sales)
            while len(self._read) > _AT_MOST:
                self._read.popitem(last=False)
        return sales

    async def of(
        self, services: Services, key: str, name: str, values: Mapping[str, Any], account: TillAccount
    ) -> Found:
        """For a draft."""
        return await self._once(
            key, lambda: services.sync.recent_receipts(name, values, account), services, name, values, account
        )

    async def of_connection(self, services: Services, one: Connection) -> Found:
        """For a connection; its receipts may have come by themselves."""
        values = services.connections.settings_of(one)
        key = f"{one.id} {one.generation}"
        return await self._once(
            key, lambda: services.sync.recent_receipts_of(one), services, one.connector, values, one.account
        )

    async def _once(
        self, key: str, recent: Any, services: Services, name: str, values: Mapping[str, Any], account: TillAccount
    ) -> Found:
        now = time.monotonic()
        until, reading = self._kept.get(key, (0.0, None))
        if reading is None or (reading.done() and (until < now or reading.cancelled() or reading.exception())):
            reading = asyncio.create_task(_read(recent, services, name, values, account))
            self._kept[key] = (now + _KEEP, reading)
            while len(self._kept) > _AT_MOST:
                self._kept.popitem(last=False)
        found = await asyncio.shield(reading)
        if found[0].source == "unread" and key in self._kept:
            self._kept[key] = (min(self._kept[key][0], now + _LET_BE), reading)
        return found


async def _read(recent: Any, services: Services, name: str, values: Mapping[str, Any], account: TillAccount) -> Found:
    try:
        return await recent(), await services.checks.read_menu(name, values, account)
    except (Refusal, ValidationError):
        return RecentReceipts((), 0, "unread"), []
